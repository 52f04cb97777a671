"""A scenario: what users do and what becomes of pods, each as soon as the cluster is as the script wants it.

No step says when in time: it waits for a state that comes whatever fault the operator meets. `play` runs one on any
Stage: the twin (twin_stage.py), or a real API server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from slipway.api.kinds import JOB, RECONCILED, Key, Kind, Object, key_of
from support.faults.operations import works
from support.faults.world import Operation, World

MOST_MOVES = 500
"""Of one scenario, between two steps: far more than any needs."""

Condition = Callable[[World], Awaitable[bool]]
Action = Callable[[World], Awaitable[object]]


class Step(NamedTuple):
    """what: both, in words. when: of the cluster alone, never of what the operator has in mind."""

    what: str
    when: Condition
    do: Action


@dataclass(frozen=True)
class Scenario:
    """objects: created at the start, in this order, in the stage's namespace. operations: what pods do, as in World.

    after: the scenario whose end is this one's beginning.
    """

    name: str
    objects: Sequence[Object]
    steps: Sequence[Step] = ()
    operations: Mapping[str, Operation] = field(default_factory=dict)
    after: Scenario | None = None

    def __str__(self) -> str:
        return self.name


class Stage(Protocol):
    """A cluster with an operator on it. The operator may die at any time and is then started again by the stage."""

    world: World

    async def quiet(self) -> None:
        """Return when the operator has nothing to do at this moment, or is dead."""
        ...

    async def sleep(self) -> bool:
        """Let time pass until the operator has something to do. False where nothing will come: it is at rest."""
        ...


async def play(scenario: Scenario, stage: Stage) -> None:
    """From the first object to the rest after the last step. Fails where a step's condition never comes.

    What the scenario comes after was played before, on this stage or on the one that it goes on from. A world that is
    amid this scenario goes on where it is.
    """
    world = stage.world
    if world.at[0] != scenario.name:
        world.operations, world.usual, world.at = scenario.operations, works, (scenario.name, 0)
        for obj in scenario.objects:
            await world.admin.create(placed(obj, world.namespace))
    for number, step in enumerate(scenario.steps[world.at[1] :], start=world.at[1] + 1):
        if not await _until(step.when, stage):
            raise AssertionError(f"{scenario}: this never came: {step.what}; {await _shown(world)}")
        await step.do(world)
        world.at = (scenario.name, number)
    await _until(_never, stage)


async def _until(condition: Condition, stage: Stage) -> bool:
    """Return True if it came before all was at rest."""
    for _ in range(MOST_MOVES):
        await stage.quiet()
        if await condition(stage.world):
            return True
        if not await stage.world.move() and not await stage.sleep():
            return False
    raise AssertionError(f"no rest after {MOST_MOVES} moves; {await _shown(stage.world)}")


async def _never(_world: World) -> bool:
    return False


async def _shown(world: World) -> str:
    shown = []
    for kind in (*RECONCILED, JOB):
        for obj in await world.admin.list(kind, world.namespace):
            status = obj.get("status", {})
            ready = [c for c in status.get("conditions", ()) if c["type"] in ("Ready", "Complete", "Failed")]
            said = [f"{c['type']}={c['status']} {c.get('reason', '')}: {c.get('message', '')}" for c in ready]
            shown.append(f"{kind}/{obj['metadata']['name']} is {status.get('phase')} {said}")
    return "; ".join(shown)


def placed(obj: Object, namespace: str) -> Object:
    """A builder's object in the namespace of a stage, as a user would write it."""
    made = {name: obj["metadata"][name] for name in ("name", "labels", "annotations") if name in obj["metadata"]}
    if "namespace" in obj["metadata"]:
        made["namespace"] = namespace
    written = {field: value for field, value in obj.items() if field != "status" or _sets_status(obj)}
    return {**written, "metadata": made}


def _sets_status(obj: Object) -> bool:
    """The volume controller sets a claim's phase; a status of our kinds is the operator's."""
    return obj["kind"] == "PersistentVolumeClaim"


# --- Conditions --------------------------------------------------------------------------------------------------


async def at_once(_world: World) -> bool:
    return True


def phase_is(kind: Kind, name: str, phase: str) -> Condition:
    """The status says so, of the spec as it is now."""

    async def condition(world: World) -> bool:
        obj = await world.admin.get(Key(kind, world.namespace, name))
        if obj is None:
            return False
        status = obj.get("status", {})
        return status.get("phase") == phase and status.get("observedGeneration") == obj["metadata"]["generation"]

    return condition


def pods_run(role: str, number: int | None = None) -> Condition:
    """A Job of that role has pods, and none of them has ended."""

    async def condition(world: World) -> bool:
        for job in await world.jobs(role, number):
            pods = await world.pods_of(job)
            if pods and all(pod["status"].get("phase") == "Running" for pod in pods):
                return True
        return False

    return condition


def gone(role: str) -> Condition:
    """No Job of that role is left."""

    async def condition(world: World) -> bool:
        return not await world.jobs(role)

    return condition


def both(one: Condition, other: Condition) -> Condition:
    async def condition(world: World) -> bool:
        return await one(world) and await other(world)

    return condition


# --- Actions -----------------------------------------------------------------------------------------------------


def edits(kind: Kind, name: str, **fields: object) -> Action:
    """A user sets fields of the spec."""

    async def action(world: World) -> None:
        await world.admin.edit(Key(kind, world.namespace, name), lambda obj: obj["spec"].update(fields))

    return action


def creates(obj: Object) -> Action:
    async def action(world: World) -> None:
        await world.admin.create(placed(obj, world.namespace))

    return action


def deletes(kind: Kind, name: str) -> Action:
    async def action(world: World) -> None:
        await world.admin.delete(Key(kind, world.namespace, name))

    return action


def sets_status(kind: Kind, name: str, **fields: object) -> Action:
    async def action(world: World) -> None:
        await world.admin.set_status(Key(kind, world.namespace, name), fields)

    return action


def deletes_children(kind: Kind) -> Action:
    """A user deletes all objects of a kind that the operator made."""

    async def action(world: World) -> None:
        for obj in await world.admin.list(kind, world.namespace):
            if obj["metadata"].get("ownerReferences"):
                await world.admin.delete(key_of(obj))

    return action


def deletes_jobs(role: str, number: int | None = None) -> Action:
    """A user deletes Jobs with `kubectl delete job`."""

    async def action(world: World) -> None:
        for job in await world.jobs(role, number):
            await world.admin.delete(key_of(job))

    return action


def from_now_on(role: str, operation: Operation) -> Action:
    """What the pods of a role do changes."""

    async def action(world: World) -> None:
        world.operations = {**world.operations, role: operation}

    return action


def one_after_another(*actions: Action) -> Action:
    async def action(world: World) -> None:
        for act in actions:
            await act(world)

    return action
