"""The task `prepare`: a built-in data set as an artifact, bit for bit the same wherever it is made.

digits: 1,797 handwritten digits, 8x8 pixels of 0..16 (UCI optdigits test set, in scikit-learn), scaled to 28x28.
Integer arithmetic alone, so that no floating-point unit and no library version can move a bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from slipway.api.artifacts import State
from slipway.api.reports import Report
from slipway.api.tasks import PrepareTask
from slipway.runtime.pod import ARTIFACT, Pod
from slipway.sdk.manifest import DATA_FILE, Content, DatasetInfo, Provenance, TensorSpec

CLASSES = 10
TEST_SAMPLES = 540
SIDE = 28


def run(task: PrepareTask, pod: Pod) -> Report:
    """Write one split of the data set."""
    images, targets = load_digits()
    chosen = np.isin(np.arange(len(targets)), held_out(targets, TEST_SAMPLES))
    if task.split == "train":
        chosen = ~chosen
    content, data = dataset(enlarge(images[chosen]), targets[chosen])
    told = {"dataset": str(task.dataset), "split": task.split}
    metrics = {"samples": float(chosen.sum())}
    origin = Provenance(task="prepare", parameters=told, metrics=metrics)
    artifact = pod.store.write(ARTIFACT, content, {DATA_FILE: data}, origin)
    return pod.succeeded(artifact, metrics)


def load_digits() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixels [1797, 8, 8] of 0..16 and classes [1797]."""
    from sklearn.datasets import load_digits as load

    digits = load()
    return digits.images.astype(np.int64), digits.target.astype(np.int64)


def held_out(targets: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Indices of `count` samples, each class by its share (largest remainder), drawn at random from seed 0.

    By numpy's RandomState, whose stream is frozen (NEP 19): the same samples with every version.
    """
    generator = np.random.RandomState(0)
    classes, sizes = np.unique(targets, return_counts=True)
    shares, remainders = np.divmod(sizes * count, len(targets))
    extra = np.argsort(-remainders, kind="stable")[: count - shares.sum()]
    shares[extra] += 1
    chosen = []
    for label, share in zip(classes, shares, strict=True):
        chosen.append(generator.permutation(np.flatnonzero(targets == label))[:share])
    return np.sort(np.concatenate(chosen))


def enlarge(images: NDArray[np.int64], side: int = SIDE) -> NDArray[np.uint8]:
    """Bilinear, corners aligned, from [N, n, n] of 0..16 to [N, side, side] of 0..255, rounded half up."""
    weights = _bilinear(images.shape[1], side)
    scaled = np.einsum("ia,nab,jb->nij", weights, images, weights)
    top = 16 * (side - 1) ** 2
    pixels: NDArray[np.uint8] = ((scaled * 255 * 2 + top) // (2 * top)).astype(np.uint8)
    return pixels


def dataset(inputs: NDArray[np.uint8], targets: NDArray[np.int64]) -> tuple[Content, bytes]:
    """Content and bytes of an artifact of images and their classes."""
    content = Content(
        state=State.DATASET,
        inputs=(TensorSpec(name="inputs", shape=inputs.shape[1:], dtype=str(inputs.dtype)),),
        outputs=(TensorSpec(name="targets", shape=(), dtype=str(targets.dtype)),),
        dataset=DatasetInfo(samples=len(targets), classes=CLASSES, scale=1 / 255),
    )
    return content, save({"inputs": inputs, "targets": targets})


def _bilinear(old: int, new: int) -> NDArray[np.int64]:
    """[new, old] integer weights, each row adding up to new - 1."""
    left, share = np.divmod(np.arange(new) * (old - 1), new - 1)
    weights = np.zeros((new, old), dtype=np.int64)
    weights[np.arange(new), left] = new - 1 - share
    weights[np.arange(new), np.minimum(left + 1, old - 1)] += share
    return weights
