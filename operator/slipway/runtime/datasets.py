"""Data sets as arrays. numpy and safetensors alone: no torch, nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError
from slipway.api.tasks import DATA_ENV
from slipway.sdk.artifact import Artifact, read_artifact
from slipway.sdk.manifest import DATA_FILE, DatasetInfo
from slipway.sdk.plugin import Arrays


def read_arrays(dataset: Artifact | Path) -> Arrays:
    """The samples as a model sees them: float32 inputs [N, ...] times the scale, int64 targets [N].

    A Path is one that this pod's first process has verified.
    Raises ArtifactError where the arrays do not fit each other or the manifest.
    """
    inputs, targets, info = read_stored(dataset)
    return Arrays(inputs.astype(np.float32) * np.float32(info.scale), targets, info.classes)


def read_stored(dataset: Artifact | Path) -> tuple[NDArray[np.generic], NDArray[np.int64], DatasetInfo]:
    """The inputs as they are stored (unscaled, any type), the targets, and what the manifest says of them."""
    artifact = read_artifact(dataset, verify_bytes=False) if isinstance(dataset, Path) else dataset
    info = artifact.content.dataset
    if artifact.state is not State.DATASET or info is None:
        raise ArtifactError(f"{artifact.path} is of state {artifact.state}, not a data set")
    arrays = load_file(artifact.file(DATA_FILE))
    if missing := {"inputs", "targets"} - arrays.keys():
        raise ArtifactError(f"{artifact.path}/{DATA_FILE} lacks {' and '.join(sorted(missing))}")
    inputs, targets = arrays["inputs"], arrays["targets"]
    if targets.shape != (info.samples,) or targets.dtype != np.int64 or len(inputs) != info.samples:
        raise ArtifactError(
            f"{artifact.path}: inputs {inputs.shape} and targets {targets.dtype} {targets.shape} "
            f"are not {info.samples} samples with int64 [N] targets"
        )
    if targets.min() < 0 or targets.max() >= info.classes:
        raise ArtifactError(f"{artifact.path}: targets lie outside 0..{info.classes - 1}")
    return inputs, targets, info


def source_path(name: str, environment: Mapping[str, str]) -> Path:
    """Where the data source of that name lies. Raises KeyError naming those that there are."""
    if DATA_ENV not in environment:
        raise KeyError(f"{DATA_ENV} is not set: it names the data sources, and a TrainingJob sets it from spec.data")
    sources: dict[str, str] = json.loads(environment[DATA_ENV])
    if name not in sources:
        raise KeyError(
            f"there is no data source {name!r} in spec.data; there is {', '.join(sorted(sources)) or 'none'}"
        )
    return Path(sources[name])
