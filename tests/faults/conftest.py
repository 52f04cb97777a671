"""Fixtures of the fault scenarios."""

from __future__ import annotations

import pytest

from support.faults.trial import Trials
from support.seed import SEED


@pytest.fixture(scope="session")
def trials() -> Trials:
    return Trials()


@pytest.fixture(scope="session")
def seed() -> int:
    return SEED
