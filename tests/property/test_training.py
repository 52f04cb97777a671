"""Laws of the TrainingJob's planner, whatever happens around it and whenever the operator dies."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway.api.kinds import JOB, NETWORK_POLICY, SERVICE, TRAINING_JOB, Key, Object, key_of
from slipway.api.trainingjob import TrainingJobStatus
from slipway.plan.jobs.pods import index_of
from slipway.plan.plan import Plan
from slipway.reconcile.drift import in_sync
from support.builders import NAMESPACE, failed, pod, pool, resource, store, wire_time
from support.full_objects import pod_template
from support.restricted import breaches
from support.training import TrainingWorld, row
from support.world import task_of

ROWS = [
    ("Pending", {"Reconciling"}),
    ("Suspended", set()),
    ("Running", {"Reconciling", "Running"}),
    ("Restarting", {"Reconciling"}),
    ("Succeeded", {"Ready", "Complete"}),
    ("Failed", {"Stalled", "Failed"}),
]


class Watched(TrainingWorld):
    """Holds every write to the laws at the moment it is made."""

    def __init__(self, *objects: Object, **spec: Any) -> None:
        super().__init__(*objects, **spec)
        self.ended: dict[int, Object] = {}
        self.known: dict[str, str] = {}  # UIDs of Jobs as they were first recorded
        self.most_restarts = spec["restarts"]["max"]

    def _log(self, verb: str, obj: Object) -> None:
        super()._log(verb, obj)
        if (verb, obj["kind"]) == ("create", "Job"):
            self._recorded_first(obj)
            # A Job that a user deletes before its UID could be recorded leaves no trace: then it is made again.
            assert obj["metadata"]["name"] not in self.known, "a Job whose UID was recorded was made again"
            assert breaches(obj["spec"]["template"]["spec"]) == []

    def remove_pods(self, job: Object, index: int) -> None:
        for one in [one for one in self.pods_of(job) if index_of(one) == index]:
            self.remove(key_of(one))

    def _recorded_first(self, job: Object) -> None:
        if "slipway.dev/step" in job["metadata"]["labels"]:
            return
        name, status = job["metadata"]["name"], TrainingJobStatus.model_validate(self.status(self.key))
        intents = {attempt.job for attempt in status.attempts if attempt.job_uid is None and attempt.outcome is None}
        intents |= {f"{one.job}-q{one.recoveries}" for one in status.attempts if one.recoveries}
        intents |= {lost.job for one in status.attempts[-1:] if not one.outcome for lost in one.replacements or ()}
        assert name in intents, f"{name} was made before it was recorded"
        assert status.finished_at is None, "a job that is over made a child"

    def set_status(self, key: Key, status: Object) -> None:
        if key.kind == TRAINING_JOB:
            self._lawful(TrainingJobStatus.model_validate(status))
        super().set_status(key, status)

    def _lawful(self, status: TrainingJobStatus) -> None:
        attempts = status.attempts
        assert sum(attempt.outcome is None for attempt in attempts) <= 1
        assert all(attempt.outcome is not None for attempt in attempts[:-1])
        numbers = [attempt.number for attempt in attempts]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
        assert status.restarts <= self.most_restarts + 1
        for one in (*attempts, *(lost for attempt in attempts for lost in attempt.replacements or ())):
            if one.job_uid is not None:
                assert self.known.setdefault(one.job, one.job_uid) == one.job_uid
        for attempt in attempts:
            recorded = self.ended.setdefault(attempt.number, attempt.to_wire()) if attempt.outcome else None
            assert recorded in (None, attempt.to_wire()), "a recorded end was changed"


def nothing(plan: Plan, world: Watched) -> bool:
    """Return True if the plan writes nothing in this world."""
    applied = all(in_sync(world.objects[key_of(obj)], obj) for obj in plan.apply if key_of(obj) in world.objects)
    made = all(key_of(obj) in world.objects for obj in plan.apply)
    return not plan.create and not plan.delete and plan.status is None and not plan.events and applied and made


def at_rest(world: Watched) -> None:
    world.settle(world.key)
    plan = world.planner(world.objects[world.key], world.observation())
    assert nothing(plan, world), plan
    assert plan.wake_at is None or plan.wake_at > world.now, "it would be planned again without end"
    assert row(world) in ROWS
    status = world.status(world.key)
    assert status["observedGeneration"] == world.objects[world.key]["metadata"]["generation"]
    for kind in (SERVICE, NETWORK_POLICY):
        assert set(world.names(kind, "train")) <= ({world.peers} if status["attempts"] else set())
    wanted = {one["job"] for attempt in status["attempts"] for one in attempt.get("replacements", ())}
    assert len([name for name in world.training_jobs() if "-i" not in name]) <= 2
    assert {name for name in world.training_jobs() if "-i" in name} <= wanted


# --- What may happen; each does nothing where it does not apply --------------------------------------------------


def with_job(happen: Callable[[Watched, Object], object]) -> Callable[[Watched], None]:
    """Something happens to the newest attempt's Job, while it is not over."""

    def action(world: Watched) -> None:
        attempts = world.status(world.key).get("attempts") or [{}]
        job = world.objects.get(Key(JOB, NAMESPACE, attempts[-1].get("job", "")))
        if job is not None and not job["status" if "status" in job else "metadata"].get("conditions"):
            happen(world, job)

    return action


def one_pod(world: Watched, job: Object) -> None:
    world.put(pod(job, 0))


def lost_pods(world: Watched, job: Object) -> None:
    for one in world.pods_of(job):
        world.remove(key_of(one))
    world.job_says("Failed", "BackoffLimitExceeded")


def lost_success(world: Watched, job: Object) -> None:
    for one in world.pods_of(job):
        world.remove(key_of(one))
    world.job_says("Complete")


def disruption(world: Watched, job: Object) -> None:
    target = {"type": "DisruptionTarget", "status": "True", "reason": "X", "lastTransitionTime": wire_time(world.now)}
    world.put(pod(job, 0, conditions=(target,)))


def lost_node(world: Watched, job: Object) -> None:
    """A pod stays Terminating: its grace period was over an hour ago."""
    lost = pod(job, 0)
    lost["metadata"]["deletionTimestamp"] = wire_time(world.now - timedelta(hours=1))
    world.put(lost)


def lost_index(world: Watched, job: Object) -> None:
    """The last pod was taken away."""
    last = job["spec"]["completions"] - 1
    if last == 0:
        return
    world.remove_pods(job, last)
    world.index_fails(last)


def of_replacement(happen: Callable[[Watched, Object, int], object]) -> Callable[[Watched], None]:
    """Something happens to the replacement of the newest attempt, if its Job is made and not over."""

    def action(world: Watched) -> None:
        attempts = world.status(world.key).get("attempts") or [{}]
        for one in attempts[-1].get("replacements", ()):
            job = world.objects.get(Key(JOB, NAMESPACE, one["job"]))
            if job is not None and not job.get("status", {}).get("conditions"):
                happen(world, job, one["index"])

    return action


def replacement_lost(world: Watched, job: Object, index: int) -> None:
    world.remove_pods(job, index)
    world.ends(job, "Failed", "PodFailurePolicy")


def replacement_fails(world: Watched, job: Object, index: int) -> None:
    world.put(pod(job, index, exit_code=1, message=failed("boom", rank=index, at=world.now)))
    world.ends(job, "Failed", "BackoffLimitExceeded")


def replacement_vanishes(world: Watched, job: Object, _index: int) -> None:
    world.remove(key_of(job))
    world.plan()


def no_room(world: Watched, job: Object) -> None:
    """The last pod is Pending, and the first gives up waiting for it."""
    world.put(pod(job, job["spec"]["completions"] - 1, phase="Pending"))
    if job["spec"]["completions"] > 1:
        last = failed("did not meet", exception="RendezvousTimeout", rank=None, at=world.now)
        world.pod_is(0, exit_code=1, message=last)
        world.job_says("Failed", "BackoffLimitExceeded")


def tasks_end_well(world: Watched) -> None:
    for job in world.running_jobs():
        if job["metadata"]["labels"]["slipway.dev/role"] != "train":
            world._end(job, world.behaviour(task_of(job), job) or {})


def tasks_fail(world: Watched) -> None:
    for job in world.running_jobs():
        if job["metadata"]["labels"]["slipway.dev/role"] != "train":
            world._end(job, failed("no space left"))


def toggled(world: Watched, *objects: Object) -> None:
    for obj in objects:
        if key_of(obj) in world.objects:
            world.remove(key_of(obj))
        else:
            world.put(obj)


def foreign_services(world: Watched) -> list[Object]:
    services = [obj for key, obj in world.objects.items() if key.kind == SERVICE]
    return [obj for obj in services if "ownerReferences" not in obj["metadata"]]


def namesake(world: Watched) -> None:
    """Another user takes, or gives back, the name of the Service, where it is not made yet."""
    theirs = [
        obj for key, obj in world.objects.items() if key.kind == SERVICE and "ownerReferences" not in obj["metadata"]
    ]
    attempts = world.status(world.key).get("attempts") or []
    if theirs or not attempts:
        toggled(world, *theirs)
        return
    name = world.peers
    if Key(SERVICE, NAMESPACE, name) not in world.objects:
        world.put(resource(SERVICE, name, uid=f"uid-of-{name}"))


def cluttered(world: Watched) -> None:
    """A child of the open attempt is deleted by a user."""
    for key in [key for key in world.objects if key.kind == NETWORK_POLICY]:
        world.remove(key)


def suspended_or_resumed(world: Watched) -> None:
    world.edit(world.key, lambda spec: spec.update(suspend=not spec.get("suspend", False)))


def put(obj: Object) -> Callable[[Watched], None]:
    def action(world: Watched) -> None:
        world.put(obj)

    return action


def edit(**spec: Any) -> Callable[[Watched], None]:
    return lambda world: world.edit(world.key, lambda present: present.update(spec))


def time(**passed: float) -> Callable[[Watched], None]:
    def action(world: Watched) -> None:
        world.now += timedelta(**passed)

    return action


def dies(after: int) -> Callable[[Watched], None]:
    return lambda world: world.settle(world.key, after)


ACTIONS: dict[str, Callable[[Watched], None]] = {
    "all pods run": with_job(lambda world, _: world.pods_run()),
    "one pod runs": with_job(one_pod),
    "success": with_job(lambda world, _: world.succeeds()),
    "failure": with_job(lambda world, _: world.fails()),
    "failure of the second pod": with_job(lambda world, job: world.fails(rank=job["spec"]["completions"] - 1)),
    "preemption": with_job(lambda world, _: world.job_says("Failed", "PodFailurePolicy")),
    "a disruption": with_job(disruption),
    "a failing job that does not end": with_job(lambda world, _: world.job_says("FailureTarget")),
    "failure, the pods gone": with_job(lost_pods),
    "success, the pods gone": with_job(lost_success),
    "the job vanishes": with_job(lambda world, _: world.vanishes()),
    "a node is lost": with_job(lost_node),
    "an index is lost": with_job(lost_index),
    "a replacement runs": of_replacement(lambda world, job, index: world.put(pod(job, index))),
    "a replacement is lost": of_replacement(replacement_lost),
    "a replacement fails": of_replacement(replacement_fails),
    "a replacement vanishes": of_replacement(replacement_vanishes),
    "no room for a pod": with_job(no_room),
    "tasks end well": tasks_end_well,
    "tasks fail": tasks_fail,
    "suspended or resumed": suspended_or_resumed,
    "one node": edit(nodes=1),
    "three nodes": edit(nodes=3),
    "a deadline": edit(activeDeadline="2h"),
    "a TTL": edit(ttlAfterFinished="1h"),
    "the store comes or goes": lambda world: toggled(world, store()),
    "the pool comes or goes": lambda world: toggled(world, pool()),
    "the store is not ready": put(store(ready=False)),
    "the store is ready": put(store()),
    "a name is taken or given back": namesake,
    "a child is deleted": cluttered,
    "ten seconds": time(seconds=10),
    "two minutes": time(minutes=2),
    "an hour": time(hours=1),
    "the operator dies after 1 write": dies(1),
    "the operator dies after 2 writes": dies(2),
    "the operator dies after 4 writes": dies(4),
}
COMMON = [
    *(
        "a node is lost",
        "no room for a pod",
        "an index is lost",
        "all pods run",
        "tasks end well",
        "failure",
        "failure, the pods gone",
        "preemption",
        "the job vanishes",
    ),
    *("success", "ten seconds", "an hour"),
]
ACTION = st.sampled_from(sorted(ACTIONS)) | st.sampled_from(COMMON)
STEPS = st.lists(st.tuples(ACTION, st.booleans()), min_size=6, max_size=30)
"""What happens, and whether the operator is there to see it before the next thing happens."""
SPECS = st.fixed_dictionaries(
    {
        "nodes": st.integers(1, 2),
        "restarts": st.fixed_dictionaries(
            {
                "max": st.integers(0, 2),
                "backoff": st.sampled_from(["0s", "10s", "1h"]),
                "ignorePreemption": st.booleans(),
            }
        ),
        "data": st.sampled_from([[], [], [{"name": "train", "dataset": "digits"}]]),
        "pools": st.sampled_from([[], ["h100"]]),
        "image": st.just("mine:1"),
        "entrypoint": st.just({"module": {"name": "mine.train"}}),
    },
    optional={"podTemplate": st.just(pod_template()), "resources": st.just({"cpu": "1500m", "memory": "2048Mi"})},
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spec=SPECS, own_image=st.booleans(), steps=STEPS)
def test_the_laws_hold_whatever_happens(spec: dict[str, Any], own_image: bool, steps: list[tuple[str, bool]]) -> None:
    if not own_image:
        del spec["image"]
    world = Watched(pool(), **spec)
    at_rest(world)
    for name, operator_runs in steps:
        world.operator_runs = operator_runs
        ACTIONS[name](world)
        if operator_runs:
            at_rest(world)
    at_rest(world)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spec=SPECS, steps=STEPS)
def test_whatever_happened_a_job_that_is_let_alone_comes_to_an_end(
    spec: dict[str, Any], steps: list[tuple[str, bool]]
) -> None:
    """Once nothing stands in its way any more, it succeeds, or says why it does not."""
    world = Watched(pool(), **spec)
    for name, operator_runs in steps:
        world.operator_runs = operator_runs
        ACTIONS[name](world)
    world.operator_runs = True
    for obj in (store(), pool()):
        world.put(obj)
    namesakes = [
        key for key, obj in world.objects.items() if key.kind == SERVICE and "ownerReferences" not in obj["metadata"]
    ]
    for key in namesakes:
        world.remove(key)
    world.edit(world.key, lambda present: present.update(suspend=False))
    for _ in range(20):
        at_rest(world)
        if world.phase in ("Succeeded", "Failed"):
            return
        tasks_end_well(world)
        ACTIONS["all pods run"](world)
        ACTIONS["success"](world)
        world.now += timedelta(hours=1)
    raise AssertionError(world.status(world.key))
