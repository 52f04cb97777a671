"""Fixtures of the fault scenarios."""

from __future__ import annotations

import pytest

from support.faults.trial import Trials


@pytest.fixture(scope="session")
def trials() -> Trials:
    return Trials()
