"""A scenario under faults, held to the same scenario undisturbed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from structlog.testing import capture_logs

from slipway.api.kinds import Object
from slipway.cluster.port import Write
from support.calls import Interference
from support.faults.end_state import difference, end_state, told
from support.faults.loop_stage import LoopStage
from support.faults.scenario import Scenario, play
from support.faults.scenarios import SCENARIOS
from support.faults.twin_stage import TwinStage
from support.seed import sample

T = TypeVar("T")
SHORTEST = 5
"""Scenarios that meet every fault at every write, whatever the sample."""


@dataclass(frozen=True)
class Outcome:
    """What came of a scenario. ran: Jobs by parent and role; told: Events by type, reason and message."""

    state: list[Object]
    ran: Counter[tuple[str, str]]
    told: set[tuple[str, str, str]]
    writes: Sequence[Write]
    broken: list[str]


@dataclass(frozen=True)
class Moment:
    """The cluster and the script as they were just before or after a write: all that a dead operator leaves behind."""

    stage: TwinStage
    what: str

    @property
    def state(self) -> tuple[int, float]:
        """Moments of one run that are equal in this are one."""
        return self.stage.twin.revision, self.stage.clock.elapsed


@dataclass(frozen=True)
class Calm:
    """A scenario undisturbed. before, after: the moments around each write."""

    outcome: Outcome
    before: Sequence[Moment]
    after: Sequence[Moment]


@dataclass
class ScenarioRuns:
    """Plays scenarios on the twin; what several runs begin with, or are held to, is played once."""

    _ends: dict[str, TwinStage] = field(default_factory=dict)
    _calm: dict[str, Calm] = field(default_factory=dict)

    async def calm(self, scenario: Scenario) -> Calm:
        """Undisturbed. Fails where that alone breaks a law."""
        if scenario.name not in self._calm:
            stage = await self.stage(scenario)
            before: list[Moment] = []
            after: list[Moment] = []

            async def remember(number: int, write: Write, call: Callable[[], Awaitable[Any]]) -> Any:
                before.append(Moment(TwinStage(stage), f"write {number} ({' '.join(write)})"))
                answer = await call()
                after.append(Moment(TwinStage(stage), before[-1].what))
                return answer

            stage.calls.interfere = remember
            outcome = await self.outcome(scenario, stage)
            assert outcome.broken == []
            self._calm[scenario.name] = Calm(outcome, before, after)
        return self._calm[scenario.name]

    async def sampled(self, scenario: Scenario, faults: Sequence[T]) -> Sequence[T]:
        """All faults for one of the SHORTEST scenarios, and for another a sample by the seed of the run."""
        writes = {one.name: len((await self.calm(one)).outcome.writes) for one in SCENARIOS}
        shortest = sorted(writes, key=writes.__getitem__)[:SHORTEST]
        return faults if scenario.name in shortest else sample(faults)

    async def crashed(self, scenario: Scenario, moment: Moment, *, down: bool = False) -> Outcome:
        """The operator dies at that moment, and another one comes. down: only when nothing moves without one."""
        return await self.outcome(scenario, TwinStage(moment.stage, down=down))

    async def run(self, scenario: Scenario, interfere: Interference[object] | None = None, **options: Any) -> Outcome:
        """options: of the TwinStage. Only the scenario's own writes are interfered with."""
        stage = await self.stage(scenario, **options)
        if interfere is not None:
            stage.calls.interfere = interfere
        return await self.outcome(scenario, stage)

    async def stage(self, scenario: Scenario, **options: Any) -> TwinStage:
        """Where the scenario begins."""
        return TwinStage(await self._end_of(scenario.after) if scenario.after else None, **options)

    async def outcome(self, scenario: Scenario, stage: TwinStage) -> Outcome:
        """Play it to its end. A defect that the operator's loop caught and logged counts as a broken law."""
        with capture_logs() as logs:
            await play(scenario, stage)
        stage.history.broken += [f"{line['event']}: {line['exc_info']!r}" for line in logs if "exc_info" in line]
        return await outcome_of(stage)

    async def _end_of(self, scenario: Scenario) -> TwinStage:
        if scenario.name not in self._ends:
            stage = await self.stage(scenario)
            await self.outcome(scenario, stage)
            self._ends[scenario.name] = stage
        return self._ends[scenario.name]


async def outcome_of(stage: LoopStage) -> Outcome:
    history = stage.history
    return Outcome(
        await end_state(stage.world, history),
        history.job_counts(),
        await told(stage.world, history),
        tuple(stage.calls.writes),
        history.violations(),
    )


def faults_of(disturbed: Outcome, calm: Outcome) -> list[str]:
    """All that a user would notice of the faults afterwards; nothing where all is well."""
    again = [
        f"{' '.join(key)} ran {n} times, not {calm.ran[key]}" for key, n in disturbed.ran.items() if n != calm.ran[key]
    ]
    never = [f"{' '.join(key)} never ran" for key in calm.ran if key not in disturbed.ran]
    more = [f"an Event that is not true: {' '.join(event)}" for event in sorted(disturbed.told - calm.told)]
    return [*disturbed.broken, *again, *never, *difference(calm.state, disturbed.state), *more]
