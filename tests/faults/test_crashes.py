"""Whatever write of a scenario the operator dies at, the end is the same, and nothing ran twice.

Method: Sieve (Sun et al., OSDI 2022), every write instead of a sample.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slipway.api.errors import ClusterError
from support.calls import Interference, crash_after, crash_before, fail
from support.faults.scenario import Scenario
from support.faults.scenarios import SCENARIOS
from support.faults.trial import faults_of, run
from support.faults.twin_stage import TwinStage

LOST = ClusterError("no answer within 30 s")
FAULTS: dict[str, tuple[Callable[[int], Interference[object]], bool]] = {
    "dies before": (crash_before, False),
    "dies after": (crash_after, False),
    "dies after and stays down while the world goes on": (crash_after, True),
    "gets no answer": (lambda number: fail(number, LOST, carried_out=True), False),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
async def test_the_end_is_the_same_when_the_operator(scenario: Scenario, fault: str) -> None:
    calm = await run(scenario, TwinStage())
    assert calm.broken == []
    interference, stays_down = FAULTS[fault]
    found = []
    for number, write in enumerate(calm.writes, start=1):
        disturbed = await run(scenario, TwinStage(stays_down=stays_down), interference(number))
        assert len(disturbed.writes) >= number, "the fault was never met"
        found += [f"{fault} write {number} ({' '.join(write)}): {fault_}" for fault_ in faults_of(disturbed, calm)]
    assert found == []
