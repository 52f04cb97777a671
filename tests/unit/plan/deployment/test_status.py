"""The rows of the status table, each reached from a spec and what happens in the cluster."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from slipway.api.kinds import ARTIFACT_STORE, COMPRESSION_PLUGIN, JOB, SERVICE, STEP, TRAINING_JOB, Key, Object, key_of
from slipway.plan.deployment import plan_deployment
from slipway.plan.owner import ROLE_LABEL
from support.builders import (
    DIGEST,
    NAMESPACE,
    PRUNE,
    QUANTIZE,
    SETTINGS,
    T0,
    artifact,
    export_plugin,
    failed,
    model_deployment,
    plugins,
    pod,
    prune_plugin,
    resource,
    store,
    trained,
    training_job,
)
from support.deployments import DIGITS, counting, raising, served, service_target, until, with_ratio, world_with
from support.mutants import nested
from support.world import World, does_its_work

TABLE = {
    "waiting": ("Pending", "False", "True", "False"),
    "compressing": ("Compressing", "False", "True", "False"),
    "evaluating": ("Evaluating", "False", "True", "False"),
    "rolling out": ("RollingOut", "False", "True", "False"),
    "ready": ("Ready", "True", "False", "False"),
    "degraded": ("Degraded", "False", "False", "True"),
    "failed": ("Failed", "False", "False", "True"),
}


def row(world):
    """Phase, Ready, Reconciling, Stalled."""
    kinds = ("Ready", "Reconciling", "Stalled")
    return (world.status(DIGITS)["phase"], *(world.condition(DIGITS, kind)[0] for kind in kinds))


def reason(world):
    return world.condition(DIGITS, "Ready")[1]


def message(world):
    return world.condition(DIGITS, "Ready")[2]


def available(world):
    return world.condition(DIGITS, "Available")[0] == "True"


@pytest.mark.parametrize(
    ("missing", "objects", "expected", "words"),
    [
        (("TrainingJob",), (), "ModelNotReady", 'there is no TrainingJob "digits"'),
        ((), (training_job(status={"phase": "Running"}),), "ModelNotReady", "TrainingJob digits is Running"),
        (("default",), (), "StoreNotFound", 'ArtifactStore "default"'),
        ((), (store(ready=False),), "StoreNotReady", 'ArtifactStore "default" is not ready'),
        (("quantize-int8",), (), "PluginNotFound", 'there is no CompressionPlugin "quantize-int8"'),
        (("export-onnx",), (), "PluginNotFound", "converts a model of state module to onnx"),
    ],
    ids=["no job", "job runs", "no store", "store not ready", "no plugin", "no conversion"],
)
def test_what_may_still_come_is_waited_for(missing, objects, expected, words):
    world = world_with(*objects, without=missing)
    world.settle(DIGITS)
    assert row(world) == TABLE["waiting"]
    assert (reason(world), available(world)) == (expected, False)
    assert words in message(world)
    assert world.jobs() == []
    assert world.wake_at is not None


def test_what_was_waited_for_is_taken_up_when_it_comes():
    world = world_with(without=("TrainingJob", "CompressionPlugin", "ArtifactStore"))
    for obj in (trained(), store(), *plugins()):
        world.settle(DIGITS)
        assert world.status(DIGITS)["phase"] == "Pending"
        world.put(obj)
    world.run(DIGITS)
    assert row(world) == TABLE["ready"]


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("prepare-train", "compressing"),
        ("convert-baseline", "compressing"),
        ("prune-structured", "compressing"),
        ("quantize-int8", "compressing"),
        ("evaluate-candidate", "evaluating"),
        ("compare", "evaluating"),
        ("package", "rolling out"),
    ],
)
def test_while_a_step_runs_the_phase_says_which_part_it_is_of_and_the_message_where_it_is_shown(task, expected):
    world = world_with()
    world.behaviour = until(task)
    world.run(DIGITS)
    assert row(world) == TABLE[expected]
    assert message(world) == "see `kubectl get steps -l slipway.dev/model-deployment=digits`"
    assert world.select(STEP, NAMESPACE, {"slipway.dev/model-deployment": "digits"})
    assert not available(world)


def job_of(world, role):
    (job,) = world.select(JOB, NAMESPACE, {ROLE_LABEL: role})
    return job


def test_a_step_whose_pod_does_not_fit_any_node_says_so_after_a_while():
    world = world_with()
    world.behaviour = until("prune-structured")
    world.run(DIGITS)
    job = job_of(world, "step-0-prune-structured")
    scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    said = "0/1 nodes are available: 1 Insufficient cpu. preemption: no."
    world.put(pod(job, phase="Pending", conditions=({**scheduled, "message": said},)))
    world.settle(DIGITS)
    assert "Insufficient" not in message(world)
    world.now = world.wake_at
    world.settle(DIGITS)
    assert row(world) == TABLE["compressing"]
    assert "steps[0] (prune-structured 1.0.0) (0 of 1 pods run; Unschedulable: Insufficient cpu)" in message(world)


def test_while_replicas_start_the_revision_rolls_out():
    world = world_with(serving={"replicas": 2})
    world.gets_ready = lambda _: False
    world.run(DIGITS)
    assert row(world) == TABLE["rolling out"]
    assert "0 of 2 replicas are ready" in message(world)
    assert "serving" not in world.status(DIGITS)


def test_the_newest_revision_serves():
    world = served()
    status = world.status(DIGITS)
    assert row(world) == TABLE["ready"]
    assert available(world)
    assert status["url"] == f"http://digits.{NAMESPACE}.svc:8000"
    assert status["readyReplicas"] == 1
    pods = f"slipway.dev/model-deployment=digits,slipway.dev/role=serve,slipway.dev/revision={status['serving']}"
    assert status["selector"] == pods
    assert status["serving"] == status["candidate"]
    assert status["accuracy"] == "0.9630"
    assert status["sizes"] == {"floatBytes": 100, "compressedBytes": 25}
    assert status["observedGeneration"] == 1


def test_a_gate_that_refuses_the_first_revision_leaves_nothing_to_serve():
    world = world_with()
    world.behaviour = counting(lost=18, gained=2)
    world.run(DIGITS)
    assert row(world) == TABLE["failed"]
    assert (reason(world), available(world)) == ("GateRefused", False)
    for figure in ("0.9407", "0.9704", "n=540", "0.0453", "maxDrop is 0.02"):
        assert figure in message(world)
    assert "package" not in world.jobs()


def test_a_gate_that_refuses_a_candidate_whose_sums_saturate_names_the_cause():
    """The figure comes from the pod that evaluated the candidate, and stays with what the gate decided."""
    world = world_with()
    counts = counting(lost=184, n=540)

    def off_by_a_third(wanted: Object, job: Object) -> Object | None:
        report = counts(wanted, job)
        if job["metadata"]["labels"]["slipway.dev/role"] != "evaluate-candidate" or report is None:
            return report
        return {**report, "metrics": {**report["metrics"], "saturation": 0.354}}

    world.behaviour = off_by_a_third
    world.run(DIGITS)
    assert reason(world) == "GateRefused"
    assert "saturate on the processor that evaluated it" in message(world)
    assert "change its scores by 35.4%: use 7-bit weights" in message(world)
    assert "compress less" not in message(world)
    assert world.status(DIGITS)["revisions"][-1]["gate"]["saturation"] == 0.354


def test_a_gate_that_refuses_leaves_the_running_revision_alone():
    world = served()
    before = world.status(DIGITS)["serving"]
    world.behaviour = counting(lost=18, gained=2)
    world.edit(DIGITS, with_ratio(0.9))
    world.run(DIGITS)
    assert row(world) == TABLE["degraded"]
    assert (reason(world), available(world)) == ("GateRefused", True)
    assert world.status(DIGITS)["serving"] == before != world.status(DIGITS)["candidate"]
    assert world.status(DIGITS)["accuracy"] == "0.9630"


@pytest.mark.parametrize("first", [True, False], ids=["nothing serves", "an older one serves"])
@pytest.mark.parametrize(
    ("task", "named"),
    [
        ("prune-structured", "spec.compression.steps[0] (prune-structured 1.0.0)"),
        ("convert", "conversion to onnx (export-onnx 1.0.0)"),
        ("evaluate-candidate", "evaluation of the candidate"),
        ("compare", "comparison of the two models"),
        ("package", "packing of the repository"),
    ],
)
def test_a_task_that_fails_is_told_with_its_exception(task, named, first):
    world = world_with() if first else served()
    world.behaviour = raising(task, "the ratio leaves no channel")
    world.edit(DIGITS, with_ratio(0.9))
    world.run(DIGITS)
    assert row(world) == TABLE["failed" if first else "degraded"]
    assert reason(world) == "StepFailed"
    assert f"{named} failed: PluginError: the ratio leaves no channel; see the logs of job/digits-" in message(world)
    assert available(world) is not first


def test_a_step_that_was_killed_for_want_of_memory_runs_again_once_it_is_given_more():
    world = world_with(compression={"steps": [PRUNE], "resources": {"memory": "2Gi"}})
    world.behaviour = until("prune-structured")
    world.run(DIGITS)
    job = job_of(world, "step-0-prune-structured")
    world.put(pod(job, exit_code=137, reason="OOMKilled"))
    world.set_status(key_of(job), {"conditions": [{"type": "Failed", "status": "True"}]})
    world.behaviour = does_its_work
    world.run(DIGITS)
    assert row(world) == TABLE["failed"]
    assert "(prune-structured 1.0.0) failed: OOMKilled (exit code 137)" in message(world)
    assert "raise spec.compression.resources.memory above 2Gi" in message(world)

    tried = world.jobs()
    world.edit(DIGITS, lambda spec: spec.update(serving={"replicas": 1}))
    world.run(DIGITS)
    assert world.jobs() == tried  # with the same memory it would end the same

    world.edit(DIGITS, lambda spec: spec["compression"].update(resources={"memory": "4Gi"}))
    world.run(DIGITS)
    assert row(world) == TABLE["ready"]
    assert world.jobs().count("step-0-prune-structured") == 2
    assert tried.count("convert-baseline") == world.jobs().count("convert-baseline") == 1


@pytest.mark.parametrize("task", ["step-0-prune-structured", "compare"])
def test_a_task_that_the_store_refused_is_tried_again_less_and_less_often_and_leaves_one_job(task):
    world = world_with()
    world.behaviour = raising(task, "access is denied; give the key the right to write", exception="StoreError")
    world.run(DIGITS)
    waits = []
    for _ in range(6):
        assert row(world) == TABLE["failed"]
        assert "access is denied; give the key the right to write; Slipway retries" in message(world)
        assert len(world.select(JOB, NAMESPACE, {ROLE_LABEL: task})) == 1
        waits.append((world.wake_at - world.now) // timedelta(minutes=1))
        world.now = world.wake_at
        world.run(DIGITS)
    assert waits == [1, 2, 4, 8, 16, 16]

    world.behaviour = does_its_work
    world.now = world.wake_at
    world.run(DIGITS)
    assert row(world) == TABLE["ready"]


def test_a_task_that_did_not_reach_the_store_is_tried_again_less_and_less_often_and_says_so():
    world = world_with()
    world.behaviour = raising("compare", "no answer", exception="StoreAway")
    waits = []
    for _ in range(7):
        world.run(DIGITS)
        waits.append((world.wake_at - world.now).total_seconds())
        assert row(world) == TABLE["evaluating"]
        assert "comparison of the two models (try " in message(world)
        assert "ended: StoreAway: no answer; try " in message(world)
        world.now = world.wake_at
    assert waits == [40, 80, 160, 320, 640, 960, 960]

    world.behaviour = does_its_work
    world.run(DIGITS)
    assert row(world) == TABLE["ready"]


def test_a_step_that_leaves_another_state_than_its_plugin_says_has_failed():
    world = world_with(prune_plugin(produces="onnx"))
    world.run(DIGITS)
    assert reason(world) == "StepFailed"
    assert "(prune-structured 1.0.0) left a result of state module; expected a result of state onnx" in message(world)


def steps(*wanted):
    def change(spec):
        spec["compression"] = {"steps": list(wanted)}

    return change


@pytest.mark.parametrize(
    ("change", "expected", "words"),
    [
        (steps({**PRUNE, "params": {"ratio": 7}}), "InvalidParams", "spec.compression.steps[0].params.ratio: 7 is"),
        (steps(QUANTIZE, PRUNE), "IllegalOrder", "spec.compression.steps[1]: prune-structured takes"),
        (lambda spec: spec.update(store="other"), "InvalidSpec", "spec.store: is other, and TrainingJob digits"),
        (
            lambda spec: spec["evaluation"].update(data={"dataset": "digits", "split": "train"}),
            "InvalidSpec",
            "spec.evaluation.data: is the train data of trainingJob/digits",
        ),
        (lambda spec: spec["serving"].update(replicas=-1), "InvalidSpec", "spec.serving.replicas"),
        (
            lambda spec: spec["compression"]["steps"][0].update(params=nested(300)),
            "InvalidSpec",
            "spec.compression.steps[0].params: must not be nested more than 32 levels deep",
        ),
    ],
    ids=["params", "order", "other store", "evaluated on what was trained on", "unreadable", "too deep"],
)
@pytest.mark.parametrize("first", [True, False], ids=["nothing serves", "an older one serves"])
def test_a_spec_that_cannot_work_is_stalled_by_field_and_goes_on_when_it_is_fixed(change, expected, words, first):
    world = world_with(serving={}) if first else served(serving={})
    good = world.objects[DIGITS]["spec"]
    world.edit(DIGITS, change)
    world.run(DIGITS)
    assert row(world) == TABLE["failed" if first else "degraded"]
    assert (reason(world), available(world)) == (expected, not first)
    assert words in message(world)
    world.edit(DIGITS, lambda spec: (spec.clear(), spec.update(good)))
    world.run(DIGITS)
    assert row(world) == TABLE["ready"]


def test_a_name_that_another_object_owns_is_a_conflict_before_anything_is_begun():
    taken = resource(SERVICE, "digits", selector={"app": "another"})
    world = world_with(taken)
    world.run(DIGITS)
    assert row(world) == TABLE["failed"]
    assert reason(world) == "NameConflict"
    assert "Service digits exists and is not a child of this ModelDeployment" in message(world)
    assert world.jobs() == []
    assert world.get(SERVICE, NAMESPACE, "digits")["spec"]["selector"] == {"app": "another"}
    world.remove(Key(SERVICE, NAMESPACE, "digits"))
    world.run(DIGITS)
    assert row(world) == TABLE["ready"]


class HalfSeen(World):
    """A world whose planner does not see an object until it stands in the way of an apply: it carries no label of ours.

    The executor applies what it does not see as a creation, gets the conflict, and reads the object.
    """

    hidden: Key | None = None

    def get(self, kind, namespace, name):
        return None if Key(kind, namespace, name) == self.hidden else super().get(kind, namespace, name)

    def _apply(self, rendered):
        if key_of(rendered) == self.hidden:
            self.hidden = None
            self._log("conflict", rendered)
        else:
            super()._apply(rendered)


def test_a_taken_name_is_found_before_anything_serves_even_where_its_owner_is_not_watched():
    taken = resource(SERVICE, "digits", selector={"app": "another"})
    world = HalfSeen(plan_deployment, model_deployment(), trained(), store(), *plugins(), taken)
    world.hidden = key_of(taken)
    world.behaviour = until("nothing at all")
    world.settle(DIGITS)
    assert row(world) == TABLE["failed"]
    assert (reason(world), available(world)) == ("NameConflict", False)
    world.run(DIGITS)
    assert world.jobs() == []
    assert "serving" not in world.status(DIGITS)
    assert world.get(SERVICE, NAMESPACE, "digits")["spec"]["selector"] == {"app": "another"}


def test_the_service_is_there_from_the_start_and_selects_nothing_until_a_revision_serves():
    world = world_with(without=("TrainingJob",))
    world.settle(DIGITS)
    assert world.get(SERVICE, NAMESPACE, "digits") is not None
    assert service_target(world) is None
    assert "url" not in world.status(DIGITS)
    world.put(trained())
    world.run(DIGITS)
    assert service_target(world) == world.status(DIGITS)["serving"]


def test_work_under_way_goes_on_while_its_store_is_found_not_ready():
    world = world_with()
    world.behaviour = until("prune-structured")
    world.run(DIGITS)
    world.put(store(ready=False))
    world.behaviour = until("nothing")
    world.run(DIGITS)
    assert row(world) == TABLE["ready"]


def test_a_training_job_that_failed_is_told_with_its_cause_and_stalls_no_longer_than_it():
    verdict = {"type": "Ready", "status": "False", "reason": "Failed", "lastTransitionTime": "2026-03-01T12:00:00Z"}
    status = {"phase": "Failed", "conditions": [{**verdict, "message": "rank 1: ValueError: bad"}]}
    world = world_with(training_job(status=status))
    world.run(DIGITS)
    assert row(world) == TABLE["failed"]
    assert reason(world) == "TrainingJobFailed"
    assert "rank 1: ValueError: bad" in message(world)
    world.put(trained())
    world.run(DIGITS)
    assert row(world) == TABLE["ready"]


def test_a_training_job_that_left_no_model_is_no_source():
    world = world_with(training_job(status={"phase": "Succeeded"}))
    world.run(DIGITS)
    assert reason(world) == "TrainingJobFailed"
    assert "left nothing, not a model" in message(world)


def test_replicas_that_never_get_ready_stall_the_rollout_while_the_old_revision_serves():
    world = served()
    before = world.status(DIGITS)["serving"]
    world.gets_ready = lambda live: live["metadata"]["name"] == before
    world.edit(DIGITS, with_ratio(0.4))
    world.run(DIGITS)
    assert row(world) == TABLE["rolling out"]
    too_slow(world)
    world.run(DIGITS)
    assert row(world) == TABLE["degraded"]
    assert (reason(world), available(world)) == ("RolloutFailed", True)
    assert world.status(DIGITS)["serving"] == before
    world.gets_ready = lambda _: True
    world.run(DIGITS)
    assert row(world) == TABLE["ready"]


def test_pods_that_are_not_created_are_reported_in_the_words_that_refuse_them():
    world = world_with()
    world.gets_ready = lambda _: False
    world.run(DIGITS)
    said = 'pods "digits-x" is forbidden: exceeded quota: few, requested: pods=1, used: pods=4, limited: pods=4'
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": said}
    deployment_says(world, refused)
    world.run(DIGITS)
    assert row(world) == TABLE["rolling out"]
    assert message(world).endswith(f"0 of 1 replicas are ready: FailedCreate: {said}")
    deployment_says(world, refused, TOO_SLOW)
    world.run(DIGITS)
    assert reason(world) == "RolloutFailed"
    assert said in message(world)
    deployment_says(world, {**refused, "status": "False"})
    world.run(DIGITS)
    assert row(world) == TABLE["rolling out"]
    assert said not in message(world)


TOO_SLOW = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}


def too_slow(world):
    """The candidate's Deployment says that its progress deadline is over."""
    deployment_says(world, TOO_SLOW)


def deployment_says(world, *conditions):
    """The Deployment controller's conditions of the candidate's Deployment, in the place of those before."""
    name = world.status(DIGITS)["candidate"]
    key = next(key for key in world.objects if key.kind.kind == "Deployment" and key.name == name)
    world.set_status(key, {**world.objects[key]["status"], "conditions": list(conditions)})


def serving_pod(world, init=None, main=None):
    """A pod of the candidate's Deployment that is not ready."""
    name = world.status(DIGITS)["candidate"]
    labels = {"slipway.dev/revision": name, "slipway.dev/model-deployment": "digits"}
    status = {"phase": "Pending"}
    if init:
        status["initContainerStatuses"] = [{"name": "fetch", "ready": False, **init}]
    if main:
        status["containerStatuses"] = [{"name": "triton", "ready": False, **main}]
    metadata = {"name": f"{name}-x", "namespace": NAMESPACE, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": status}


def ended(code, said):
    text = said if isinstance(said, str) else json.dumps(said)
    return {
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": code, "message": text}},
    }


@pytest.mark.parametrize(
    ("pod", "stalls", "words"),
    [
        (
            {"init": ended(1, failed("model.onnx differs", exception="ArtifactError", rank=None))},
            True,
            "the repository cannot be fetched: ArtifactError: model.onnx differs",
        ),
        ({"init": ended(1, failed("no such host", exception="OSError", rank=None))}, False, "OSError: no such host"),
        (
            {"main": {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no tag"}}}},
            False,
            "ImagePullBackOff",
        ),
        ({"main": ended(1, "golden request 0: output 0 is off")}, False, "golden request 0: output 0 is off"),
        (
            {"init": ended(1, failed("there is no artifact at steps/a", exception="InputMissing", rank=None))},
            True,
            "the repository cannot be fetched: InputMissing: there is no artifact at steps/a",
        ),
        (
            {"main": {"state": {"waiting": {"reason": "InvalidImageName", "message": "invalid reference format"}}}},
            True,
            "InvalidImageName: invalid reference format",
        ),
        (
            {"main": {"state": {"waiting": {"reason": "RunContainerError", "message": "no such device"}}}},
            False,
            "RunContainerError: no such device",
        ),
    ],
    ids=["wrong digest", "no network", "no image", "triton ends", "no repository", "no image name", "not started"],
)
def test_why_pods_do_not_start_is_told(pod, stalls, words):
    world = world_with()
    world.gets_ready = lambda _: False
    world.run(DIGITS)
    world.put(serving_pod(world, **pod))
    world.run(DIGITS)
    assert row(world) == TABLE["failed" if stalls else "rolling out"]
    assert words in message(world)


def test_without_steps_and_without_evaluation_there_is_no_gate():
    world = served(steps=(), evaluation=None)
    assert world.jobs() == ["convert-baseline", "package"]
    assert "accuracy" not in world.status(DIGITS)
    (revision,) = world.status(DIGITS)["revisions"]
    assert "gate" not in revision


def test_without_steps_the_model_is_evaluated_once_and_is_no_worse_than_itself():
    strict = {"data": {"dataset": "digits", "split": "test"}, "gate": {"maxDrop": 0}}
    world = world_with(steps=(), evaluation=strict)
    world.behaviour = counting(lost=0)
    world.run(DIGITS)
    assert row(world) == TABLE["ready"]
    assert world.jobs() == ["convert-baseline", "prepare-evaluation", "evaluate-baseline", "compare", "package"]
    assert world.status(DIGITS)["revisions"][0]["gate"]["dropBound"] == 0


def test_a_stored_onnx_model_needs_no_conversion_and_no_training_job():
    model = {"stored": {"uri": "store:///mine", "digest": DIGEST, "state": "onnx"}}
    data = {"stored": {"uri": "store:///data", "digest": DIGEST}}
    held_out = {"data": {"stored": {"uri": "store:///held", "digest": "sha256:" + "c" * 64}}}
    spec = {"model": model, "evaluation": held_out, "compression": {"steps": [QUANTIZE], "data": data}}
    world = world_with(without=("TrainingJob",), **spec)
    world.run(DIGITS)
    assert row(world) == TABLE["ready"]
    assert "convert" not in world.jobs()
    assert "prepare-train" not in world.jobs()


def test_a_stored_model_without_data_is_refused_by_the_field_to_set():
    model = {"stored": {"uri": "store:///mine", "digest": DIGEST, "state": "module"}}
    world = world_with(without=("TrainingJob",), model=model)
    world.run(DIGITS)
    assert reason(world) == "DataMissing"
    assert message(world).startswith("spec.compression.data: is missing")


def test_events_tell_transitions_and_each_once():
    world = served()
    told = [(kind, event) for kind, event, _ in world.events]
    assert told == [("Normal", "GatePassed"), ("Normal", "TookOver")]
    world.behaviour = raising("prune-structured")
    world.edit(DIGITS, with_ratio(0.9))
    world.run(DIGITS)
    world.run(DIGITS)
    assert [(kind, event) for kind, event, _ in world.events][2:] == [("Warning", "StepFailed")]
    world.edit(DIGITS, with_ratio(9))
    world.run(DIGITS)
    assert [(kind, event) for kind, event, _ in world.events][3:] == [("Warning", "InvalidParams")]


def test_a_condition_keeps_its_time_while_its_status_stays():
    world = world_with(without=("TrainingJob",))
    world.settle(DIGITS)
    world.now = T0.replace(hour=13)
    world.put(trained())
    world.behaviour = until("prepare")
    world.settle(DIGITS)
    conditions = {one["type"]: one for one in world.status(DIGITS)["conditions"]}
    assert conditions["Reconciling"]["lastTransitionTime"] == "2026-03-01T12:00:00Z"
    assert conditions["Reconciling"]["reason"] == "Compressing"
    world.behaviour = raising("prepare")
    world.run(DIGITS)
    conditions = {one["type"]: one for one in world.status(DIGITS)["conditions"]}
    assert conditions["Reconciling"]["lastTransitionTime"] == "2026-03-01T13:00:00Z"


def test_steps_run_in_their_plugins_image_and_what_decides_in_the_operators():
    world = world_with(prune_plugin(image="acme/prune@sha256:1"))
    world.run(DIGITS)
    images = {
        obj["metadata"]["labels"]["slipway.dev/role"]: obj["spec"]["template"]["spec"]["containers"][0]["image"]
        for key, obj in world.objects.items()
        if key.kind.kind == "Job"
    }
    assert images.pop("step-0-prune-structured") == "acme/prune@sha256:1"
    assert set(images.values()) == {SETTINGS.runtime_image}


def test_a_conversion_plugin_that_comes_late_is_found_without_an_event():
    """Nothing in the spec names it, so nothing wakes the deployment but the time."""
    world = world_with(without=("export-onnx",))
    world.settle(DIGITS)
    world.put(export_plugin())
    world.now = world.wake_at
    world.run(DIGITS)
    assert row(world) == TABLE["ready"]


def test_a_model_is_kept_when_its_training_job_and_plugins_are_gone():
    world = served()
    writes = len(world.writes)
    for kind, name in ((TRAINING_JOB, "digits"), (COMPRESSION_PLUGIN, "prune-structured"), (ARTIFACT_STORE, "default")):
        world.remove(Key(kind, NAMESPACE if kind.namespaced else "", name))
    world.run(DIGITS)
    assert row(world) == TABLE["ready"]
    assert len(world.writes) == writes
    assert world.status(DIGITS)["model"]["digest"] == artifact("trained")["digest"]


def test_a_verdict_goes_with_the_evaluation_and_comes_back_with_it_without_another_run():
    world = served(steps=())
    good, before = world.objects[DIGITS]["spec"], world.status(DIGITS)
    world.edit(DIGITS, lambda spec: spec.pop("evaluation"))
    world.run(DIGITS)
    assert "accuracy" not in world.status(DIGITS)
    assert "accuracy" not in message(world)
    made = world.jobs()
    world.edit(DIGITS, lambda spec: (spec.clear(), spec.update(good)))
    world.run(DIGITS)
    assert world.jobs() == made
    assert world.status(DIGITS)["accuracy"] == before["accuracy"]
    assert row(world) == TABLE["ready"]
