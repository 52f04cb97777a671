"""The samples that `slipway predict` sends: from a file, or of a built-in data set."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from slipway.api.tasks import OUT_URI_ENV, PrepareTask
from slipway.cli.exits import NOT_FOUND, USAGE, CommandError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Samples(NamedTuple):
    """inputs: [N, ...] as the model sees them; targets: [N] true classes, None where unknown."""

    inputs: NDArray[Any]
    targets: NDArray[np.int64] | None


def read_file(path: Path) -> Samples:
    """`.npy` (an array), `.npz` (`inputs`, and `targets` where known) or `.json` (nested lists, or both by name).

    Raises CommandError for a file that is missing or is none of these.
    """
    import numpy as np

    if not path.exists():
        raise CommandError(f"{path}: no such file", NOT_FOUND)
    try:
        match path.suffix.lower():
            case ".npy":
                named: Any = {"inputs": np.load(path, allow_pickle=False)}
            case ".npz":
                named = dict(np.load(path, allow_pickle=False))
            case ".json":
                body = json.loads(path.read_text())
                named = body if isinstance(body, dict) else {"inputs": body}
            case _:
                raise CommandError(f"{path}: give a file that ends in .npy, .npz or .json", USAGE)
        targets = np.asarray(named["targets"], dtype=np.int64) if "targets" in named else None
        return Samples(np.asarray(named["inputs"], dtype=np.float32), targets)
    except KeyError as error:
        raise CommandError(f"{path}: it holds no {error.args[0]!r}") from error
    except (ValueError, TypeError, OSError) as error:
        raise CommandError(f"{path}: {error}") from error


def built_in(dataset: str, split: str) -> Samples:
    """The samples of a built-in data set, made as a training's are. Raises CommandError where a library is missing."""
    from slipway.api.datasource import Dataset

    if dataset not in set(Dataset) or split not in ("train", "test"):
        known = ", ".join(Dataset)
        raise CommandError(f"--dataset {dataset} --split {split}: there is {known}, of train and test", USAGE)
    task = PrepareTask(dataset=Dataset(dataset), split="test" if split == "test" else "train")
    try:
        from slipway.runtime.datasets import read_arrays
        from slipway.runtime.pod import ARTIFACT, Pod
        from slipway.runtime.prepare import run

        with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
            places = {f"SLIPWAY_{name}_DIR": folder for name in ("OUT", "STORE", "SCRATCH")}
            pod = Pod.from_environment({**places, OUT_URI_ENV: f"store:///{dataset}"})
            run(task, pod)
            arrays = read_arrays(pod.out / ARTIFACT)
    except ImportError as error:
        raise CommandError(
            f"--dataset needs {error.name}: pip install 'slipway-operator[runtime]', or give --input"
        ) from error
    return Samples(arrays.inputs, arrays.targets)


def fitted(inputs: NDArray[Any], dims: tuple[int, ...]) -> NDArray[Any]:
    """The samples in the model's shape; dims is without the batch, -1 where any size goes.

    One sample alone gets a batch of one, and flat samples are folded. Raises CommandError where neither fits.
    """

    def matches(shape: tuple[int, ...]) -> bool:
        return len(shape) == len(dims) and all(want in (-1, got) for want, got in zip(dims, shape, strict=True))

    if inputs.ndim and matches(inputs.shape[1:]):
        return inputs
    if matches(inputs.shape):
        return inputs[None]
    count = 1
    for size in dims:
        count *= size
    if count > 0 and inputs.ndim > 1 and inputs[0].size == count:
        return inputs.reshape(len(inputs), *dims)
    raise CommandError(f"the model takes samples of shape {list(dims)}, and these are {list(inputs.shape[1:])}")
