"""What the pod of a Step has from the spec of its owner."""

from __future__ import annotations

import re
from datetime import timedelta

from slipway.api.kinds import JOB, STEP, Object, key_of
from slipway.api.tasks import MODEL_BYTES
from slipway.plan.steps.request import retry_of
from support.builders import HELD_OUT, NAMESPACE, PRUNE, pod, pool, wire_time
from support.deployments import DIGITS, served, until, world_with
from support.training import TrainingWorld
from support.world import World, does_its_work

TOLERATION = {"key": "slow", "operator": "Exists"}


def ready(*objects: Object, **spec: object) -> World:
    world = world_with(*objects, **spec)
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready"
    return world


def job_of(world: World, role: str) -> Object:
    (found,) = world.select(JOB, NAMESPACE, {"slipway.dev/role": role})
    return found


def resources_of(job: Object) -> Object:
    asked: Object = job["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    return asked


def test_a_steps_pod_has_the_settings_of_its_owner_alone() -> None:
    data = [{"name": "train", "dataset": "digits"}]
    world = TrainingWorld(data=data, podTemplate={"tolerations": [TOLERATION]}).plan()
    assert TOLERATION in job_of(world, "prepare-train")["spec"]["template"]["spec"]["tolerations"]
    (step,) = world.select(STEP, NAMESPACE, {})
    assert "tolerations" not in str(step)


def test_what_a_training_says_of_its_steps_goes_before_what_it_says_of_its_own_pods() -> None:
    other = {"key": "other", "operator": "Exists"}
    world = TrainingWorld(
        data=[{"name": "train", "dataset": "digits"}],
        podTemplate={"tolerations": [TOLERATION], "nodeSelector": {"disk": "fast"}},
        steps={"podTemplate": {"tolerations": [other]}, "resources": {"cpu": "3", "memory": "3Gi"}},
    ).plan()
    job = job_of(world, "prepare-train")
    spec = job["spec"]["template"]["spec"]
    assert other in spec["tolerations"]
    assert TOLERATION not in spec["tolerations"]
    assert (spec["nodeSelector"], resources_of(job)["memory"]) == ({"disk": "fast"}, "3Gi")


def test_a_plugin_has_the_resources_of_compression_and_what_decides_has_not() -> None:
    asked = {"cpu": "3", "memory": "5Gi"}
    world = served(
        compression={"steps": [{"plugin": "prune-structured", "params": {"ratio": 0.5}}], "resources": asked}
    )
    assert resources_of(job_of(world, "step-0-prune-structured")) == asked
    assert resources_of(job_of(world, "evaluate-candidate"))["memory"] == "1152Mi"


def test_what_decides_has_the_settings_of_the_evaluation_and_nothing_else_of_the_users() -> None:
    wanted = {**HELD_OUT, "resources": {"cpu": "2", "memory": "6Gi"}, "deadline": "1h", "pool": "h100"}
    wanted["podTemplate"] = {"tolerations": [TOLERATION], "imagePullSecrets": [{"name": "hub"}]}
    world = ready(pool(), compression={"steps": [PRUNE]}, evaluation=wanted)
    job = job_of(world, "evaluate-candidate")
    assert resources_of(job)["memory"] == "6Gi"
    assert job["spec"]["activeDeadlineSeconds"] == 3600
    spec = job["spec"]["template"]["spec"]
    assert TOLERATION in spec["tolerations"]
    assert spec["imagePullSecrets"] == [{"name": "hub"}]
    assert spec["nodeSelector"] == pool()["spec"]["nodeSelector"]
    assert "activeDeadlineSeconds" not in job_of(world, "step-0-prune-structured")["spec"]


def test_a_step_that_takes_longer_than_its_deadline_has_failed_with_the_cure() -> None:
    world = world_with(compression={"steps": [PRUNE], "deadline": "1h"}, evaluation=HELD_OUT)
    world.behaviour = until("prune-structured")
    world.run(DIGITS)
    job = job_of(world, "step-0-prune-structured")
    for one in world.pods_of(job):  # as the Job controller does
        world.remove(key_of(one))
    said = {
        "type": "Failed",
        "status": "True",
        "reason": "DeadlineExceeded",
        "lastTransitionTime": wire_time(world.now),
    }
    world.put({**job, "status": {"conditions": [said]}})
    world.run(DIGITS)
    state, reason, message = world.condition(DIGITS, "Stalled")
    assert (state, reason) == ("True", "StepFailed")
    assert "took longer than the deadline allows" in message
    assert "raise spec.compression.deadline, and set the annotation slipway.dev/retry to another value" in message


def test_what_packages_is_given_memory_by_the_size_that_the_evaluation_has_measured() -> None:
    def measures(task: Object, job: Object) -> Object | None:
        report = does_its_work(task, job)
        if task["task"] == "evaluate" and report is not None:
            report["metrics"] = {**(report.get("metrics") or {}), MODEL_BYTES: float(1 << 30)}
        return report

    world = world_with(compression={"steps": [PRUNE]}, evaluation=HELD_OUT)
    world.behaviour = measures
    world.run(DIGITS)
    assert resources_of(job_of(world, "package"))["memory"] == "4224Mi"


def test_a_step_is_shown_running_once_its_pod_has_started() -> None:
    world = world_with(compression={"steps": [PRUNE]}, evaluation=HELD_OUT)
    world.behaviour = until("prune-structured")
    world.run(DIGITS)
    job = job_of(world, "step-0-prune-structured")
    for one in world.pods_of(job):
        world.remove(key_of(one))
    started = pod(job)
    world.put({**started, "status": {"phase": "Pending"}})
    step = key_of(world.get(STEP, NAMESPACE, job["metadata"]["labels"]["slipway.dev/step"]))
    world.now += timedelta(seconds=30)
    world.run(DIGITS)
    assert world.status(step).get("phase") in (None, "Pending")
    world.put(started)
    world.run(DIGITS)
    assert world.status(step)["phase"] == "Running"


def test_a_step_waits_for_a_pool_that_is_not_there() -> None:
    world = world_with(compression={"steps": [PRUNE], "pool": "h100"}, evaluation=HELD_OUT)
    world.run(DIGITS)
    assert 'spec.compression.pool: there is no GPUPool "h100"; create it' in world.condition(DIGITS, "Reconciling")[2]
    world.put(pool())
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready"


def test_a_job_that_runs_is_followed_to_its_end_although_its_pool_is_gone() -> None:
    world = world_with(pool(), compression={"steps": [PRUNE], "pool": "h100"}, evaluation=HELD_OUT)
    world.behaviour = until("prune-structured")
    world.run(DIGITS)
    world.remove(key_of(pool()))
    world.behaviour = does_its_work
    world.run(DIGITS)
    step = next(one for one in world.select(STEP, NAMESPACE, {"slipway.dev/role": "step-0-prune-structured"}))
    assert step["status"]["phase"] == "Succeeded"


def test_where_steps_run_makes_no_other_revision() -> None:
    world = ready(pool(), compression={"steps": [PRUNE]}, evaluation=HELD_OUT)
    before, jobs = world.status(DIGITS)["serving"], len(world.jobs())
    world.edit(DIGITS, lambda spec: spec["compression"].update(pool="h100", deadline="2h"))
    world.run(DIGITS)
    assert (world.status(DIGITS)["serving"], len(world.jobs())) == (before, jobs)


def test_any_value_of_the_retry_annotation_is_another_nonce() -> None:
    def nonce(value: str) -> str | None:
        return retry_of({"metadata": {"annotations": {"slipway.dev/retry": value}}})

    assert (nonce("1"), nonce(""), nonce("2026-11-29T04:00Z")) == ("1", None, "2026-11-29T04:00Z")
    free = [nonce(value) for value in ("now, please", "now, please!", "x" * 64)]
    assert len({*free, None}) == 4
    assert all(re.fullmatch("[0-9a-f]{63}", one or "") for one in free)
