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
from slipway.local.validation import Refusal
from slipway.sdk.plugin import GROUP, BrokenPlugin, load_plugins, plugin_manifest

_FROZEN: dict[str, type[Model]] = {TRAINING_JOB.kind: TrainingJobSpec, ARTIFACT_STORE.kind: ArtifactStoreSpec}


def changed_frozen_fields(live: Object, wanted: Object) -> list[str]:
    """Fields of the spec that may not change, and differ. The rules are the CRD's own (`oldSelf`)."""
    model = _FROZEN.get(wanted["kind"])
    return list(broken_transitions(model.rules if model else (), live["spec"], wanted["spec"]))


async def refused_changes(twin: Twin, objects: Iterable[Object]) -> list[Refusal]:
    """What an API server would refuse of objects that exist already."""
    found = []
    for obj in objects:
        if (live := await look_up(twin, key_of(obj))) is not None:
            found += [
                Refusal(
                    obj,
                    f"spec.{field}",
                    "cannot change once the object is made",
                    "give it another name, or let --replace delete it and make it anew",
                )
                for field in changed_frozen_fields(live, obj)
            ]
    return found


async def admit(twin: Twin, objects: Sequence[Object], *, replace: bool = False) -> None:
    """Create what is missing and change what differs. replace: what cannot be changed is deleted and made anew."""
    for obj in objects:
        key = key_of(obj)
        live = await look_up(twin, key)
        if live is not None and replace and changed_frozen_fields(live, obj):
            twin.remove(key)
            live = None
        if live is None:
            twin.add(obj)
        else:
            twin.edit(key, lambda one, obj=obj: _apply(one, obj))  # type: ignore[misc]


async def keep_only(twin: Twin, plugins: Collection[str]) -> None:
    """Remove the CompressionPlugins that neither a file nor this environment has any more."""
    for obj in await twin.list(COMPRESSION_PLUGIN):
        if obj["metadata"]["name"] not in plugins:
            twin.remove(key_of(obj))


def active_resources(objects: Iterable[Object]) -> frozenset[Key]:
    """Return what a run of these files works on: their resources, and the TrainingJobs that these name."""
    keys = set()
    for obj in objects:
        if obj["kind"] in (TRAINING_JOB.kind, MODEL_DEPLOYMENT.kind):
            keys.add(key_of(obj))
        if obj["kind"] == MODEL_DEPLOYMENT.kind and (job := obj["spec"]["model"].get("trainingJob")):
            keys.add(Key(TRAINING_JOB, obj["metadata"]["namespace"], job))
    return frozenset(keys)


def _apply(live: Object, wanted: Object) -> None:
    live["spec"] = wanted["spec"]
    for field in ("labels", "annotations"):
        if wanted["metadata"].get(field):
            live["metadata"][field] = {**live["metadata"].get(field, {}), **wanted["metadata"][field]}


DEFAULT_STORE, DEFAULT_CLAIM = "default", "slipway-store"


def installed_plugins() -> tuple[dict[str, Object], Mapping[str, BrokenPlugin]]:
    """The CompressionPlugins of this Python environment by name, and those that cannot be loaded."""
    loaded, broken = load_plugins(list(entry_points(group=GROUP)))
    return {name: plugin_manifest(plugin) for name, plugin in loaded.items()}, {one.name: one for one in broken}


def default_stores(objects: Iterable[Object]) -> list[Object]:
    """An ArtifactStore `default` and its claim for each namespace that uses one and has none."""
    known = list(objects)
    stores = {_place(obj) for obj in known if obj["kind"] == ARTIFACT_STORE.kind}
    users = [obj for obj in known if obj["kind"] in (TRAINING_JOB.kind, MODEL_DEPLOYMENT.kind)]
    wanted = {obj["metadata"]["namespace"] for obj in users if obj["spec"].get("store") == DEFAULT_STORE}
    return [
        obj for namespace in sorted(wanted) if (namespace, DEFAULT_STORE) not in stores for obj in _store(namespace)
    ]


def _store(namespace: str) -> list[Object]:
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


def on_processors(objects: Iterable[Object]) -> list[Object]:
    """The objects with GPUPools that give no devices; pools that are named and in none of the files among them."""
    known = list(objects)
    pools = {obj["metadata"]["name"] for obj in known if obj["kind"] == GPU_POOL.kind}
    named = {name for obj in known if obj["kind"] == TRAINING_JOB.kind for name in obj["spec"].get("pools", ())}
    return [_without(obj, "resource", GPU_POOL) for obj in known] + [_pool(name) for name in sorted(named - pools)]


def of_this_environment(objects: Iterable[Object]) -> list[Object]:
    """The objects with CompressionPlugins whose code is what is installed here, whatever image holds it elsewhere."""
    return [_without(obj, "image", COMPRESSION_PLUGIN) for obj in objects]


def _without(obj: Object, field: str, kind: Kind) -> Object:
    if obj["kind"] != kind.kind:
        return obj
    return {**obj, "spec": {name: value for name, value in obj["spec"].items() if name != field}}


def _pool(name: str) -> Object:
    spec = {"nodeSelector": {"kubernetes.io/hostname": "localhost"}}
    return {"apiVersion": GPU_POOL.api_version, "kind": GPU_POOL.kind, "metadata": {"name": name}, "spec": spec}


def _place(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
