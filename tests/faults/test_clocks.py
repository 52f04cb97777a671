"""Whatever a user does to the wall clock, every wait ends, and the end is the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from slipway.api.kinds import Object
from slipway.cluster.port import Write
from support.faults.late import seen_late
from support.faults.scenario import Scenario
from support.faults.scenario_runs import Calm, Outcome, ScenarioRuns, faults_of
from support.faults.scenarios import SCENARIOS

T = TypeVar("T")
HOUR = 3600.0


def _first(scenario: Scenario, calm: Calm, seconds: float) -> int:
    """The first write to set the clock at: what jumps over a deadline before the Job is made ends without a Job."""
    if scenario.name != "the deadline passes" or seconds < 0:
        return 1
    return 2 + next(number for number, write in enumerate(calm.before) if "(create Job " in write.what)


def _drained_at_once(outcome: Outcome) -> Outcome:
    """Without how often Deployments were scaled: after a jump a revision has drained, and scales up to serve again."""
    return replace(outcome, state=[_however_often_scaled(obj) for obj in outcome.state])


def _however_often_scaled(obj: Object) -> Object:
    if obj["kind"] != "Deployment":
        return obj
    meta = {name: value for name, value in obj["metadata"].items() if name != "generation"}
    status = {name: value for name, value in obj.get("status", {}).items() if name != "observedGeneration"}
    return {**obj, "metadata": meta, "status": status}


@pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["forward", "back"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
async def test_the_end_is_the_same_when_the_clock_is_set_an_hour(
    runs: ScenarioRuns, scenario: Scenario, seconds: float
) -> None:
    calm = await runs.calm(scenario)
    found = []
    for number in await runs.sampled(scenario, range(_first(scenario, calm, seconds), len(calm.before) + 1)):
        stage = await runs.stage(scenario, rest_seconds=HOUR + 700.0)

        async def step(count: int, _write: Write, call: Callable[[], Awaitable[T]], at=number, on=stage) -> T:
            if count == at:
                on.clock.stepped += seconds
            return await call()

        stage.calls.interfere = step
        outcome = await runs.outcome(scenario, stage)
        what = calm.before[number - 1].what
        found += [
            f"the clock is set by {seconds:g} s at {what}: {one}"
            for one in faults_of(*(_drained_at_once(seen_late(one)) for one in (outcome, calm.outcome)))
        ]
    assert found == []
