"""What stands in the operator's way on the twin: refusals are told once, lost labels and taken names heal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from slipway.api.errors import ClusterError, Forbidden, Invalid
from slipway.api.kinds import EVENT, JOB, MODEL_DEPLOYMENT, SERVICE, STEP, TRAINING_JOB, Key, Kind, Object
from slipway.cluster.port import Write
from slipway.cluster.twin import Twin
from slipway.reconcile.planners import PLANNERS
from support.builders import NAMESPACE, claim, model_deployment, plugins, resource, store, training_job
from support.calls import Interfered
from support.loop_on_twin import Clock, OperatorOnTwin

T = TypeVar("T")
TRAIN = Key(TRAINING_JOB, NAMESPACE, "digits")
HOUR = 3600.0


class World:
    """A twin with those objects, and an operator with the real planners."""

    def __init__(self, *objects: Object) -> None:
        self.clock = Clock()
        self.twin = Twin(self.clock.now)
        self.calls = Interfered(self.twin)
        self.refusal: Callable[[int], ClusterError] | None = None
        self.calls.interfere = self._perhaps_refused
        self.tries = 0
        for obj in objects:
            self.twin.add(obj)
        self.operator = OperatorOnTwin(self.twin, self.calls, PLANNERS, self.clock)

    async def _perhaps_refused(self, _number: int, write: Write, call: Callable[[], Awaitable[T]]) -> T:
        if write.kind == "Job" and self.refusal is not None:
            self.tries += 1
            raise self.refusal(self.tries)
        return await call()

    async def begin(self) -> None:
        await self.operator.start()
        await self.operator.settle(up_to_seconds=1)

    async def status(self, key: Key = TRAIN) -> Object:
        status: Object = (await self.twin.get(key))["status"]
        return status

    async def stalled(self, key: Key) -> tuple[str, str]:
        found = next(one for one in (await self.status(key))["conditions"] if one["type"] == "Stalled")
        return found["status"], found["reason"]

    async def only(self, kind: Kind) -> Object:
        (found,) = await self.twin.list(kind)
        return found

    async def refusals(self) -> list[str]:
        return [event["note"] for event in await self.twin.list(EVENT) if event["reason"] == "Refused"]

    def event_writes(self) -> int:
        return sum(write.kind == "Event" for write in self.calls.writes)


def over_quota(used: int) -> ClusterError:
    said = f"exceeded quota: few, requested: count/jobs.batch=1, used: count/jobs.batch={used}"
    return Forbidden(f'create jobs default/digits-1: 403 jobs.batch "digits-1" is forbidden: {said}')


def denied(number: int) -> ClusterError:
    return Invalid(f"create jobs default/digits-1: 400 admission webhook denied the request: try {number} {'x' * 5000}")


@pytest.mark.parametrize(
    ("refusal", "words"), [(over_quota, "exceeded quota: few"), (denied, "admission webhook denied the request")]
)
async def test_a_refusal_is_told_once_although_it_is_tried_again_for_hours(
    refusal: Callable[[int], ClusterError], words: str
) -> None:
    world = World(training_job(), store(), claim())
    world.refusal = refusal
    await world.begin()
    await world.operator.settle(up_to_seconds=5 * HOUR)
    assert world.tries > 20
    (note,) = await world.refusals()
    assert note.startswith("the API server refused to create jobs default/digits-1: ")
    assert words in note
    assert note.endswith("; Slipway retries until it succeeds")
    assert world.event_writes() == 1
    event = await world.only(EVENT)
    assert (event["type"], event["regarding"]["kind"], event["regarding"]["name"]) == ("Warning", *_named(TRAIN))


async def test_what_was_refused_is_made_when_it_is_allowed_and_a_later_refusal_is_told_again() -> None:
    world = World(training_job(), store(), claim())
    world.refusal = over_quota
    await world.begin()
    world.refusal = None
    await world.operator.settle(up_to_seconds=HOUR)
    job = await world.only(JOB)
    assert len(await world.refusals()) == 1

    world.refusal = lambda _: Forbidden("create jobs default/digits-1-q1: 403 the quota is spent again")
    world.twin.remove(Key(JOB, NAMESPACE, job["metadata"]["name"]))
    await world.operator.settle(up_to_seconds=HOUR)
    assert len(await world.refusals()) == 2


async def test_an_api_server_that_is_away_is_no_refusal() -> None:
    world = World(training_job(), store(), claim())
    world.refusal = lambda _: ClusterError("create jobs default/digits-1: 503 overloaded")
    await world.begin()
    await world.operator.settle(up_to_seconds=HOUR)
    assert world.tries > 10
    assert await world.refusals() == []


# --- the label that watches select by --------------------------------------------------------------------------------


def without_labels(obj: Object) -> None:
    obj["metadata"]["labels"] = {}


async def test_a_child_whose_label_was_taken_gets_it_back_at_once() -> None:
    world = World(training_job(nodes=2), store(), claim())
    await world.begin()
    service = await world.only(SERVICE)
    world.twin.edit(Key(SERVICE, NAMESPACE, service["metadata"]["name"]), without_labels)
    await world.operator.settle()
    fixed = await world.only(SERVICE)
    assert fixed["metadata"]["labels"] == service["metadata"]["labels"]
    assert fixed["metadata"]["uid"] == service["metadata"]["uid"]


@pytest.mark.parametrize("restarted", [False, True], ids=["while the operator runs", "before it starts"])
@pytest.mark.parametrize("then", [None, {"suspend": True}], ids=["training", "suspended after"])
async def test_a_job_whose_label_was_taken_is_not_taken_for_gone(restarted: bool, then: Object | None) -> None:
    world = World(training_job(), store(), claim())
    await world.begin()
    job = await world.only(JOB)
    if restarted:
        world.operator.stop()
    world.twin.edit(Key(JOB, NAMESPACE, job["metadata"]["name"]), without_labels)
    if then is not None:
        world.twin.edit(TRAIN, lambda obj: obj["spec"].update(then))
    if restarted:
        world.operator = OperatorOnTwin(world.twin, world.calls, PLANNERS, world.clock)
        await world.operator.start()
    await world.operator.settle(up_to_seconds=HOUR)
    (attempt,) = (await world.status())["attempts"]
    if then is None:
        assert "outcome" not in attempt
        assert (await world.only(JOB))["metadata"]["uid"] == job["metadata"]["uid"]
    else:
        assert await world.twin.list(JOB) == []  # it would train on, unseen


async def test_a_task_whose_job_lost_its_label_is_not_done_twice() -> None:
    world = World(training_job(data=[{"name": "train", "dataset": "digits"}]), store(), claim())
    await world.begin()
    await world.operator.settle(up_to_seconds=11)
    job = await world.only(JOB)
    world.twin.edit(Key(JOB, NAMESPACE, job["metadata"]["name"]), without_labels)
    await world.operator.settle(up_to_seconds=HOUR)
    assert (await world.only(JOB))["metadata"]["uid"] == job["metadata"]["uid"]
    run = (await world.only(STEP))["status"]["run"]
    assert (run["state"], run.get("recoveries", 0)) == ("Running", 0)


# --- a name that is taken --------------------------------------------------------------------------------------------


async def test_a_deployment_goes_on_as_soon_as_the_name_of_its_service_is_free() -> None:
    deployment = Key(MODEL_DEPLOYMENT, NAMESPACE, "digits")
    world = World(
        resource(SERVICE, "digits", selector={"app": "another"}), model_deployment(), store(), claim(), *plugins()
    )
    await world.begin()
    assert await world.stalled(deployment) == ("True", "NameConflict")
    (unmanaged,) = world.operator.cache.unmanaged
    world.twin.remove(Key(SERVICE, NAMESPACE, "digits"))
    world.operator.feed.on_vanished(unmanaged)  # as the next look at it finds; no watch shows it
    await world.operator.settle()
    assert await world.stalled(deployment) == ("False", "ModelNotReady")
    assert (await world.only(SERVICE))["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "slipway"


def _named(key: Key) -> tuple[str, str]:
    return key.kind.kind, key.name
