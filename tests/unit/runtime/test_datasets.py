"""The digits are the same bytes wherever they are prepared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from slipway.api.tasks import PrepareTask
from slipway.runtime.datasets import enlarge, held_out, load_digits, read_arrays
from slipway.sdk.artifact import read_artifact
from support.stores import do, made

DIGESTS = {
    "train": "sha256:8539f10c84ea91995b7fc1512543ba46b8f979444b1748ba8ac5cdad33c7a515",
    "test": "sha256:1a13774e12ada38b13bdeaf03e26a527e9fe5567ac88b8951650eb5ce2c716ef",
}


def prepare(store: Path, split: str, folder: str) -> str:
    task = PrepareTask.model_validate({"dataset": "digits", "split": split})
    return made(do(store, folder, task)).digest


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_has_the_digest_that_every_release_gave_it(tmp_path: Path, split: str):
    assert prepare(tmp_path, split, "a") == prepare(tmp_path, split, "b") == DIGESTS[split]


def test_every_digit_is_in_exactly_one_split(tmp_path: Path):
    for split in ("train", "test"):
        prepare(tmp_path, split, split)
    stored = [load_file(tmp_path / split / "artifact/data.safetensors") for split in ("train", "test")]
    assert [len(data["targets"]) for data in stored] == [1257, 540]
    images, _ = load_digits()
    whole = sorted(image.tobytes() for image in enlarge(images))
    assert sorted(image.tobytes() for data in stored for image in data["inputs"]) == whole


def test_both_splits_hold_each_class_by_its_share():
    _, targets = load_digits()
    chosen = held_out(targets, 540)
    assert len(set(chosen.tolist())) == 540
    shares = np.bincount(targets[chosen]) / np.bincount(targets)
    assert np.allclose(shares, 540 / 1797, atol=0.01)


def test_enlarging_keeps_corners_and_lies_between_neighbours():
    ramp = np.tile(np.arange(8) * 16 // 7, (1, 8, 1))
    large = enlarge(ramp)[0]
    assert large.shape == (28, 28)
    assert (large[:, 0] == 0).all()
    assert (large[:, -1] == 255).all()
    assert (np.diff(large.astype(int), axis=1) >= 0).all()
    assert (large == large[0]).all()


def test_a_model_sees_numbers_from_0_to_1(tmp_path: Path):
    prepare(tmp_path, "test", "a")
    arrays = read_arrays(read_artifact(tmp_path / "a/artifact"))
    assert (arrays.inputs.dtype, arrays.inputs.shape) == (np.float32, (540, 28, 28))
    assert (arrays.inputs.min(), arrays.inputs.max()) == (0.0, 1.0)
    assert arrays.classes == 10
    assert arrays.targets.dtype == np.int64
