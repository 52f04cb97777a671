"""Files come into the twin as kubectl apply would bring them into a cluster."""

from __future__ import annotations

import copy
from datetime import UTC, datetime

from slipway.api.kinds import MODEL_DEPLOYMENT, TRAINING_JOB, Key, Object, key_of
from slipway.cluster.twin import Twin
from slipway.local.admission import apply_objects, find_active_resources, find_immutable_changes


def a_training(epochs: int = 10, nodes: int = 2) -> Object:
    spec = {"entrypoint": {"recipe": {"epochs": epochs}}, "nodes": nodes}
    meta = {"name": "digits", "namespace": "default"}
    return {"apiVersion": "slipway.dev/v1alpha1", "kind": "TrainingJob", "metadata": meta, "spec": spec}


async def a_twin(*objects: Object) -> Twin:
    twin = Twin(lambda: datetime(2026, 1, 2, tzinfo=UTC))
    await apply_objects(twin, objects)
    for obj in objects:
        twin.edit(key_of(obj), lambda one: one.update(status={"phase": "Succeeded"}))
    return twin


async def test_the_same_file_again_changes_nothing():
    twin = await a_twin(a_training())
    before = await twin.get(key_of(a_training()))
    await apply_objects(twin, [copy.deepcopy(a_training())])
    assert await twin.get(key_of(a_training())) == before


async def test_a_field_that_may_change_raises_the_generation_and_keeps_the_status():
    twin = await a_twin(a_training())
    await apply_objects(twin, [a_training(nodes=3)])
    now = await twin.get(key_of(a_training()))
    assert now["metadata"]["generation"] == 2
    assert now["status"] == {"phase": "Succeeded"}
    assert not await find_immutable_changes(twin, [a_training(nodes=4)])


async def test_a_field_that_may_not_change_is_named():
    twin = await a_twin(a_training())
    (refusal,) = await find_immutable_changes(twin, [a_training(epochs=20)])
    assert refusal.field == "spec.entrypoint"
    assert "--replace" in refusal.cure


async def test_with_replace_it_is_made_again():
    twin = await a_twin(a_training())
    before = await twin.get(key_of(a_training()))
    await apply_objects(twin, [a_training(epochs=20)], replace=True)
    after = await twin.get(key_of(a_training()))
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["status"].get("phase") is None


def test_a_deployment_starts_the_training_that_it_names():
    meta = {"name": "served", "namespace": "default"}
    deployment = {"kind": "ModelDeployment", "apiVersion": "slipway.dev/v1alpha1", "metadata": meta}
    deployment["spec"] = {"model": {"trainingJob": "digits"}}
    assert find_active_resources([deployment]) == {
        Key(MODEL_DEPLOYMENT, "default", "served"),
        Key(TRAINING_JOB, "default", "digits"),
    }
