"""Whatever the API server answers, or does not, the end is the same, and nothing ran twice."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from slipway.api.kinds import Object
from support.calls import Interference
from support.faults.answers import VERBS, WRONGS, at_random, at_write, every_other
from support.faults.late import seen_late
from support.faults.scenario import Scenario
from support.faults.scenario_runs import ScenarioRuns, faults_of
from support.faults.scenarios import SCENARIOS

every_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
PATIENT = 7200.0
"""Seconds of rest: a back-off grows to 5 minutes, and several tries after it may go wrong as well."""


async def ends(
    runs: ScenarioRuns,
    scenario: Scenario,
    interfere: Interference[object],
    what: str,
    reads: Interference[object] | None = None,
) -> list[str]:
    """What differs in the end, each line with what was done; while the operator backs off the world goes on."""
    calm = await runs.calm(scenario)
    stage = await runs.stage(scenario, rest_seconds=PATIENT)
    stage.calls.interfere = interfere
    if reads is not None:
        stage.calls.interfere_get = reads
    disturbed = await runs.outcome(scenario, stage)
    # That something was refused is true, and told; see tests/unit/reconcile/test_hostile_world.py for what it says.
    told = {event for event in disturbed.told if event[1] != "Refused"}
    disturbed = replace(disturbed, told=told, state=[_refused_no_longer(obj) for obj in disturbed.state])
    return [f"{what}: {one}" for one in faults_of(seen_late(disturbed), seen_late(calm.outcome))]


def _refused_no_longer(obj: Object) -> Object:
    """Without the condition that says so: one that is still true stays."""
    if not (status := obj.get("status")) or "conditions" not in status:
        return obj
    kept = [one for one in status["conditions"] if (one["type"], one["status"]) != ("ChildRefused", "False")]
    return {**obj, "status": {**status, "conditions": kept}}


@every_scenario
async def test_one_call_that_goes_wrong_changes_nothing_in_the_end(
    runs: ScenarioRuns, scenario: Scenario, seed: int
) -> None:
    calm, kinds = await runs.calm(scenario), list(WRONGS)
    found = []
    for number, moment in await runs.sampled(scenario, list(enumerate(calm.before, start=1))):
        kind = kinds[(number + seed) % len(kinds)]
        found += await ends(runs, scenario, at_write(number, WRONGS[kind]), f"{kind} at {moment.what} (seed {seed})")
    assert found == []


@pytest.mark.parametrize("kind", WRONGS)
@every_scenario
async def test_when_every_other_call_of_a_verb_goes_wrong_the_end_is_the_same(
    runs: ScenarioRuns, scenario: Scenario, kind: str
) -> None:
    verbs = {write.verb for write in (await runs.calm(scenario)).outcome.writes}
    found = []
    for verb in await runs.sampled(scenario, [verb for verb in VERBS if verb in verbs]):
        found += await ends(runs, scenario, every_other(verb, WRONGS[kind]), f"{kind} at every other {verb}")
    assert found == []


@every_scenario
async def test_when_calls_go_wrong_at_random_and_so_do_reads_the_end_is_the_same(
    runs: ScenarioRuns, scenario: Scenario, seed: int
) -> None:
    found = []
    for one in await runs.sampled(scenario, range(seed, seed + 3)):
        random = Random(one)
        writes, reads = at_random(random, 0.3), at_random(random, 0.5)
        found += await ends(runs, scenario, writes, f"seed {one}", reads)
    assert found == []
