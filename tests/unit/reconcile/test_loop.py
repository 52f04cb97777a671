"""The loop on the twin: it settles, sleeps, backs off, and survives a crash at every write."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from slipway.api.errors import ClusterError, Conflict
from slipway.api.kinds import (
    API_VERSION,
    EVENT,
    JOB,
    MODEL_DEPLOYMENT,
    SERVICE,
    STEP,
    TRAINING_JOB,
    Key,
    Object,
    key_of,
)
from slipway.cluster.port import Write
from slipway.cluster.twin import Twin
from slipway.plan.observation import Observation
from slipway.plan.owner import Owner
from slipway.plan.plan import Plan
from slipway.reconcile.log import structured_log
from slipway.reconcile.loop import LONGEST_SLEEP_SECONDS, MAX_ROUNDS, run_workers
from slipway.reconcile.watchdog import Watchdog
from support.calls import Crash, Interfered, crash_after, crash_before, fail
from support.loop_on_twin import START, Clock, OperatorOnTwin
from support.stub_planner import PLANNERS

TRAIN = Key(TRAINING_JOB, "default", "train")


def training_job(name: str = "train") -> Object:
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": TRAINING_JOB.api_version, "kind": "TrainingJob", "metadata": meta, "spec": {}}


class World:
    """A twin, a clock, and operators that live one after another."""

    def __init__(self, planners: Any = PLANNERS) -> None:
        self.clock = Clock()
        self.twin = Twin(self.clock.now)
        self.calls = Interfered(self.twin)
        self.planners = planners

    async def operator(self) -> OperatorOnTwin:
        operator = OperatorOnTwin(self.twin, self.calls, self.planners, self.clock)
        await operator.start()
        return operator

    async def phase(self, name: str = "train") -> str | None:
        status = (await self.twin.get(Key(TRAINING_JOB, "default", name)))["status"]
        phase: str | None = status.get("phase")
        return phase

    async def finish_jobs(self, how: str = "Complete") -> None:
        def finish(obj: Object) -> None:
            obj["status"] = {"conditions": [{"type": how, "status": "True"}]}

        for job in await self.twin.list(JOB):
            self.twin.edit(key_of(job), finish)


async def test_a_resource_is_brought_to_rest_in_one_turn() -> None:
    world = World()
    operator = await world.operator()
    world.twin.add(training_job())
    assert await operator.settle() == 1
    assert await world.phase() == "Running"
    assert [write.verb for write in world.calls.writes] == [
        "patch_status",
        "create",
        "apply",
        "create",
        "patch_status",
    ]


async def test_a_resource_at_rest_is_left_alone() -> None:
    world = World()
    world.twin.add(training_job())
    operator = await world.operator()
    await operator.settle()
    count = len(world.calls.writes)
    operator.feed.lead()
    await operator.settle(up_to_seconds=100_000)
    assert len(world.calls.writes) == count


async def test_its_own_writes_wake_nobody() -> None:
    world = World()
    world.twin.add(training_job())
    operator = await world.operator()
    await operator.settle()
    assert len(operator.queue) == 0


async def test_what_happens_to_a_child_is_noticed() -> None:
    world = World()
    operator = await world.operator()
    world.twin.add(training_job())
    await operator.settle()
    await world.finish_jobs()
    await operator.settle()
    assert await world.phase() == "Succeeded"


async def test_a_resource_that_is_being_deleted_is_left_alone_and_its_children_go_with_it() -> None:
    world = World()
    world.twin.add({**training_job(), "metadata": {"name": "train", "namespace": "default", "finalizers": ["x/y"]}})
    operator = await world.operator()
    await operator.settle()
    world.twin.remove(TRAIN)
    for job in await world.twin.list(JOB):
        world.twin.remove(key_of(job))
    await operator.settle()
    assert await world.twin.list(JOB) == []

    def release(obj: Object) -> None:
        obj["metadata"]["finalizers"] = []

    world.twin.edit(TRAIN, release)
    await operator.settle()
    assert await world.twin.list(SERVICE) == []
    assert operator.cache.get(*TRAIN) is None


async def test_a_resource_that_wants_to_be_planned_later_is() -> None:
    times: list[datetime] = []

    def planner(obj: Object, observation: Observation) -> Plan:
        times.append(observation.now)
        return Plan(wake_at=START + timedelta(seconds=90)) if len(times) == 1 else Plan()

    world = World({TRAINING_JOB: planner})
    world.twin.add(training_job())
    await (await world.operator()).settle(up_to_seconds=1000)
    assert times == [START, START + timedelta(seconds=90)]


async def test_a_long_sleep_is_cut_because_the_wall_clock_may_be_stepped() -> None:
    world = World({TRAINING_JOB: lambda *_: Plan(wake_at=START + timedelta(days=7))})
    world.twin.add(training_job())
    operator = await world.operator()
    await operator.settle()
    assert operator.queue.seconds_to_next() == LONGEST_SLEEP_SECONDS


async def test_a_planner_that_asks_for_the_past_makes_no_busy_loop() -> None:
    world = World({TRAINING_JOB: lambda *_: Plan(wake_at=START - timedelta(days=1))})
    world.twin.add(training_job())
    operator = await world.operator()
    assert await operator.settle() == 1


async def test_a_planner_that_is_never_content_is_stopped_and_comes_again_later() -> None:
    def planner(obj: Object, observation: Observation) -> Plan:
        return Plan(status={"restarts": obj["status"].get("restarts", 0) + 1})

    world = World({TRAINING_JOB: planner})
    world.twin.add(training_job())
    operator = await world.operator()
    assert await operator.settle() == 1
    assert len(world.calls.writes) == MAX_ROUNDS
    wait = operator.queue.seconds_to_next()
    assert wait is not None
    assert wait > 0


async def test_a_defect_in_planning_one_resource_does_not_stop_the_others() -> None:
    def planner(obj: Object, observation: Observation) -> Plan:
        if obj["metadata"]["name"] == "bad":
            raise KeyError("a defect")
        return Plan(status={"phase": "Succeeded"})

    world = World({TRAINING_JOB: planner})
    world.twin.add(training_job("bad"))
    world.twin.add(training_job("good"))
    operator = await world.operator()
    await operator.settle()
    assert await world.phase("good") == "Succeeded"
    wait = operator.queue.seconds_to_next()
    assert wait is not None
    assert wait > 0


async def test_a_refused_write_is_tried_again_after_what_the_server_asked_for() -> None:
    world = World()
    world.calls.interfere = fail(1, ClusterError("429", retry_after_seconds=30.0))
    world.twin.add(training_job())
    operator = await world.operator()
    await operator.settle()
    assert await world.phase() is None
    assert operator.queue.seconds_to_next() == 30.0
    await operator.settle(up_to_seconds=31)
    assert await world.phase() == "Running"


async def test_workers_leave_the_event_loop_to_others_between_turns() -> None:
    turns: list[int] = []
    ticks = 0

    def planner(obj: Object, observation: Observation) -> Plan:
        turns.append(ticks)
        return Plan()

    world = World({TRAINING_JOB: planner})
    for number in range(50):
        world.twin.add(training_job(f"t{number}"))
    operator = await world.operator()
    workers = asyncio.create_task(run_workers(operator.reconciler, 2))
    while len(turns) < 50:
        await asyncio.sleep(0)
        ticks += 1
        assert ticks < 1000
    operator.queue.close()
    await asyncio.wait_for(workers, 5)
    assert all(turns.count(tick) <= 2 for tick in turns), "no more than one turn of each worker between two ticks"


# --- faults at every write -------------------------------------------------------------------------------------------


async def life(world: World) -> None:
    """Train to the end, with the operator restarted whenever it dies."""
    world.twin.add(training_job())
    for operations in ((), (world.finish_jobs,)):
        for operation in operations:
            await operation()
        await until_quiet(world)


async def until_quiet(world: World) -> None:
    operator = await world.operator()
    while True:
        try:
            await operator.settle(up_to_seconds=60)
        except Crash:
            operator.stop()
            operator = await world.operator()
        else:
            operator.stop()
            return


async def end_state(world: World) -> list[Object]:
    """All objects, without what time and chance decide. Events inform only, and a lost one is not told again."""
    kinds = (TRAINING_JOB, JOB, SERVICE)
    found = [deepcopy(obj) for kind in kinds for obj in await world.twin.list(kind)]
    for obj in found:
        for name in ("uid", "resourceVersion", "creationTimestamp"):
            del obj["metadata"][name]
        for owner in obj["metadata"].get("ownerReferences", ()):
            del owner["uid"]
        for attempt in obj.get("status", {}).get("attempts", ()):
            del attempt["jobUID"]
    return found


FAULTS = {
    "crash before": crash_before,
    "crash after": crash_after,
    "answer lost": lambda n: fail(n, ClusterError("no answer"), carried_out=True),
    "refused": lambda n: fail(n, ClusterError("503")),
    "conflict": lambda n: fail(n, Conflict("409")),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(1, 7))
async def test_a_fault_at_any_write_changes_nothing_in_the_end(fault: str, number: int) -> None:
    calm = World()
    await life(calm)
    assert len(calm.calls.writes) == 6, "one fault for each write"
    world = World()
    world.calls.interfere = FAULTS[fault](number)
    await life(world)
    assert len(world.calls.writes) >= number
    assert await end_state(world) == await end_state(calm)
    assert await world.phase() == "Succeeded"
    assert len(await world.twin.list(EVENT)) <= 1


async def test_a_leader_with_a_stale_cache_does_nothing_twice() -> None:
    world = World()
    world.twin.add(training_job())
    late = await world.operator()
    late.stop()  # it hears nothing of what follows, and believes that the resource is new
    operator = await world.operator()
    await operator.settle()
    await world.finish_jobs()
    await operator.settle()
    before = await end_state(world)
    await late.settle(up_to_seconds=600)
    assert await end_state(world) == before
    assert len(await world.twin.list(JOB)) == 1


async def test_who_names_a_resource_is_planned_again_when_the_operator_itself_moved_it() -> None:
    seen: list[str | None] = []

    def watch_the_job(owner: Object, observation: Observation) -> Plan:
        job = observation.view.get(TRAINING_JOB, owner["metadata"]["namespace"], owner["spec"]["model"]["trainingJob"])
        seen.append((job or {}).get("status", {}).get("phase"))
        return Plan()

    world = World({**PLANNERS, MODEL_DEPLOYMENT: watch_the_job})
    operator = await world.operator()
    meta = {"name": "serve", "namespace": "default"}
    spec = {"model": {"trainingJob": "train"}}
    world.twin.add({"apiVersion": API_VERSION, "kind": "ModelDeployment", "metadata": meta, "spec": spec})
    world.twin.add(training_job())
    await operator.settle()
    await world.finish_jobs()
    await operator.settle()
    assert seen[-1] == await world.phase() == "Succeeded"


async def test_a_planner_that_holds_the_loop_is_reported_by_its_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: Any) -> Plan:
        time.sleep(0.03)
        return Plan()

    world = World({TRAINING_JOB: slow})
    operator = await world.operator()
    monkeypatch.setattr(operator.reconciler, "_watchdog", Watchdog(0.01, log=structured_log()))
    world.twin.add(training_job())
    with capture_logs() as logs:
        await operator.settle()
    told = next(one for one in logs if one["event"] == "planning held the loop")
    assert (told["kind"], told["namespace"], told["name"]) == ("TrainingJob", "default", "train")


async def test_a_step_that_was_written_before_a_read_failed_has_its_turn() -> None:
    """No watch reports it: the cache knows it from the answer to the write."""
    planned: list[str] = []

    def plan_owner(obj: Object, _: Observation) -> Plan:
        step = Owner.of(obj).child(STEP, "train-s-1", spec={})
        return Plan(apply=(step,), status={"phase": "Running"})

    def plan_step(obj: Object, _: Observation) -> Plan:
        planned.append(obj["metadata"]["name"])
        return Plan()

    async def conflicts(_number: int, write: Write, call: Callable[[], Awaitable[Any]]) -> Any:
        if write.verb == "patch_status":
            raise Conflict("the status was changed meanwhile")
        return await call()

    async def only_the_first(number: int, _read: Write, call: Callable[[], Awaitable[Any]]) -> Any:
        if number > 1:
            raise ClusterError("the API server does not answer")
        return await call()

    world = World({TRAINING_JOB: plan_owner, STEP: plan_step})
    world.calls.interfere, world.calls.interfere_get = conflicts, only_the_first
    operator = await world.operator()
    world.twin.add(training_job())
    await operator.settle()
    assert planned == ["train-s-1"]
