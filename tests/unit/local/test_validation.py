"""What cannot be done without a cluster is refused by the field that asks for it, before anything starts."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from slipway.api.kinds import Object, key_of
from slipway.local.admission import remove_devices, render_default_stores
from slipway.local.environment import Sources
from slipway.local.validation import Available, find_foreign_kinds, find_invalid_contents, find_unsupported_fields

NOTHING = Available({}, Sources({}), {}, {}, {})


def a_training(**spec: object) -> Object:
    return _own("TrainingJob", {"entrypoint": {"recipe": {}}, "nodes": 2, "store": "default", **spec})


def a_deployment(**spec: object) -> Object:
    return _own("ModelDeployment", {"model": {"trainingJob": "digits"}, "store": "default", **spec})


def a_pool(per_pod: int = 1) -> Object:
    return _own(
        "GPUPool", {"nodeSelector": {"a": "b"}, "resource": {"name": "nvidia.com/gpu", "perPod": per_pod}}, name="gpu"
    )


def a_claim(**spec: object) -> Object:
    meta = {"name": "data", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}


def _own(kind: str, spec: Object, name: str = "digits") -> Object:
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def refused(*objects: Object, available: Available = NOTHING) -> list[str]:
    """Fields that are refused, with a default store at hand."""
    known = [*objects, *render_default_stores(objects)]
    keyed = {key_of({**obj, "metadata": _placed(obj)}): obj for obj in known}
    return [refusal.field for refusal in find_unsupported_fields(known, replace(available, objects=keyed))]


def _placed(obj: Object) -> Object:
    return {"name": obj["metadata"]["name"]} if obj["kind"] in ("GPUPool", "CompressionPlugin") else obj["metadata"]


VOLUME = {"volumes": [{"name": "code", "configMap": {"name": "code"}}]}
CASES: dict[str, tuple[Object, str]] = {
    "an image": (a_training(image="mine:1"), "spec.image"),
    "a store that no file has": (a_training(store="other"), "spec.store"),
    "a store for evaluation data that no file has": (
        a_deployment(model={"stored": {}}, evaluation={"store": "held-out"}),
        "spec.evaluation.store",
    ),
    "a pool that no file has": (a_training(pools=["gpu"]), "spec.pools[0]"),
    "a node selector": (a_training(podTemplate={"nodeSelector": {"a": "b"}}), "spec.podTemplate.nodeSelector"),
    "a service account": (a_training(podTemplate={"serviceAccountName": "a"}), "spec.podTemplate.serviceAccountName"),
    "pull secrets": (
        a_training(podTemplate={"imagePullSecrets": [{"name": "a"}]}),
        "spec.podTemplate.imagePullSecrets",
    ),
    "a priority": (a_training(podTemplate={"priorityClassName": "a"}), "spec.podTemplate.priorityClassName"),
    "a ConfigMap": (a_training(podTemplate=VOLUME), "spec.podTemplate.volumes[0].configMap.name"),
    "a mount below another one": (
        a_training(
            podTemplate={
                "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "emptyDir": {}}],
                "volumeMounts": [
                    {"name": "b", "mountPath": "/work/data"},
                    {"name": "a", "mountPath": "/work/"},
                    {"name": "a", "mountPath": "/work-too"},
                ],
            }
        ),
        "spec.podTemplate.volumeMounts[0].mountPath",
    ),
    "a size limit": (
        a_training(podTemplate={"volumes": [{"name": "a", "emptyDir": {"sizeLimit": "1Gi"}}]}),
        "spec.podTemplate.volumes[0].emptyDir.sizeLimit",
    ),
    "a Secret's key": (
        a_training(podTemplate={"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]}),
        "spec.podTemplate.env[0].valueFrom.secretKeyRef.name",
    ),
    "all keys of a Secret": (
        a_training(podTemplate={"envFrom": [{"secretRef": {"name": "a"}}]}),
        "spec.podTemplate.envFrom[0].secretRef.name",
    ),
    "a claim": (
        a_training(podTemplate={"volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "a"}}]}),
        "spec.podTemplate.volumes[0].persistentVolumeClaim.claimName",
    ),
    "a script": (a_training(entrypoint={"script": {"path": "/no/such.py"}}), "spec.entrypoint.script.path"),
    "a store": (a_training(store="other"), "spec.store"),
    "a TrainingJob": (a_deployment(), "spec.model.trainingJob"),
    "a plugin": (
        a_deployment(model={"stored": {}}, compression={"steps": [{"plugin": "shrink"}]}),
        "spec.compression.steps[0].plugin",
    ),
    "a bucket's account": (
        _own("ArtifactStore", {"s3": {"bucket": "models", "serviceAccountName": "pods"}}),
        "spec.s3.serviceAccountName",
    ),
    "a bucket's keys": (
        _own("ArtifactStore", {"s3": {"bucket": "models", "secretRef": {"name": "keys"}}}),
        "spec.s3.secretRef.name",
    ),
    "a pod's own claim": (a_claim(accessModes=["ReadWriteOncePod"]), "spec.accessModes[0]"),
    "a certain volume": (a_claim(volumeName="a"), "spec.volumeName"),
    "a block device": (a_claim(volumeMode="Block"), "spec.volumeMode"),
}


@pytest.mark.parametrize(("obj", "field"), CASES.values(), ids=CASES.keys())
def test_it_is_refused_by_its_field(obj: Object, field: str):
    assert refused(obj) == [field]


def test_a_plugin_that_is_missing_is_told_with_those_that_are_there_and_where():
    deployment = a_deployment(model={"stored": {}}, compression={"steps": [{"plugin": "shrink"}]})
    messages = [
        str(problem) for problem in find_unsupported_fields([deployment], replace(NOTHING, plugins={"b": {}, "a": {}}))
    ]
    assert any(f'plugin "shrink" is not installed in {sys.prefix}; installed: a, b; ' in text for text in messages)


def test_a_training_on_any_nodes_with_a_default_store_is_taken():
    assert refused(a_training()) == []


def test_a_pool_is_taken_where_its_devices_are_here_for_all_nodes():
    job, pool = a_training(pools=["gpu"]), a_pool(per_pod=2)

    def here(count: int) -> list[str]:
        return refused(job, pool, available=replace(NOTHING, devices={"nvidia.com/gpu": count}))

    assert here(4) == []
    assert here(3) == ["spec.pools[0]"]


def test_processors_stand_in_for_any_devices():
    objects = remove_devices([a_training(pools=["gpu", "other"]), a_pool()])
    assert refused(*objects, available=replace(NOTHING, devices=None)) == []
    pools = {obj["metadata"]["name"]: obj["spec"] for obj in objects if obj["kind"] == "GPUPool"}
    assert pools.keys() == {"gpu", "other"}
    assert "resource" not in pools["gpu"]


def test_a_kind_that_nothing_here_acts_on_is_named():
    (problem,) = find_foreign_kinds(
        [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}, a_training()]
    )
    assert str(problem).startswith("Service web: kind: Service has no effect without a cluster")


SOURCES_THAT_ARE_NONE: dict[str, tuple[str, Object, str]] = {
    "a key that leads out of its folder": ("ConfigMap", {"data": {"../../x": "a"}}, "data"),
    "an absolute key": ("Secret", {"stringData": {"/etc/cron.d/x": "a"}}, "stringData"),
    "the folder itself": ("ConfigMap", {"data": {"..": "a"}}, "data"),
    "an empty key": ("ConfigMap", {"data": {"": "a"}}, "data"),
    "a key with a NUL": ("ConfigMap", {"data": {"a\0b": "a"}}, "data"),
    "a number": ("ConfigMap", {"data": {"a": 1}}, "data.a"),
    "a list": ("ConfigMap", {"data": ["a"]}, "data"),
    "text for base64": ("Secret", {"data": {"a": "hello!"}}, "data.a"),
    "text for base64 in a ConfigMap": ("ConfigMap", {"binaryData": {"a": "é"}}, "binaryData.a"),
}


@pytest.mark.parametrize(("kind", "content", "field"), SOURCES_THAT_ARE_NONE.values(), ids=SOURCES_THAT_ARE_NONE)
def test_what_no_api_server_would_take_of_a_config_map_is_refused_before_a_file_is_written(
    kind: str, content: Object, field: str
) -> None:
    obj = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a", "namespace": "default"}, **content}
    assert [refusal.field for refusal in find_invalid_contents([obj])] == [field]


def test_ordinary_keys_and_wrapped_base64_are_taken() -> None:
    meta = {"name": "a", "namespace": "default"}
    secret = {"kind": "Secret", "metadata": meta, "data": {"tls.crt": "aGVs\nbG8=\n"}, "stringData": {"_a-b.c": "x"}}
    config = {"kind": "ConfigMap", "metadata": meta, "data": {"train.py": "print()"}, "binaryData": {"b": "AAA="}}
    assert find_invalid_contents([secret, config]) == []
