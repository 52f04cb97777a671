"""Objects of files as they enter the twin: created or changed as `kubectl apply` would do it.

Adds what a cluster would have besides the files: the plugins that are installed here, and a default store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.base import Model, broken_transitions
from slipway.api.kinds import (
    ARTIFACT_STORE,
    COMPRESSION_PLUGIN,
    GPU_POOL,
    MODEL_DEPLOYMENT,
    PVC,
    TRAINING_JOB,
    Key,
    Kind,
    Object,
    key_of,
)
from slipway.api.trainingjob import TrainingJobSpec
from slipway.cluster.port import look_up
from slipway.cluster.twin import Twin
from slipway.local.validation import FieldProblem
from slipway.sdk.plugin import GROUP, BrokenPlugin, load_plugins, plugin_manifest

_WITH_IMMUTABLE_FIELDS: dict[str, type[Model]] = {
    TRAINING_JOB.kind: TrainingJobSpec,
    ARTIFACT_STORE.kind: ArtifactStoreSpec,
}


def changed_immutable_fields(live: Object, wanted: Object) -> list[str]:
    """Return immutable fields of the spec that differ, by the CRD's own rules (`oldSelf`)."""
    model = _WITH_IMMUTABLE_FIELDS.get(wanted["kind"])
    return list(broken_transitions(model.rules if model else (), live["spec"], wanted["spec"]))


async def find_immutable_changes(twin: Twin, objects: Iterable[Object]) -> list[FieldProblem]:
    """Return the changes of immutable fields, which an API server would refuse."""
    found = []
    for obj in objects:
        if (live := await look_up(twin, key_of(obj))) is not None:
            found += [
                FieldProblem(
                    obj,
                    f"spec.{field}",
                    "is immutable",
                    "use another name, or --replace to delete and create the object again",
                )
                for field in changed_immutable_fields(live, obj)
            ]
    return found


async def apply_objects(twin: Twin, objects: Sequence[Object], *, replace: bool = False) -> None:
    """Create missing objects and update those that differ. replace: delete and create again if a field is immutable."""
    for obj in objects:
        key = key_of(obj)
        live = await look_up(twin, key)
        if live is not None and replace and changed_immutable_fields(live, obj):
            twin.remove(key)
            live = None
        if live is None:
            twin.add(obj)
        else:
            twin.edit(key, lambda one, obj=obj: _update(one, obj))  # type: ignore[misc]


async def remove_other_plugins(twin: Twin, plugins: Collection[str]) -> None:
    """Remove the CompressionPlugins that neither a file nor this environment holds any more."""
    for obj in await twin.list(COMPRESSION_PLUGIN):
        if obj["metadata"]["name"] not in plugins:
            twin.remove(key_of(obj))


def find_active_resources(objects: Iterable[Object]) -> frozenset[Key]:
    """Return what a run of these files works on: their resources, and the TrainingJobs that these name."""
    keys = set()
    for obj in objects:
        if obj["kind"] in (TRAINING_JOB.kind, MODEL_DEPLOYMENT.kind):
            keys.add(key_of(obj))
        if obj["kind"] == MODEL_DEPLOYMENT.kind and (job := obj["spec"]["model"].get("trainingJob")):
            keys.add(Key(TRAINING_JOB, obj["metadata"]["namespace"], job))
    return frozenset(keys)


def _update(live: Object, wanted: Object) -> None:
    live["spec"] = wanted["spec"]
    for field in ("labels", "annotations"):
        if wanted["metadata"].get(field):
            live["metadata"][field] = {**live["metadata"].get(field, {}), **wanted["metadata"][field]}


DEFAULT_STORE, DEFAULT_CLAIM = "default", "slipway-store"


def describe_installed_plugins() -> tuple[dict[str, Object], Mapping[str, BrokenPlugin]]:
    """Return the CompressionPlugins of this Python environment by name, and those that cannot be loaded."""
    loaded, broken = load_plugins(list(entry_points(group=GROUP)))
    return {name: plugin_manifest(plugin) for name, plugin in loaded.items()}, {one.name: one for one in broken}


def render_default_stores(objects: Iterable[Object]) -> list[Object]:
    """Return an ArtifactStore `default` and its claim for each namespace that uses one and has none."""
    known = list(objects)
    stores = {_identity(obj) for obj in known if obj["kind"] == ARTIFACT_STORE.kind}
    users = [obj for obj in known if obj["kind"] in (TRAINING_JOB.kind, MODEL_DEPLOYMENT.kind)]
    wanted = {obj["metadata"]["namespace"] for obj in users if obj["spec"].get("store") == DEFAULT_STORE}
    return [
        obj
        for namespace in sorted(wanted)
        if (namespace, DEFAULT_STORE) not in stores
        for obj in _render_store(namespace)
    ]


def _render_store(namespace: str) -> list[Object]:
    claim: dict[str, Any] = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    return [
        {
            "apiVersion": PVC.api_version,
            "kind": PVC.kind,
            "metadata": {"name": DEFAULT_CLAIM, "namespace": namespace},
            "spec": claim,
        },
        {
            "apiVersion": ARTIFACT_STORE.api_version,
            "kind": ARTIFACT_STORE.kind,
            "metadata": {"name": DEFAULT_STORE, "namespace": namespace},
            "spec": {"persistentVolumeClaim": {"claimName": DEFAULT_CLAIM}},
        },
    ]


def remove_devices(objects: Iterable[Object]) -> list[Object]:
    """Return the objects with GPUPools without devices, and a GPUPool for each name that no file holds."""
    known = list(objects)
    pools = {obj["metadata"]["name"] for obj in known if obj["kind"] == GPU_POOL.kind}
    named = {name for obj in known if obj["kind"] == TRAINING_JOB.kind for name in obj["spec"].get("pools", ())}
    return [_remove_field(obj, "resource", GPU_POOL) for obj in known] + [
        _render_pool(name) for name in sorted(named - pools)
    ]


def remove_plugin_images(objects: Iterable[Object]) -> list[Object]:
    """Return the objects with CompressionPlugins without an image: their code is what is installed here."""
    return [_remove_field(obj, "image", COMPRESSION_PLUGIN) for obj in objects]


def _remove_field(obj: Object, field: str, kind: Kind) -> Object:
    if obj["kind"] != kind.kind:
        return obj
    return {**obj, "spec": {name: value for name, value in obj["spec"].items() if name != field}}


def _render_pool(name: str) -> Object:
    spec = {"nodeSelector": {"kubernetes.io/hostname": "localhost"}}
    return {"apiVersion": GPU_POOL.api_version, "kind": GPU_POOL.kind, "metadata": {"name": name}, "spec": spec}


def _identity(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
