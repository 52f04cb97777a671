"""A scenario under faults, held to the same scenario undisturbed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from slipway.api.kinds import Object
from slipway.cluster.passing import Write
from support.calls import Interference
from support.faults.end_state import difference, end_state, told
from support.faults.scenario import Scenario, play
from support.faults.twin_stage import TwinStage


@dataclass(frozen=True)
class Outcome:
    """What came of a scenario. ran: Jobs by parent and role; told: Events by type, reason and message."""

    state: list[Object]
    ran: Counter[tuple[str, str]]
    told: set[tuple[str, str, str]]
    writes: Sequence[Write]
    broken: list[str]


async def run(scenario: Scenario, stage: TwinStage, interfere: Interference[object] | None = None) -> Outcome:
    if interfere is not None:
        stage.calls.interfere = interfere
    await play(scenario, stage)
    return await outcome_of(stage)


async def outcome_of(stage: TwinStage) -> Outcome:
    chronicle = stage.chronicle
    return Outcome(
        await end_state(stage.world, chronicle),
        chronicle.ran(),
        await told(stage.world, chronicle),
        tuple(stage.calls.writes),
        chronicle.verdict(),
    )


def faults_of(disturbed: Outcome, calm: Outcome) -> list[str]:
    """All that a user would notice of the faults afterwards; nothing where all is well."""
    again = [
        f"{' '.join(key)} ran {n} times, not {calm.ran[key]}" for key, n in disturbed.ran.items() if n != calm.ran[key]
    ]
    never = [f"{' '.join(key)} never ran" for key in calm.ran if key not in disturbed.ran]
    more = [f"an Event that is not true: {' '.join(event)}" for event in sorted(disturbed.told - calm.told)]
    return [*disturbed.broken, *again, *never, *difference(calm.state, disturbed.state), *more]
