"""What ends an attempt through no fault of the training: it is not counted, and still has an end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from slipway.api.kinds import JOB, Key, Object, key_of
from support.builders import NAMESPACE, artifact, failed, pod, succeeded, wire_time
from support.training import TrainingWorld, row

MINE = {"image": "mine:1", "entrypoint": {"script": {"path": "/train.py"}}}


def disrupted(world: TrainingWorld, reason: str, message: str = "") -> Object:
    return {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": wire_time(world.now),
    }


def preempted(world: TrainingWorld) -> TrainingWorld:
    return world.job_says("Failed", "PodFailurePolicy")


def next_attempt(world: TrainingWorld) -> timedelta:
    """Wait for the next attempt; how long that took."""
    before, number = world.now, world.attempts[-1]["number"]
    assert world.wake_at is not None
    world.passes(seconds=(world.wake_at - world.now).total_seconds())
    assert world.attempts[-1]["number"] == number + 1, world.says("Ready")
    return world.now - before


# --- Preemption --------------------------------------------------------------------------------------------------


def test_the_wait_after_preemptions_in_a_row_grows_to_five_minutes() -> None:
    world = TrainingWorld(restarts={"max": 0}).plan()
    waits = [next_attempt(preempted(world.pods_run())).total_seconds() for _ in range(8)]
    assert waits == [10, 20, 40, 80, 160, 300, 300, 300]
    assert world.status(world.key)["restarts"] == 0
    assert world.status(world.key)["disruptions"] == 8


def test_a_hundred_preemptions_a_day_are_survived_and_an_attempt_that_ran_long_enough_forgives_them() -> None:
    world = TrainingWorld(restarts={"max": 0}).plan()
    for _ in range(100):
        world.pods_run().passes(minutes=13)
        assert next_attempt(preempted(world)) == timedelta(seconds=10)
    world.pods_run().succeeds()
    assert world.phase == "Succeeded"


def test_preemptions_without_end_end_the_job_and_name_the_field() -> None:
    world = TrainingWorld(restarts={"max": 0, "maxDisruptions": 3}).plan()
    for _ in range(3):
        next_attempt(preempted(world.pods_run()))
    preempted(world.pods_run())
    assert row(world) == ("Failed", {"Stalled", "Failed"})
    assert world.says("Failed").startswith("True DisruptionsExhausted: attempt 4 was preempted")
    assert "(spec.restarts.maxDisruptions: 3)" in world.says("Failed")


def test_by_default_even_constant_preemption_comes_to_an_end() -> None:
    world = TrainingWorld().plan()
    for _ in range(501):
        preempted(world.pods_run())
        if world.phase == "Failed":
            break
        next_attempt(world)
    assert world.phase == "Failed"
    assert len(world.attempts) == 32


# --- Evictions ---------------------------------------------------------------------------------------------------

OWN_EVICTIONS = [
    'Container main exceeded its local ephemeral storage limit "10Gi". ',
    "Pod ephemeral local storage usage exceeds the total limit of containers 10Gi. ",
    'Usage of EmptyDir volume "slipway-tmp" exceeds the limit "1Gi". ',
    "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 900Mi. "
    "Container main was using 40Gi, request is 0, has larger consumption of ephemeral-storage. ",
]


@pytest.mark.parametrize("message", OWN_EVICTIONS)
def test_an_eviction_that_the_pod_caused_itself_counts(message: str) -> None:
    world = TrainingWorld(restarts={"max": 0}).plan().pods_run()
    evicted = pod(world.job(), exit_code=137)
    evicted["status"] |= {"phase": "Failed", "reason": "Evicted", "message": message}
    by_kubelet = "node was low" in message
    if by_kubelet:
        evicted["status"]["conditions"] = [disrupted(world, "TerminationByKubelet", message)]
    world.put(evicted)
    world.job_says("Failed", "PodFailurePolicy" if by_kubelet else "BackoffLimitExceeded")
    assert world.attempts[0]["failure"]["reason"] == "Evicted"
    assert world.attempts[0]["failure"]["message"] == message
    assert world.says("Failed").startswith("True RestartsExhausted: attempt 1 failed: pod 0: Evicted: ")


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("TerminationByKubelet", "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi. "),
        ("TerminationByKubelet", "Pod was terminated in response to imminent node shutdown."),
        ("PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod"),
        ("EvictionByEvictionAPI", "Eviction API: evicting"),
        ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"),
        ("DeletionByPodGC", "PodGC: node no longer exists"),
    ],
)
def test_what_kubernetes_takes_away_for_its_own_reasons_does_not_count(reason: str, message: str) -> None:
    world = TrainingWorld(restarts={"max": 0}).plan().pods_run()
    world.pod_is(0, exit_code=143, conditions=(disrupted(world, reason, message),))
    world.job_says("Failed", "PodFailurePolicy")
    assert (world.attempts[0]["outcome"], world.phase) == ("Preempted", "Restarting")


@pytest.mark.parametrize("reason", ["OutOfcpu", "NodeAffinity", "UnexpectedAdmissionError", "NodeShutdown"])
def test_a_pod_that_the_kubelet_would_not_run_does_not_count(reason: str) -> None:
    world = TrainingWorld(restarts={"max": 0}).plan()
    rejected = pod(world.job(), phase="Failed")
    rejected["status"] |= {"reason": reason, "message": "Pod was rejected"}
    world.put(rejected)
    world.job_says("Failed", "BackoffLimitExceeded")
    assert (world.attempts[0]["outcome"], world.phase) == ("Preempted", "Restarting")
    assert world.attempts[0]["failure"]["reason"] == reason


def test_a_pod_that_was_refused_for_the_pressure_of_its_node_does_not_count() -> None:
    world = TrainingWorld(restarts={"max": 0}).plan()
    rejected = pod(world.job(), phase="Failed")
    rejected["status"] |= {"reason": "Evicted", "message": "The node had condition: [DiskPressure]. "}
    world.put(rejected)
    world.job_says("Failed", "BackoffLimitExceeded")
    assert world.phase == "Restarting"


# --- Pods that never all run -------------------------------------------------------------------------------------

NO_ROOM: dict[str, Any] = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: ...",
}


def half_scheduled(world: TrainingWorld, exception: str = "SlipwayError", *, gone: bool = False) -> None:
    """Pod 0 waits for pod 1 until its timeout."""
    world.pod_is(0, phase="Running").pod_is(1, phase="Pending", conditions=(NO_ROOM,)).plan()
    world.passes(minutes=10)
    last = failed("2 pods did not meet within 600 s", exception=exception, rank=None, at=world.now)
    if "image" in world.objects[world.key]["spec"]:
        world.pod_is(0, exit_code=1, message=f"torch.distributed.elastic.rendezvous.api.{exception}")
    else:
        world.pod_is(0, exit_code=1, message=last)
    if gone:
        world.remove(key_of(pod(world.job(), 1)))
    else:
        world.pod_is(1, phase="Failed")
    world.job_says("Failed", "BackoffLimitExceeded")


@pytest.mark.parametrize("gone", [False, True], ids=["the pod is there", "the pod is gone"])
@pytest.mark.parametrize(
    ("spec", "exception"),
    [({}, "RendezvousTimeout"), ({}, "SlipwayError"), (MINE, "RendezvousTimeoutError")],
    ids=["runtime", "another word for it", "own image"],
)
def test_a_job_whose_pods_never_all_ran_goes_on_uncounted_with_the_pending_pods_own_reason(
    spec: dict[str, Any], exception: str, gone: bool
) -> None:
    world = TrainingWorld(nodes=2, restarts={"max": 1, "backoff": "1s"}, **spec).plan()
    for number in range(1, 5):
        half_scheduled(world, exception, gone=gone)
        assert row(world) == ("Pending", {"Reconciling"})
        assert f"PodsNotRunning: attempt {number} did not start: " in world.says("Reconciling")
        assert "Unschedulable: Insufficient nvidia.com/gpu" in world.says("Reconciling")
        next_attempt(world)
    assert {attempt["outcome"] for attempt in world.attempts[:-1]} == {"NotStarted"}
    assert world.status(world.key)["restarts"] == 0
    assert row(world.pods_run()) == ("Running", {"Reconciling", "Running"})


def test_the_wait_between_attempts_that_did_not_start_grows() -> None:
    world = TrainingWorld(nodes=2).plan()
    waits = []
    for _ in range(7):
        half_scheduled(world)
        waits.append(next_attempt(world).total_seconds())
    assert waits == [10, 20, 40, 80, 160, 300, 300]


def test_pods_that_do_not_run_within_the_time_limit_end_the_job_and_name_the_field() -> None:
    world = TrainingWorld(nodes=2, restarts={"pendingTimeout": "15m"}).plan()
    half_scheduled(world)
    next_attempt(world)
    world.pod_is(0).pod_is(1, phase="Pending", conditions=(NO_ROOM,)).plan()
    while world.phase != "Failed":
        assert world.wake_at is not None
        world.passes(seconds=(world.wake_at - world.now).total_seconds())
    assert world.says("Failed").startswith(
        "True PendingTimeout: the pods did not all run within spec.restarts.pendingTimeout (15m);"
        " attempt 2 did not start"
    )
    assert "Insufficient nvidia.com/gpu" in world.says("Failed")
    assert world.training_jobs() == []


def test_the_time_limit_starts_again_once_all_pods_have_run() -> None:
    world = TrainingWorld(nodes=2, restarts={"pendingTimeout": "15m"}).plan()
    world.passes(minutes=10).pods_run().passes(hours=2)
    world.fails().passes(seconds=10)
    assert world.phase == "Restarting"
    assert world.passes(minutes=14).phase == "Restarting"
    assert world.passes(minutes=1).phase == "Failed"


def test_a_worker_that_fails_at_once_is_not_taken_for_pods_that_did_not_start() -> None:
    world = TrainingWorld(nodes=2).plan()
    world.pod_is(0, exit_code=1, message=failed("no label 11", rank=0, at=world.now))
    world.job_says("Failed", "BackoffLimitExceeded")
    assert world.attempts[0]["outcome"] == "Failed"
    assert world.status(world.key)["restarts"] == 1


def test_pods_that_ran_and_did_not_reach_each_other_count() -> None:
    world = TrainingWorld(nodes=2).plan().pods_run().passes(minutes=10)
    for index in (0, 1):
        last = failed("2 pods did not meet", exception="RendezvousTimeout", rank=None, at=world.now)
        world.pod_is(index, exit_code=1, message=last)
    world.job_says("Failed", "BackoffLimitExceeded")
    assert world.status(world.key)["restarts"] == 1


# --- A lost Node -------------------------------------------------------------------------------------------------


def terminating(world: TrainingWorld, index: int = 0, *, grace_seconds: int = 30) -> None:
    """The taint manager has deleted the pod, and no kubelet answers."""
    made = pod(world.job(), index, conditions=(disrupted(world, "DeletionByTaintManager", "Taint manager: deleting"),))
    made["metadata"]["deletionTimestamp"] = wire_time(world.now + timedelta(seconds=grace_seconds))
    made["spec"]["nodeName"] = "node-7"
    world.put(made)
    world.plan()


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_pod_that_stays_terminating_on_a_dead_node_is_given_up_and_replaced(nodes: int) -> None:
    world = TrainingWorld(nodes=nodes, restarts={"max": 0}).plan().pods_run()
    first = world.attempts[0]["job"]
    terminating(world, nodes - 1)
    assert world.phase == "Running"
    assert world.wake_at == world.now + timedelta(seconds=50)
    world.passes(seconds=50)
    assert (world.attempts[0]["outcome"], world.phase) == ("NodeLost", "Restarting")
    assert "attempt 1 lost a Node: Node node-7 does not answer" in world.says("Running")
    assert "DeletionByTaintManager" in world.says("Running")
    assert first not in world.training_jobs()
    assert next_attempt(world) == timedelta(seconds=10)
    assert world.pods_run().phase == "Running"
    assert world.status(world.key)["restarts"] == 0


def test_a_pod_that_ends_within_its_grace_period_was_preempted() -> None:
    world = TrainingWorld(restarts={"max": 0}).plan().pods_run()
    terminating(world)
    world.now += timedelta(seconds=20)
    world.pod_is(0, exit_code=143, conditions=(disrupted(world, "DeletionByTaintManager"),))
    world.job_says("Failed", "PodFailurePolicy")
    assert world.attempts[0]["outcome"] == "Preempted"


@pytest.mark.parametrize(
    ("status", "grace_seconds"),
    [
        ({"phase": "Unknown"}, 0),
        ({"reason": "NodeLost"}, 0),
        ({"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]}, 300),
        ({"conditions": [{"type": "Ready", "status": "False"}]}, 300),
        ({"conditions": [{"type": "Ready", "status": "False", "reason": "NodeNotReady"}]}, 300),
    ],
)
def test_a_pod_that_tolerates_its_dead_node_for_ever_is_given_up_too(status: Object, grace_seconds: int) -> None:
    world = TrainingWorld(restarts={"max": 0}).plan().pods_run()
    report_missing = pod(world.job())
    report_missing["status"] |= status
    for condition in report_missing["status"]["conditions"]:
        condition["lastTransitionTime"] = wire_time(world.now)
    world.put(report_missing)
    world.plan()
    if grace_seconds:
        assert world.phase == "Running"
        world.passes(seconds=grace_seconds)
    assert (world.attempts[0]["outcome"], world.phase) == ("NodeLost", "Restarting")


@pytest.mark.parametrize("reason", ["ContainersNotReady", "ReadinessGatesNotReady"])
def test_a_pod_that_its_own_kubelet_says_is_not_ready_is_not_lost(reason: str) -> None:
    world = TrainingWorld().plan().pods_run()
    since = wire_time(world.now)
    world.pod_is(
        0, conditions=({"type": "Ready", "status": "False", "reason": reason, "lastTransitionTime": since},)
    ).plan()
    assert world.passes(days=1).phase == "Running"


def test_a_training_that_was_done_when_another_pod_was_lost_is_done() -> None:
    world = TrainingWorld(nodes=2).plan().pods_run()
    world.pod_is(0, exit_code=0, message=succeeded(artifact("trained", folder="training/uid-of-digits/1")))
    terminating(world, 1)
    assert world.passes(minutes=1).phase == "Succeeded"


def test_a_node_lost_again_and_again_is_bounded_like_preemption() -> None:
    world = TrainingWorld(restarts={"max": 0, "maxDisruptions": 1}).plan().pods_run()
    terminating(world)
    world.passes(seconds=50)
    next_attempt(world)
    world.pods_run()
    terminating(world)
    world.passes(seconds=50)
    assert world.says("Failed").startswith("True DisruptionsExhausted: attempt 2 lost a Node")


def test_a_lost_node_counts_where_the_user_counts_preemption() -> None:
    world = TrainingWorld(restarts={"max": 0, "ignorePreemption": False}).plan().pods_run()
    terminating(world)
    assert world.passes(seconds=50).says("Failed").startswith("True RestartsExhausted")


def test_a_lost_pod_that_reads_a_report_again_is_replaced() -> None:
    world = TrainingWorld().plan().pods_run().vanishes()
    name = f"{world.attempts[0]['job']}-q1"
    reader = pod(world.objects[Key(JOB, NAMESPACE, name)])
    reader["metadata"]["deletionTimestamp"] = wire_time(world.now)
    world.put(reader)
    world.passes(minutes=1)
    assert world.attempts[0]["recoveries"] == 2
    assert world.names(JOB, "recover") == [f"{world.attempts[0]['job']}-q2"]
