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
from slipway.api.reports import Report
from slipway.api.tasks import S3_SECRET_ENV, STORE_ENV
from slipway.runtime.__main__ import TASKS
from slipway.runtime.pod import Pod
from slipway.sdk.artifact import Artifact
from slipway.sdk.manifest import Content
from slipway.sdk.write import write_artifact


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
    """What a pod finds there whose own folder of the store is that one, as the operator would set it up."""
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


def do(store: AnyStore, folder: str, task: Any) -> Report:
    """Run a task in this process. Raises whatever the task raises."""
    report: Report = import_module(TASKS[task.task]).run(task, pod_in(store, folder))
    return report


def made(report: Report) -> ArtifactRef:
    """The artifact that a report speaks of."""
    assert report.artifact is not None
    return report.artifact


def put(store: Path, folder: str, content: Content, files: Mapping[str, Path | bytes]) -> ArtifactRef:
    """Leave an artifact as a task of that folder would have."""
    return ref(write_artifact(store / folder / "artifact", content, files), folder)


def ref(artifact: Artifact, folder: str) -> ArtifactRef:
    return ArtifactRef(uri=f"store:///{folder}/artifact", digest=artifact.digest, state=artifact.state)
