"""Tasks whose pods, Nodes or inputs are lost: they go on, say so, and come to an end."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from slipway.api.kinds import JOB, Key, Object, key_of
from slipway.plan.jobs.outcomes import is_over
from support.builders import NAMESPACE, failed, model_deployment, pod, wire_time
from support.deployments import DIGITS, raising, until, world_with
from support.world import Behaviour, World, does_its_work, task_of


def running_job(world: World) -> Object:
    (job,) = [job for job in world._sorted(JOB) if not is_over(job)]
    return job


def says(world: World, kind: str = "Ready") -> str:
    return world.condition(DIGITS, kind)[2]


def preempt(world: World) -> None:
    condition = {
        "type": "Failed",
        "status": "True",
        "reason": "PodFailurePolicy",
        "lastTransitionTime": wire_time(world.now),
    }
    world.set_status(key_of(running_job(world)), {"conditions": [condition]})
    world.settle(DIGITS)


def pruning() -> World:
    """A step of this deployment runs."""
    world = world_with()
    world.behaviour = until("prune-structured")
    world.run(DIGITS)
    return world


def test_a_step_that_is_preempted_again_and_again_goes_on_with_growing_waits_and_says_so() -> None:
    world, waits = pruning(), []
    for tries in range(1, 10):
        preempt(world)
        assert world.condition(DIGITS, "Reconciling")[0] == "True"
        assert f"(try {tries} ended: Preempted" in says(world)
        assert f"try {tries + 1} starts at " in says(world)
        assert world.wake_at is not None
        waits.append((world.wake_at - world.now).total_seconds())
        world.now = world.wake_at
        world.settle(DIGITS)
    assert waits == [10, 20, 40, 80, 160, 320, 640, 960, 960]
    world.behaviour = does_its_work
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready"


def test_jobs_of_preempted_tries_are_not_left_behind() -> None:
    world = pruning()
    for _ in range(6):
        preempt(world)
        assert world.wake_at is not None
        world.now = world.wake_at
        world.settle(DIGITS)
    assert len([job for job in world._sorted(JOB) if task_of(job).get("entryPoint") == "prune-structured"]) == 1


def test_a_step_that_ran_for_long_is_tried_again_soon_however_often_it_was_preempted() -> None:
    world = pruning()
    for _ in range(5):
        world.now += timedelta(hours=2)
        preempt(world)
        assert world.wake_at == world.now + timedelta(seconds=10)
        world.now = world.wake_at
        world.settle(DIGITS)


def test_a_step_whose_pod_is_lost_with_its_node_runs_again_elsewhere() -> None:
    world = pruning()
    job = running_job(world)
    lost = pod(job)
    lost["metadata"]["deletionTimestamp"] = wire_time(world.now + timedelta(seconds=30))
    world.put(lost)
    world.settle(DIGITS)
    assert world.wake_at == world.now + timedelta(seconds=50)
    world.now = world.wake_at
    world.settle(DIGITS)
    assert "NodeLost: its Node does not answer" in says(world)
    assert key_of(job) not in world.objects
    world.now += timedelta(seconds=10)
    world.behaviour = does_its_work
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready"


def test_a_step_whose_image_has_no_name_fails_at_once() -> None:
    world = pruning()
    job = running_job(world)
    waits = pod(job, phase="Pending")
    state = {"waiting": {"reason": "InvalidImageName", "message": "invalid reference format"}}
    waits["status"]["containerStatuses"] = [{"name": "main", "state": state}]
    world.put(waits)
    world.settle(DIGITS)
    assert world.condition(DIGITS, "Stalled")[:2] == ("True", "StepFailed")
    assert "InvalidImageName: invalid reference format" in says(world)
    assert key_of(job) not in world.objects


@pytest.mark.parametrize("exception", ["ContractError", "PluginError", "ImportError", "ValueError", "OutputError"])
def test_a_step_that_fails_by_itself_is_not_tried_again(exception: str) -> None:
    world = world_with()
    world.behaviour = raising("prune-structured", "no", exception)
    world.run(DIGITS)
    world.now += timedelta(days=3)
    world.run(DIGITS)
    assert world.condition(DIGITS, "Stalled")[:2] == ("True", "StepFailed")
    assert [task["tries"] for task in world.steps() if "step-0" in task["name"]] == [1]


def test_a_step_whose_input_was_altered_says_so_and_goes_on_when_it_is_put_back() -> None:
    world = world_with()
    world.behaviour = raising("prune-structured", "weights have other bytes", "ArtifactError")
    world.run(DIGITS)
    assert world.condition(DIGITS, "Stalled")[:2] == ("True", "StepFailed")
    assert says(world).endswith("weights have other bytes; Slipway retries within 16 minutes")
    world.behaviour = does_its_work
    assert world.wake_at is not None
    world.now = world.wake_at
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready"


def test_a_pod_that_is_never_seen_to_end_holds_up_no_task() -> None:
    world = pruning()
    job = running_job(world)
    world.put(pod(job, phase="Pending"))
    condition = {
        "type": "Failed",
        "status": "True",
        "reason": "BackoffLimitExceeded",
        "lastTransitionTime": wire_time(world.now),
    }
    world.set_status(key_of(job), {"conditions": [condition]})
    world.settle(DIGITS)
    asked, before = f"{job['metadata']['name']}-q1", world.now
    while world.wake_at is not None and Key(JOB, NAMESPACE, asked) not in world.objects:
        world.now = world.wake_at
        world.settle(DIGITS)
    assert world.now - before < timedelta(minutes=3), "its report is looked for in the store"


# --- Inputs that the store has lost ------------------------------------------------------------------------------


class ForgetfulStore:
    """Pods find their inputs unless they were lost, and then report so; what they make is there again."""

    def __init__(self) -> None:
        self.lost: set[str] = set()
        self.made: dict[str, str] = {}
        self.ran: list[str] = []

    def __call__(self, task: Object, job: Object) -> Object | None:
        role = job["metadata"]["labels"]["slipway.dev/role"]
        self.ran.append(role)
        for digest in digests(task):
            if digest in self.lost:
                report = failed(f"there is no artifact of {digest}", exception="InputMissing", rank=None)
                report["error"]["missing"] = digest
                return report
        report = does_its_work(task, job)
        if report and "artifact" in report:
            self.made[role] = report["artifact"]["digest"]
            self.lost.discard(report["artifact"]["digest"])
        return report


def digests(task: Object) -> list[str]:
    refs = [*task.values(), *((task.get("data") or {}).values() if isinstance(task.get("data"), dict) else ())]
    return [ref["digest"] for ref in refs if isinstance(ref, dict) and "digest" in ref]


def until_quantized(pods: ForgetfulStore) -> Behaviour:
    """The same, but the second step runs on."""
    return lambda task, job: None if task.get("entryPoint") == "quantize-int8" else pods(task, job)


def test_what_the_store_has_lost_is_made_again_by_the_steps_that_made_it() -> None:
    world, pods = world_with(), ForgetfulStore()
    world.behaviour = until_quantized(pods)
    world.run(DIGITS)
    pods.lost = set(pods.made.values())  # the claim was made again: nothing is left
    pods.ran.clear()
    world.behaviour = pods
    for _ in range(30):
        world.run(DIGITS)
        if world.wake_at is None:
            break
        world.now = world.wake_at
    assert world.status(DIGITS)["phase"] == "Ready", says(world)
    assert pods.ran.count("prepare-train") == 1
    assert "step-0-prune-structured" in pods.ran


def test_an_artifact_that_is_lost_each_time_it_is_made_stalls_the_deployment_in_the_end() -> None:
    world, pods = world_with(), ForgetfulStore()

    def forgets(task: Object, job: Object) -> Object | None:
        report = pods(task, job)
        pods.lost = {digest for role, digest in pods.made.items() if role == "step-0-prune-structured"}
        return report

    world.behaviour = forgets
    for _ in range(40):
        world.run(DIGITS)
        if world.condition(DIGITS, "Stalled")[0] == "True" or world.wake_at is None:
            break
        world.now = world.wake_at
    assert world.condition(DIGITS, "Stalled")[:2] == ("True", "StepFailed")
    assert "InputMissing: there is no artifact" in says(world)
    assert pods.ran.count("step-0-prune-structured") == 6


def test_a_stored_model_that_is_missing_stalls_the_deployment_until_it_is_put_back() -> None:
    given = {"stored": {"uri": "store:///models/mine", "digest": "sha256:" + "b" * 64, "state": "module"}}
    world, pods = world_with(model_deployment(model=given, steps=())), ForgetfulStore()
    pods.lost = {given["stored"]["digest"]}
    world.behaviour = pods
    world.run(DIGITS)
    assert world.condition(DIGITS, "Stalled")[:2] == ("True", "StepFailed")
    assert "InputMissing: there is no artifact" in says(world)
    assert "restore the artifact in the store" in says(world)
    pods.lost.clear()
    assert world.wake_at is not None
    world.now = world.wake_at
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready"


# --- A repository that serving pods do not find ------------------------------------------------------------------


def misses_its_repository(world: World) -> Object:
    """A serving pod that was moved to another node, and does not find what it is to serve."""
    (revision,) = world.status(DIGITS)["revisions"]
    digest = revision["repository"]["digest"]
    report = failed(f"there is no artifact of {digest}", exception="InputMissing", rank=None)
    report["error"]["missing"] = digest
    ended = {"exitCode": 1, "message": json.dumps(report), "finishedAt": wire_time(world.now)}
    status = {
        "phase": "Pending",
        "initContainerStatuses": [{"name": "fetch", "ready": False, "state": {"terminated": ended}}],
    }
    labels = {"slipway.dev/revision": revision["name"], "slipway.dev/model-deployment": "digits"}
    metadata = {"name": f"{revision['name']}-x", "namespace": NAMESPACE, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": status}


def served_and_lost(behaviour: Callable[[ForgetfulStore], Behaviour]) -> tuple[World, ForgetfulStore]:
    """It served; then its claim was made again, and a pod starts."""
    world, pods = world_with(), ForgetfulStore()
    world.behaviour = pods
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready"
    pods.lost = set(pods.made.values())
    pods.ran.clear()
    world.behaviour = behaviour(pods)
    world.now += timedelta(hours=1)
    world.gets_ready = lambda _: False
    world.put(misses_its_repository(world))
    return world, pods


def go_on(world: World) -> None:
    for _ in range(30):
        world.run(DIGITS)
        if world.wake_at is None:
            return
        world.now = world.wake_at


def test_a_lost_repository_is_packed_again_from_steps_that_run_again_and_serves() -> None:
    world, pods = served_and_lost(lambda pods: pods)
    (before,) = world.status(DIGITS)["revisions"]
    world.settle(DIGITS)
    assert world.condition(DIGITS, "Stalled")[0] == "False"
    go_on(world)
    assert {"prepare-evaluation", "step-0-prune-structured", "package"} <= set(pods.ran)
    assert world.condition(DIGITS, "Stalled")[0] == "False"
    assert "did not find the repository, which was packed again since" in says(world)
    packed = pods.ran.count("package")
    world.gets_ready = lambda _: True
    world.remove(key_of(misses_its_repository(world)))
    go_on(world)
    assert world.status(DIGITS)["phase"] == "Ready"
    (after,) = world.status(DIGITS)["revisions"]
    assert (after["repository"], after["gate"], after["model"]) == (
        before["repository"],
        before["gate"],
        before["model"],
    )
    assert pods.ran.count("package") == packed


def test_a_repository_that_comes_out_differently_takes_nobodys_place() -> None:
    def other_steps(pods: ForgetfulStore) -> Behaviour:
        def behaves(task: Object, job: Object) -> Object | None:
            report = pods(task, job)
            if report and task.get("entryPoint") == "prune-structured" and "artifact" in report:
                report["artifact"]["digest"] = "sha256:" + "7" * 64
            return report

        return behaves

    world, _ = served_and_lost(other_steps)
    (before,) = world.status(DIGITS)["revisions"]
    go_on(world)
    assert world.condition(DIGITS, "Stalled")[:2] == ("True", "RepositoryChanged")
    assert "change spec.compression.seed" in says(world)
    (after,) = world.status(DIGITS)["revisions"]
    assert after["repository"] == before["repository"]


# --- Pods that do not run ----------------------------------------------------------------------------------------

NO_ROOM = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient memory. preemption: ...",
}


def test_the_pod_that_reads_a_report_again_is_reported_when_it_does_not_run() -> None:
    world = pruning()
    world.remove(key_of(running_job(world)))
    world.settle(DIGITS)
    world.put(pod(running_job(world), phase="Pending", conditions=(NO_ROOM,)))
    world.now += timedelta(seconds=61)
    world.settle(DIGITS)
    assert "0 of 1 pods run; Unschedulable: Insufficient memory" in says(world)
