"""Whatever write of a scenario the operator dies at, the end is the same, and nothing ran twice.

Method: Sieve (Sun et al., OSDI 2022). `make soak` tries every write, and a change a sample of them.
"""

from __future__ import annotations

import pytest

from slipway.api.errors import ClusterError
from support.calls import fail
from support.faults.late import seen_late
from support.faults.scenario import Scenario
from support.faults.scenario_runs import ScenarioRuns, faults_of
from support.faults.scenarios import SCENARIOS

LOST = ClusterError("no answer within 30 s")
every_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=str)


@every_scenario
async def test_the_end_is_the_same_when_the_operator_dies_before_or_after_any_write(
    runs: ScenarioRuns, scenario: Scenario
) -> None:
    calm = await runs.calm(scenario)
    moments = {moment.state: f"dead before {moment.what}" for moment in calm.before}
    by_state = {moment.state: moment for moment in (*calm.before, *calm.after)}
    moments |= {moment.state: f"dead after {moment.what}" for moment in calm.after}
    found = []
    for state, what in await runs.sampled(
        scenario, list(moments.items())
    ):  # after one write and before the next is one moment where nothing lies between
        disturbed = await runs.crashed(scenario, by_state[state])
        found += [f"{what}: {one}" for one in faults_of(disturbed, calm.outcome)]
    assert found == []


@every_scenario
async def test_the_end_is_the_same_when_the_operator_stays_down_while_the_world_goes_on(
    runs: ScenarioRuns, scenario: Scenario
) -> None:
    calm = await runs.calm(scenario)
    found = []
    for moment in await runs.sampled(scenario, calm.after):
        disturbed = await runs.crashed(scenario, moment, down=True)
        differs = faults_of(seen_late(disturbed), seen_late(calm.outcome))
        found += [f"down from {moment.what} on: {one}" for one in differs]
    assert found == []


@every_scenario
async def test_the_end_is_the_same_when_the_answer_to_any_write_is_lost(runs: ScenarioRuns, scenario: Scenario) -> None:
    calm = await runs.calm(scenario)
    found = []
    for number, moment in await runs.sampled(scenario, list(enumerate(calm.after, start=1))):
        disturbed = await runs.run(scenario, fail(number, LOST, carried_out=True))
        assert len(disturbed.writes) >= number, "the fault was never met"
        found += [f"no answer to {moment.what}: {one}" for one in faults_of(disturbed, calm.outcome)]
    assert found == []
