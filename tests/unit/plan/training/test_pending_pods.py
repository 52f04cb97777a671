"""Why pods do not run, told once it takes too long."""

from __future__ import annotations

from datetime import timedelta

import pytest

from slipway.api.kinds import Object, key_of
from slipway.plan.jobs.pending import PENDING_GRACE, pending_reason
from support.builders import bucket_store, job, pod
from support.training import TrainingWorld, row


def waiting(reason: str, message: str = "", image: str = "mine:1") -> Object:
    made = pod(job(), phase="Pending")
    state = {"waiting": {"reason": reason, "message": message}}
    made["status"]["containerStatuses"] = [{"name": "main", "image": image, "state": state}]
    return made


def injected(state: Object, *, phase: str = "Pending", image: str = "mesh:1") -> Object:
    """A pod that a webhook gave an init container, for which the main one waits."""
    made = waiting("PodInitializing")
    made["status"] |= {"phase": phase, "initContainerStatuses": [{"name": "agent", "image": image, "state": state}]}
    return made


def unscheduled(message: str) -> Object:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return pod(job(), phase="Pending", conditions=(condition,))


@pytest.mark.parametrize(
    ("pods", "said"),
    [
        ([], "0 of 2 pods run; 2 are not created; see the events of the Job"),
        ([pod(job(), 0)], "1 of 2 pods run; 1 are not created; see the events of the Job"),
        (
            [pod(job(), 0), waiting("ContainerCreating")],
            "1 of 2 pods run; ContainerCreating: its image, volumes or network are not ready;"
            " see the events of the pod",
        ),
        ([pod(job(), 0), waiting("ImagePullBackOff", "Back-off")], "1 of 2 pods run; ImagePullBackOff: mine:1"),
        ([pod(job(), 0), waiting("ErrImagePull", "rpc error")], "1 of 2 pods run; ImagePullBackOff: mine:1"),
        (
            [waiting("CreateContainerConfigError", 'secret "hub" not found'), waiting("PodInitializing")],
            '0 of 2 pods run; CreateContainerConfigError: secret "hub" not found',
        ),
        (
            [injected({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off"}})],
            "0 of 2 pods run; init container agent: ImagePullBackOff: mesh:1",
        ),
        ([injected({"running": {}}), pod(job(), 1)], "1 of 2 pods run"),
        (
            [
                unscheduled(
                    "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient nvidia.com/gpu."
                    " no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful."
                ),
                pod(job(), 1),
            ],
            "1 of 2 pods run; Unschedulable: node(s) had untolerated taint(s), Insufficient nvidia.com/gpu",
        ),
    ],
    ids=[
        "no pods",
        "a pod too few",
        "creating",
        "pull",
        "the same pull",
        "a missing Secret",
        "injected",
        "starts",
        "no room",
    ],
)
def test_why(pods: list[Object], said: str) -> None:
    assert pending_reason(pods, 2) == said


def test_the_stores_own_secret_is_named_by_its_field() -> None:
    world = TrainingWorld(bucket_store()).plan()
    missing = {"reason": "CreateContainerConfigError", "message": 'secret "keys" not found'}
    waits = pod(world.job(), phase="Pending")
    waits["status"]["containerStatuses"] = [{"name": "main", "state": {"waiting": missing}}]
    world.put(waits)
    world.passes(seconds=PENDING_GRACE.total_seconds())
    assert 'spec.s3.secretRef of the ArtifactStore: secret "keys" not found; create' in world.says("Ready")


def test_pods_that_take_long_are_reported_until_they_run() -> None:
    world = TrainingWorld().plan()
    assert world.wake_at == world.now + PENDING_GRACE
    no_room = unscheduled("0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: ...")
    world.put({**pod(world.job()), "status": no_room["status"]})
    world.passes(seconds=59)
    assert world.says("Ready").startswith("False Starting")
    world.passes(seconds=1)
    assert row(world) == ("Pending", {"Reconciling"})
    assert world.says("Ready") == (
        "False PodsNotRunning: attempt 1: 0 of 1 pods run; Unschedulable: Insufficient nvidia.com/gpu"
    )
    writes = len(world.writes)
    world.passes(minutes=30)
    assert len(world.writes) == writes
    world.remove(key_of(no_room | {"metadata": pod(world.job())["metadata"]}))
    assert world.pods_run().phase == "Running"


def test_the_deadline_holds_for_pods_that_never_run() -> None:
    world = TrainingWorld(activeDeadline="10m").plan().passes(minutes=2)
    assert world.wake_at == world.now + timedelta(minutes=8)
    assert world.passes(minutes=8).phase == "Failed"


BUILT_IN = [{"name": "train", "dataset": "digits"}]


@pytest.mark.parametrize("task", ["prepare", "seal", "recover"])
def test_pods_that_do_not_run_are_reported_with_their_reason_whatever_made_them(task: str) -> None:
    mine = {"image": "mine:1", "entrypoint": {"module": {"name": "mine"}}}
    world = TrainingWorld(**{"prepare": {"data": BUILT_IN}, "seal": mine, "recover": {}}[task]).plan()
    if task == "seal":
        world.pods_run().succeeds()
    if task == "recover":
        world.pods_run().vanishes()
    (job,) = world.running_jobs()
    no_room = unscheduled("0/1 nodes are available: 1 Insufficient cpu. preemption: ...")
    world.put({**pod(job), "status": no_room["status"]})
    world.passes(seconds=PENDING_GRACE.total_seconds())
    assert "Unschedulable: Insufficient cpu" in world.says("Ready")
    writes = len(world.writes)
    world.passes(hours=1)
    assert len(world.writes) == writes


def test_pods_that_come_up_one_by_one_do_not_cost_a_write_each() -> None:
    world = TrainingWorld(nodes=200).plan()
    for index in range(200):
        world.put(pod(world.job(), index, phase="Pending"))
    world.passes(seconds=61)
    before = len(world.writes)
    for index in range(200):
        world.put(pod(world.job(), index))
        world.plan()
    assert len(world.writes) - before <= 2
    assert world.phase == "Running"


@pytest.mark.parametrize("seconds_a_pod", [1, 3, 10])
def test_the_life_of_a_job_of_two_hundred_pods_costs_fourteen_writes_at_most(seconds_a_pod: int) -> None:
    world = TrainingWorld(nodes=200).plan()
    reasons = [waiting("ErrImagePull"), waiting("ContainerCreating"), unscheduled("0/9 nodes are available: 9 x.")]
    for index in range(200):
        world.put({**pod(world.job(), index), "status": reasons[index % 3]["status"]})
    for index in range(200):
        world.passes(seconds=seconds_a_pod)
        world.put(pod(world.job(), index))
        world.plan()
    world.passes(minutes=5)
    for index in range(200):
        world.pod_is(index, exit_code=0).plan()
    world.succeeds()
    assert world.phase == "Succeeded"
    assert len(world.writes) + len(world.events) <= 14, world.writes


def test_an_attempt_that_ended_waits_for_nothing() -> None:
    world = TrainingWorld(nodes=2).plan().passes(seconds=PENDING_GRACE.total_seconds() + 1).plan()
    assert "are not created" in world.attempts[0]["pendingReason"]
    world.succeeds()  # between two looks: that they ran was never seen
    assert world.attempts[0]["outcome"] == "Succeeded"
    assert not {"pendingReason", "pendingObservedAt"} & world.attempts[0].keys()
