"""Data sets as arrays, and the task `prepare`, which writes a built-in one. No torch, and nothing is unpickled.

digits: 1,797 handwritten digits, 8x8 pixels of 0..16 (UCI optdigits test set, in scikit-learn), scaled to 28x28. It is
bit for bit the same everywhere: it uses integer arithmetic only, which no floating-point unit and no library changes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError
from slipway.api.reports import Report
from slipway.api.tasks import DATA_ENV, PrepareTask
from slipway.runtime.pod import ARTIFACT, Pod
from slipway.sdk.artifact import Artifact, read_artifact
from slipway.sdk.manifest import DATA_FILE, Content, DatasetInfo, Provenance, TensorSpec
from slipway.sdk.plugin import Arrays


def read_arrays(dataset: Artifact | Path) -> Arrays:
    """Return the samples as a model sees them: float32 inputs [N, ...] times the scale, int64 targets [N].

    A Path is a folder that this pod's first process has verified.
    Raises ArtifactError if the arrays do not match each other or the manifest.
    """
    inputs, targets, info = read_stored(dataset)
    return Arrays(inputs.astype(np.float32) * np.float32(info.scale), targets, info.classes)


def read_stored(dataset: Artifact | Path) -> tuple[NDArray[np.generic], NDArray[np.int64], DatasetInfo]:
    """Return the inputs as they are stored (unscaled, any type), the targets, and their description in the manifest."""
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
    """Return the folder of the data source of that name. Raises KeyError with the names that exist."""
    if DATA_ENV not in environment:
        raise KeyError(f"{DATA_ENV} is not set; a TrainingJob sets it to the data sources in spec.data")
    sources: dict[str, str] = json.loads(environment[DATA_ENV])
    if name not in sources:
        raise KeyError(f"there is no data source {name!r} in spec.data; it has {', '.join(sorted(sources)) or 'none'}")
    return Path(sources[name])


CLASSES = 10
TEST_SAMPLES = 540
SIDE = 28


def prepare(task: PrepareTask, pod: Pod) -> Report:
    """Write one split of the data set as an artifact."""
    images, targets = load_digits()
    chosen = np.isin(np.arange(len(targets)), held_out(targets, TEST_SAMPLES))
    if task.split == "train":
        chosen = ~chosen
    content, data = dataset(enlarge(images[chosen]), targets[chosen])
    parameters = {"dataset": str(task.dataset), "split": task.split}
    metrics = {"samples": float(chosen.sum())}
    origin = Provenance(task="prepare", parameters=parameters, metrics=metrics)
    artifact = pod.store.write(ARTIFACT, content, {DATA_FILE: data}, origin)
    return pod.succeeded(artifact, metrics)


def load_digits() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pixels [1797, 8, 8] of 0..16 and classes [1797]."""
    from sklearn.datasets import load_digits as load

    digits = load()
    return digits.images.astype(np.int64), digits.target.astype(np.int64)


def held_out(targets: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return indices of `count` samples, each class in proportion (largest remainder), drawn at random from seed 0.

    numpy's RandomState has a frozen stream (NEP 19), so every version draws the same samples.
    """
    generator = np.random.RandomState(0)
    classes, sizes = np.unique(targets, return_counts=True)
    counts, remainders = np.divmod(sizes * count, len(targets))
    extra = np.argsort(-remainders, kind="stable")[: count - counts.sum()]
    counts[extra] += 1
    chosen = []
    for label, size in zip(classes, counts, strict=True):
        chosen.append(generator.permutation(np.flatnonzero(targets == label))[:size])
    return np.sort(np.concatenate(chosen))


def enlarge(images: NDArray[np.int64], side: int = SIDE) -> NDArray[np.uint8]:
    """Resize bilinearly, corners aligned, from [N, n, n] of 0..16 to [N, side, side] of 0..255, rounded half up."""
    weights = _bilinear(images.shape[1], side)
    scaled = np.einsum("ia,nab,jb->nij", weights, images, weights)
    top = 16 * (side - 1) ** 2
    pixels: NDArray[np.uint8] = ((scaled * 255 * 2 + top) // (2 * top)).astype(np.uint8)
    return pixels


def dataset(inputs: NDArray[np.uint8], targets: NDArray[np.int64]) -> tuple[Content, bytes]:
    """Return content and bytes of an artifact of images and their classes."""
    content = Content(
        state=State.DATASET,
        inputs=(TensorSpec(name="inputs", shape=inputs.shape[1:], dtype=str(inputs.dtype)),),
        outputs=(TensorSpec(name="targets", shape=(), dtype=str(targets.dtype)),),
        dataset=DatasetInfo(samples=len(targets), classes=CLASSES, scale=1 / 255),
    )
    return content, save({"inputs": inputs, "targets": targets})


def _bilinear(old: int, new: int) -> NDArray[np.int64]:
    """Return integer weights [new, old]; each row adds up to new - 1."""
    left, rest = np.divmod(np.arange(new) * (old - 1), new - 1)
    weights = np.zeros((new, old), dtype=np.int64)
    weights[np.arange(new), left] = new - 1 - rest
    weights[np.arange(new), np.minimum(left + 1, old - 1)] += rest
    return weights
