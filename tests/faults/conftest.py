"""Fixtures of the fault scenarios."""

from __future__ import annotations

import pytest

from support.faults.scenario_runs import ScenarioRuns
from support.seed import SEED


@pytest.fixture(scope="session")
def runs() -> ScenarioRuns:
    return ScenarioRuns()


@pytest.fixture(scope="session")
def seed() -> int:
    return SEED
