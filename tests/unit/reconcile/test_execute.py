"""The executor on the twin: which writes a plan becomes, and what a write that meets something else does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from slipway.api.errors import AlreadyExists, ClusterError, Forbidden
from slipway.api.kinds import DEPLOYMENT, EVENT, JOB, SERVICE, TRAINING_JOB, Key, Kind, Object, key_of
from slipway.api.status import not_yet_observed
from slipway.cluster.port import Cluster, ClusterMiddleware, Write
from slipway.cluster.twin import Twin
from slipway.plan.owner import Owner, deletion
from slipway.plan.plan import EventRecord, Plan
from slipway.reconcile.cache import Cache
from slipway.reconcile.execute import Executor, Outcome, status_patch
from support.calls import Interfered, fail

T = TypeVar("T")

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TRAIN = Key(TRAINING_JOB, "default", "train")


class World:
    """A twin with one TrainingJob in it, a cache that knows it, and an executor that counts its writes."""

    def __init__(self) -> None:
        self.twin = Twin(lambda: NOW)
        self.calls = Interfered(self.twin)
        self.cache = Cache()
        self.executor = Executor(self.calls, self.cache, "test")
        meta = {"name": "train", "namespace": "default"}
        body = {"apiVersion": TRAINING_JOB.api_version, "kind": "TrainingJob", "metadata": meta, "spec": {}}
        self.cache.put(self.twin.add(body))

    @property
    def owner(self) -> Object:
        found = self.cache.get(TRAINING_JOB, "default", "train")
        assert found is not None
        return found

    @property
    def writes(self) -> list[Write]:
        return self.calls.writes

    def child(self, kind: Kind, name: str = "child", **spec: Any) -> Object:
        return Owner.of(self.owner).child(kind, name, spec=spec)

    async def carry_out(self, plan: Plan) -> Outcome:
        return await self.executor.carry_out(plan, self.owner, NOW)

    def known(self, kind: Kind, name: str = "child") -> Object | None:
        return self.cache.get(kind, "default", name)

    async def live(self, kind: Kind, name: str = "child") -> Object:
        return await self.twin.get(Key(kind, "default", name))


@pytest.fixture
def world() -> World:
    return World()


async def test_an_empty_plan_writes_nothing(world: World) -> None:
    assert not await world.carry_out(Plan())
    assert not await world.carry_out(Plan(status=world.owner["status"]))
    assert world.writes == []


async def test_writes_come_in_the_order_that_makes_a_crash_harmless(world: World) -> None:
    old = world.twin.add(world.child(JOB, "old"))
    world.cache.put(old)
    plan = Plan(
        status={"phase": "Running"},
        create=(world.child(JOB, "new"),),
        apply=(world.child(SERVICE),),
        delete=(deletion(old),),
        events=(EventRecord("Normal", "Started", "it began"),),
    )
    assert await world.carry_out(plan)
    assert [(write.verb, write.kind) for write in world.writes] == [
        ("apply", "Service"),
        ("create", "Job"),
        ("delete", "Job"),
        ("patch_status", "TrainingJob"),
        ("create", "Event"),
    ]


class StatusFirst(ClusterMiddleware):
    """Answers an apply only when the status is written."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster)
        self.status_written = asyncio.Event()

    async def write(self, write: Write, call: Callable[[], Awaitable[T]], /) -> T:
        if write.verb == "apply":
            await asyncio.wait_for(self.status_written.wait(), timeout=1)
        answer = await call()
        if write.verb == "patch_status":
            self.status_written.set()
        return answer


async def test_an_intent_and_what_only_prepares_it_wait_for_no_answer_of_each_other(world: World) -> None:
    executor = Executor(StatusFirst(world.twin), world.cache, "test")
    plan = Plan(apply=(world.child(SERVICE),), status={"phase": "Pending"}, at_once=True)
    assert await executor.carry_out(plan, world.owner, NOW)
    assert world.known(SERVICE) is not None
    assert world.owner["status"]["phase"] == "Pending"


async def test_a_refused_preparation_stops_the_creation_that_follows_it_and_not_the_intent(world: World) -> None:
    theirs = world.twin.add({**world.child(SERVICE), "metadata": {"name": "child", "namespace": "default"}})
    world.cache.put(theirs)
    outcome = await world.carry_out(Plan(apply=(world.child(SERVICE),), status={"phase": "Pending"}, at_once=True))
    assert [one.key.kind for one in outcome.refused] == [SERVICE]
    assert world.owner["status"]["phase"] == "Pending"


async def test_what_was_written_is_known_at_once(world: World) -> None:
    await world.carry_out(Plan(create=(world.child(JOB),), apply=(world.child(SERVICE),), status={"phase": "Running"}))
    job, service = world.known(JOB), world.known(SERVICE)
    assert job is not None
    assert service is not None
    assert job["metadata"]["uid"] == (await world.live(JOB))["metadata"]["uid"]
    assert world.owner["status"]["phase"] == "Running"
    assert (
        world.owner["metadata"]["resourceVersion"]
        == (await world.live(TRAINING_JOB, "train"))["metadata"]["resourceVersion"]
    )


async def test_what_lives_as_it_was_rendered_is_not_applied_again(world: World) -> None:
    plan = Plan(apply=(world.child(DEPLOYMENT, replicas=2),))
    assert await world.carry_out(plan)
    assert not await world.carry_out(plan)
    assert len(world.writes) == 1


async def test_drift_is_fixed(world: World) -> None:
    plan = Plan(apply=(world.child(DEPLOYMENT, replicas=2),))
    await world.carry_out(plan)

    def scale(obj: Object) -> None:
        obj["spec"]["replicas"] = 5

    world.cache.put(world.twin.edit(Key(DEPLOYMENT, "default", "child"), scale))
    assert await world.carry_out(plan)
    assert (await world.live(DEPLOYMENT))["spec"]["replicas"] == 2


class Mirroring(ClusterMiddleware):
    """A webhook of the cluster has every image pulled from its own registry."""

    async def apply(self, obj: Object) -> Object:
        spec = {**obj["spec"], "image": f"mirror/{obj['spec']['image']}"}
        return await super().apply({**obj, "spec": spec})


async def test_what_a_webhook_changes_back_at_once_is_settled_and_tried_once_a_round(world: World) -> None:
    plan = Plan(apply=(world.child(DEPLOYMENT, image="triton"),), status={"phase": "Running"})
    executor = Executor(Mirroring(world.calls), world.cache, "test")
    assert await executor.carry_out(plan, world.owner, NOW)
    before = len(world.writes)
    assert not await executor.carry_out(plan, world.owner, NOW)
    assert (await world.live(DEPLOYMENT))["spec"]["image"] == "mirror/triton"
    assert [write.verb for write in world.writes[before:]] == ["apply"]

    def scale(obj: Object) -> None:
        obj["spec"]["replicas"] = 5

    world.cache.put(world.twin.edit(Key(DEPLOYMENT, "default", "child"), scale))
    other = Plan(apply=(world.child(DEPLOYMENT, image="triton", replicas=2),))
    assert await executor.carry_out(other, world.owner, NOW)
    assert (await world.live(DEPLOYMENT))["spec"]["replicas"] == 2


async def test_an_apply_that_was_decided_on_an_old_version_writes_nothing_and_looks_again(world: World) -> None:
    await world.carry_out(Plan(apply=(world.child(DEPLOYMENT, replicas=2),)))

    def pause(obj: Object) -> None:
        obj["spec"]["paused"] = True

    edited = world.twin.edit(Key(DEPLOYMENT, "default", "child"), pause)
    plan = Plan(apply=(world.child(DEPLOYMENT, replicas=3),), status={"phase": "Running"})
    assert await world.carry_out(plan)
    assert (await world.live(DEPLOYMENT))["spec"]["replicas"] == 2
    assert world.owner["status"] == not_yet_observed()
    known = world.known(DEPLOYMENT)
    assert known is not None
    assert known["metadata"]["resourceVersion"] == edited["metadata"]["resourceVersion"]
    assert await world.carry_out(plan)
    assert (await world.live(DEPLOYMENT))["spec"] == {"replicas": 3, "paused": True}


async def test_an_object_of_another_user_is_never_taken_over(world: World) -> None:
    theirs = {**world.child(SERVICE, ports=[]), "metadata": {"name": "child", "namespace": "default"}}
    stored = world.twin.add(theirs)
    plan = Plan(apply=(world.child(SERVICE, ports=[{"port": 80}]),))
    assert await world.carry_out(plan)  # it did not know of it, and knows now
    assert world.known(SERVICE) is not None
    (refused,) = (await world.carry_out(plan)).refused
    assert isinstance(refused.error, AlreadyExists)
    assert "another owner" in str(refused.error)
    assert await world.live(SERVICE) == stored


async def test_a_child_that_exists_already_is_looked_at_and_not_made_twice(world: World) -> None:
    stored = world.twin.add(world.child(JOB))
    assert world.known(JOB) is None
    assert await world.carry_out(Plan(create=(world.child(JOB),)))
    known = world.known(JOB)
    assert known is not None
    assert known["metadata"]["uid"] == stored["metadata"]["uid"]


async def test_deleting_what_is_gone_is_fine(world: World) -> None:
    stored = world.twin.add(world.child(JOB))
    world.cache.put(stored)
    world.twin.remove(key_of(stored))
    assert await world.carry_out(Plan(delete=(deletion(stored),)))
    assert world.known(JOB) is None


async def test_a_deletion_that_was_decided_on_an_old_version_looks_again(world: World) -> None:
    stored = world.twin.add(world.child(JOB))
    world.cache.put(stored)

    def finish(obj: Object) -> None:
        obj["status"] = {"succeeded": 1}

    world.twin.edit(key_of(stored), finish)
    assert await world.carry_out(Plan(delete=(deletion(stored),)))
    known = world.known(JOB)
    assert known is not None
    assert known["status"] == {"succeeded": 1}
    assert await world.carry_out(Plan(delete=(deletion(known),)))
    assert world.known(JOB) is None


async def test_an_object_that_a_finalizer_keeps_is_shown_as_going(world: World) -> None:
    kept = world.child(JOB)
    kept["metadata"]["finalizers"] = ["example.test/keep"]
    stored = world.twin.add(kept)
    world.cache.put(stored)
    await world.carry_out(Plan(delete=(deletion(stored),)))
    known = world.known(JOB)
    assert known is not None
    assert "deletionTimestamp" in known["metadata"]


async def test_a_status_that_was_decided_on_an_old_version_is_not_written(world: World) -> None:
    def suspend(obj: Object) -> None:
        obj["spec"]["suspend"] = True

    world.twin.edit(key_of(world.owner), suspend)
    assert await world.carry_out(Plan(status={"phase": "Running"}))
    assert world.owner["spec"] == {"suspend": True}
    assert world.owner["status"] == not_yet_observed()


async def test_a_parent_that_is_gone_is_forgotten(world: World) -> None:
    owner = world.owner
    world.twin.remove(key_of(owner))
    assert await world.executor.carry_out(Plan(status={"phase": "Running"}), owner, NOW)
    assert world.cache.get(TRAINING_JOB, "default", "train") is None


async def test_an_event_is_told_once_for_each_transition(world: World) -> None:
    event = EventRecord("Warning", "Failed", "rank 1 raised ValueError")
    for _ in range(2):
        await world.carry_out(Plan(events=(event,)))
    events = await world.twin.list(EVENT)
    assert [(event["reason"], event["type"], event["note"]) for event in events] == [
        ("Failed", "Warning", "rank 1 raised ValueError")
    ]
    assert events[0]["regarding"]["uid"] == world.owner["metadata"]["uid"]
    assert events[0]["eventTime"] == "2026-01-02T03:04:05.000000Z"
    await world.carry_out(Plan(events=(EventRecord("Warning", "Failed", "rank 2 raised ValueError"),)))
    assert len(await world.twin.list(EVENT)) == 2


async def test_an_event_that_cannot_be_posted_stops_nothing(world: World) -> None:
    world.calls.interfere = fail(2, Forbidden("events is forbidden"))
    plan = Plan(status={"phase": "Running"}, events=(EventRecord("Normal", "Started", "it began"),))
    assert await world.carry_out(plan)
    assert (await world.live(TRAINING_JOB, "train"))["status"]["phase"] == "Running"


@pytest.mark.parametrize(("letter", "kept"), [("x", 1024), ("ж", 512), ("長", 341)])
async def test_a_long_event_is_cut_to_the_bytes_that_the_api_takes(world: World, letter: str, kept: int) -> None:
    await world.carry_out(Plan(events=(EventRecord("Warning", "Failed", letter * 5000),)))
    assert (await world.twin.list(EVENT))[0]["note"] == letter * kept


async def test_a_refusal_is_answered_and_the_status_waits_for_it(world: World) -> None:
    world.calls.interfere = fail(1, ClusterError("503"))
    plan = Plan(create=(world.child(JOB),), status={"phase": "Running"})
    outcome = await world.carry_out(plan)
    assert outcome, "the planner hears of it before the status is written"
    ((verb, key, body, error),) = outcome.refused
    assert (verb, key.kind, body, str(error)) == ("create", JOB, plan.create[0], "503")
    assert world.owner["status"] == not_yet_observed()


@pytest.mark.parametrize(
    ("present", "wanted", "patch"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, None, {}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1, "b": 2}, {"a": 1}, {"b": None}),
        ({}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "d": 3}}, {"a": {"c": None, "d": 3}}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        ({"a": {"b": 1}}, {"a": [1]}, {"a": [1]}),
    ],
)
def test_a_status_is_patched_by_its_difference(present: Object, wanted: Object | None, patch: Object) -> None:
    assert status_patch(present, wanted) == patch


# --- A parent that is not what the watch showed ----------------------------------------------------------------------


async def a_user_edits(world: World) -> None:
    """And no watch has reported it yet."""
    world.twin.edit(TRAIN, lambda obj: obj["spec"].update(suspend=True))


@pytest.mark.parametrize("write", ["create", "apply", "delete"])
async def test_no_child_is_touched_for_a_parent_that_has_changed_since_it_was_seen(world: World, write: str) -> None:
    old = world.twin.add(world.child(JOB, "old"))
    world.cache.put(old)
    plans = {
        "create": Plan(create=(world.child(JOB),)),
        "apply": Plan(apply=(world.child(SERVICE),)),
        "delete": Plan(delete=(deletion(old),)),
    }
    await a_user_edits(world)
    assert await world.carry_out(plans[write]), "it is planned again"
    assert world.writes == []
    assert world.owner["spec"] == {"suspend": True}


async def test_no_child_is_made_for_a_parent_that_is_gone(world: World) -> None:
    plan, owner = Plan(create=(world.child(JOB),)), world.owner
    world.twin.remove(TRAIN)
    assert await world.executor.carry_out(plan, owner, NOW)
    assert world.writes == []
    assert world.cache.get(*TRAIN) is None


async def test_an_intent_that_was_just_written_is_carried_out_without_a_read(world: World) -> None:
    await world.carry_out(Plan(status={"phase": "Pending"}))
    await world.carry_out(Plan(create=(world.child(JOB),), apply=(world.child(SERVICE),)))
    assert world.calls.gets == 0
    assert len(world.writes) == 3


async def test_where_a_child_has_changed_its_parent_is_looked_at_again_too(world: World) -> None:
    await world.carry_out(Plan(status={"phase": "Running"}, apply=(world.child(DEPLOYMENT, replicas=2),)))
    key = key_of(world.child(DEPLOYMENT))
    await a_user_edits(world)
    world.twin.edit(key, lambda obj: obj["spec"].update(replicas=0))
    assert await world.carry_out(Plan(apply=(world.child(DEPLOYMENT, replicas=3),)))
    assert world.owner["spec"] == {"suspend": True}
