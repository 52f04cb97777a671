"""What a cluster would have besides the files: the plugins that are installed here, and a default store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any

from slipway.api.kinds import (
    ARTIFACT_STORE,
    COMPRESSION_PLUGIN,
    GPU_POOL,
    MODEL_DEPLOYMENT,
    PVC,
    TRAINING_JOB,
    Kind,
    Object,
)
from slipway.sdk.describe import plugin_manifest
from slipway.sdk.plugin import GROUP, BrokenPlugin, load_plugins

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
