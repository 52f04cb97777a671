"""However late, uneven or forgetful its watches are, the end is the same, and nothing ran twice."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from slipway.api.kinds import WATCHED
from support.faults.late import seen_late
from support.faults.scenario import Scenario
from support.faults.scenario_runs import ScenarioRuns, faults_of
from support.faults.scenarios import SCENARIOS
from support.faults.twin_stage import Life, TwinStage
from support.faults.watches import Forgetful, Late, Relisting, Repeating, Uneven, hearing

every_scenario = pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
WITHOUT_REPLACEMENTS = [one for one in SCENARIOS if one.name != "a pod lost while it waits for room"]
"""From an old list of pods a new operator may start that attempt again (docs/decisions/0022, known limits)."""
FOR_EVER = 10**9

HEARING: dict[str, Callable[[Random], Life]] = {
    "one turn late": lambda _: hearing(lambda: Late(1)),
    "five turns late": lambda _: hearing(lambda: Late(5)),
    "only when at rest": lambda _: hearing(lambda: Late(FOR_EVER)),
    "unevenly": lambda random: hearing(lambda: Uneven(random)),
    "again and again": lambda random: hearing(lambda: Repeating(random)),
    "of no deletion, but lists": lambda _: hearing(Forgetful, Relisting),
}


@pytest.mark.parametrize("how", HEARING)
@every_scenario
async def test_the_end_is_the_same_when_the_operator_hears(
    runs: ScenarioRuns, scenario: Scenario, how: str, seed: int
) -> None:
    calm = seen_late((await runs.calm(scenario)).outcome)
    found = []
    seeds = range(seed, seed + (3 if how in ("unevenly", "again and again") else 1))
    for one in await runs.sampled(scenario, seeds):
        disturbed = seen_late(await runs.run(scenario, life=HEARING[how](Random(one))))
        found += [f"seed {one}: {fault}" for fault in faults_of(disturbed, calm)]
    assert found == []


@pytest.mark.parametrize("scenario", WITHOUT_REPLACEMENTS, ids=str)
async def test_the_end_is_the_same_when_a_new_operator_begins_with_a_view_of_the_past(
    runs: ScenarioRuns, scenario: Scenario, seed: int
) -> None:
    """As when a standby takes over whose watches lag, all by the same or each by its own (stale state, in Sieve)."""
    calm, random = await runs.calm(scenario), Random(seed)
    found = []
    pairs = list(zip(calm.before, calm.after[4:], strict=False))
    for past, moment in await runs.sampled(scenario, pairs):
        kinds = {kind: random.choice((past.stage.twin, moment.stage.twin)) for kind in WATCHED}
        for how, lists in (("all", lambda _, p=past: p.stage.twin), ("some", kinds.__getitem__)):
            disturbed = seen_late(await runs.outcome(scenario, TwinStage(moment.stage, lists=lists)))
            what = f"after {moment.what}, with {how} lists from before {past.what} (seed {seed})"
            found += [f"{what}: {one}" for one in faults_of(disturbed, seen_late(calm.outcome))]
    assert found == []
