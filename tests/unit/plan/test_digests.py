"""What digests cover: every byte that decides, and of typed references the content alone."""

from __future__ import annotations

import pytest

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.base import digest_of
from slipway.api.modeldeployment import ModelDeploymentSpec
from slipway.api.tasks import CompressTask, DataRef
from slipway.plan.deployment.revision import revision_digest
from slipway.plan.storemount import StoreMount
from slipway.plan.tasks import TaskSpec
from support.builders import DIGEST, model_deployment, plugin
from support.deployments import DIGITS, world_with

OTHER = "sha256:" + "b" * 64
TEACHER = {"uri": "store:///teacher", "digest": DIGEST}
PARAMS = {"teacher": {**TEACHER, "temperature": 2.0}, "ratio": 0.5, "layers": [TEACHER, "fc1"]}

EDITS = {
    "a field beside uri and digest": {**PARAMS, "teacher": {**TEACHER, "temperature": 20.0}},
    "a field more beside uri and digest": {**PARAMS, "teacher": {**TEACHER, "temperature": 2.0, "alpha": 0.1}},
    "another uri of the same digest": {**PARAMS, "teacher": {**PARAMS["teacher"], "uri": "store:///moved"}},
    "a reference in a list": {**PARAMS, "layers": [{**TEACHER, "from": 3}, "fc1"]},
    "the digest alone in place of the reference": {**PARAMS, "layers": [DIGEST, "fc1"]},
    "null instead of absent": {**PARAMS, "recover": None},
    "a number instead of its text": {**PARAMS, "ratio": "0.5"},
    "true instead of 1": {**PARAMS, "ratio": True},
}


def task(params=PARAMS, *, uri="store:///m", data="store:///d"):
    return CompressTask(
        entry_point="distil",
        version="1",
        params=params,
        model=ArtifactRef(uri=uri, digest=DIGEST, state=State.MODULE),
        data=DataRef(name="train", artifact=ArtifactRef(uri=data, digest=OTHER, state=State.DATASET)),
    )


def of_task(*args, **kwargs):
    store = ArtifactStoreSpec.model_validate({"persistentVolumeClaim": {"claimName": "c"}})
    return TaskSpec("step-0-distil", task(*args, **kwargs), "image", StoreMount(store), "job").digest


def of_revision(params=PARAMS):
    steps = ({"plugin": "distil", "params": params},)
    return revision_digest(ModelDeploymentSpec.model_validate(model_deployment(steps=steps)["spec"]), DIGEST)


@pytest.mark.parametrize("params", EDITS.values(), ids=EDITS.keys())
def test_any_edit_of_parameters_makes_another_task_and_another_revision(params):
    assert of_task(params) != of_task()
    assert of_revision(params) != of_revision()


def test_inputs_that_move_within_the_store_make_the_same_task():
    assert of_task(uri="store:///elsewhere", data="store:///elsewhere/too") == of_task()


def test_parameters_reach_the_plugin_as_they_were_written():
    assert task().to_wire()["params"] == PARAMS


def test_an_edit_beside_uri_and_digest_rolls_out_what_it_asks_for():
    distil = plugin("distil", "module", "onnx", parameters={"type": "object"})

    def step(temperature):
        return [{"plugin": "distil", "params": {"teacher": {**TEACHER, "temperature": temperature}}}]

    world = world_with(distil, steps=step(2))
    world.run(DIGITS)
    before = world.status(DIGITS)["candidate"]
    world.edit(DIGITS, lambda spec: spec["compression"].update(steps=step(20)))
    world.run(DIGITS)
    assert world.status(DIGITS)["candidate"] != before
    assert world.status(DIGITS)["phase"] == "Ready"


def test_half_a_surrogate_pair_in_parameters_has_a_digest():
    assert digest_of({"a": "\ud800"}) != digest_of({"a": "\ud801"})
