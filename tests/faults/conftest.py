"""Fixtures of the fault scenarios. FAULT_SEED: where chance begins; the same seed makes the same faults."""

from __future__ import annotations

import os

import pytest

from support.faults.trial import Trials


@pytest.fixture(scope="session")
def trials() -> Trials:
    return Trials()


@pytest.fixture(scope="session")
def seed() -> int:
    return int(os.environ.get("FAULT_SEED", "0"))
