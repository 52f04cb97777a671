"""A folder that stands for a namespace's store, and pods that work in it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from slipway.api.artifacts import ArtifactRef
from slipway.api.reports import Report
from slipway.runtime.__main__ import TASKS
from slipway.runtime.pod import Pod
from slipway.sdk.artifact import Artifact
from slipway.sdk.manifest import Content
from slipway.sdk.write import write_artifact


def pod_in(store: Path, folder: str) -> Pod:
    """A pod whose own folder of the store is that one, as the operator would set it up."""
    return Pod.from_environment(
        {
            "SLIPWAY_STORE_DIR": str(store),
            "SLIPWAY_OUT_DIR": str(store / folder),
            "SLIPWAY_OUT_URI": f"store:///{folder}",
            "SLIPWAY_SCRATCH_DIR": str(store / folder / "scratch"),
            "SLIPWAY_REPOSITORY_DIR": str(store / folder / "repository"),
        }
    )


def do(store: Path, folder: str, task: Any) -> Report:
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
