"""A folder, or a bucket, that stands for a namespace's store, and pods that work in it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from slipway.api.artifacts import ArtifactRef
from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.base import Model
from slipway.api.reports import Report
from slipway.api.tasks import S3_SECRET_ENV, STORE_ENV
from slipway.plan.storemount import StoreMount
from slipway.runtime.__main__ import TASKS
from slipway.runtime.pod import Pod
from slipway.sdk.artifact import Artifact, write_artifact
from slipway.sdk.manifest import Content


@dataclass(frozen=True, slots=True)
class RemoteStore:
    """A bucket. s3: as in an ArtifactStore's spec; keys: its Secret's; disk: where each pod gets folders of its own."""

    s3: Mapping[str, Any]
    keys: Mapping[str, str]
    disk: Path

    @property
    def environment(self) -> dict[str, str]:
        secret = {S3_SECRET_ENV[key]: value for key, value in self.keys.items()}
        return {STORE_ENV: json.dumps(self.s3), **secret}


AnyStore = Path | RemoteStore
_PODS = itertools.count()


def environment_in(store: AnyStore, folder: str) -> dict[str, str]:
    """Return the pod with that folder of the store as its own, as the operator sets it up."""
    environment = {"SLIPWAY_OUT_URI": f"store:///{folder}"}
    if isinstance(store, RemoteStore):
        disk = store.disk / f"pod-{next(_PODS)}"
        root, out = disk / "store", disk / "out"
        environment |= store.environment
    else:
        root, out = store, store / folder
    return environment | {
        "SLIPWAY_STORE_DIR": str(root),
        "SLIPWAY_OUT_DIR": str(out),
        "SLIPWAY_SCRATCH_DIR": str(out / "scratch"),
        "SLIPWAY_REPOSITORY_DIR": str(out / "repository"),
    }


def pod_in(store: AnyStore, folder: str) -> Pod:
    """Such a pod."""
    return Pod.from_environment(environment_in(store, folder))


def do(store: AnyStore, folder: str, task: Any, held_out: RemoteStore | None = None) -> Report:
    """Run a task in this process. Raises whatever the task raises. held_out: a second bucket, for evaluation data."""
    environment = environment_in(store, folder)
    if held_out is not None:
        assert isinstance(store, RemoteStore)
        environment |= variables_of(store, held_out, task, folder)
    module, _, function = TASKS[task.task].partition(":")
    report: Report = getattr(import_module(module), function)(task, Pod.from_environment(environment))
    return report


def variables_of(store: RemoteStore, held_out: RemoteStore, task: Model, folder: str) -> dict[str, str]:
    """Return the variables of a pod of that task on two buckets; the keys of Secrets are resolved as by the kubelet."""
    specs = [ArtifactStoreSpec.model_validate({"s3": one.s3}) for one in (store, held_out)]
    secrets = {one.s3["secretRef"]["name"]: one.keys for one in (store, held_out)}
    found = {}
    for variable in StoreMount(specs[0], held_out=specs[1]).for_task(task, folder).env:
        ref = variable.get("valueFrom", {}).get("secretKeyRef")
        value = secrets[ref["name"]].get(ref["key"]) if ref else variable["value"]
        if value is not None:
            found[variable["name"]] = value
    return found


def made(report: Report) -> ArtifactRef:
    """The artifact that a report speaks of."""
    assert report.artifact is not None
    return report.artifact


def put(store: Path, folder: str, content: Content, files: Mapping[str, Path | bytes]) -> ArtifactRef:
    """Leave an artifact as a task of that folder would have."""
    return ref(write_artifact(store / folder / "artifact", content, files), folder)


def ref(artifact: Artifact, folder: str) -> ArtifactRef:
    return ArtifactRef(uri=f"store:///{folder}/artifact", digest=artifact.digest, state=artifact.state)
