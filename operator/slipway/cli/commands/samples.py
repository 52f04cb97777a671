"""The samples that `slipway predict` sends: from a file, or of a built-in data set."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import BadZipFile, ZipFile

from slipway.api.tasks import OUT_URI_ENV, PrepareTask
from slipway.cli.rendering.errors import NOT_FOUND, USAGE, CommandError
from slipway.manifests.files import UnreadableError, check_size, decode_text, read_bytes, too_large

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


MAX_ARRAY_BYTES, MAX_JSON_BYTES = 4 << 30, 100_000_000
"""Limits of a file, and of what is packed in it."""
_BROKEN = (ValueError, TypeError, OSError, EOFError, OverflowError, MemoryError, BadZipFile, NotImplementedError)


class Samples(NamedTuple):
    """inputs: [N, ...] as the model sees them; targets: [N] true classes, None where unknown."""

    inputs: NDArray[Any]
    targets: NDArray[np.int64] | None


def read_file(path: Path) -> Samples:
    """Read `.npy` (an array), `.npz` (`inputs`, and `targets` if known) or `.json` (nested lists, or both by name).

    Raises CommandError for a file that is missing or is none of these.
    """
    import numpy as np

    try:
        named = _arrays(path)
        if "inputs" not in named:
            raise CommandError(f"{path}: it holds no 'inputs'")
        targets = np.asarray(named["targets"], dtype=np.int64) if "targets" in named else None
        return Samples(np.asarray(named["inputs"], dtype=np.float32), targets)
    except UnreadableError as error:
        raise CommandError(f"{path}: {error.what}", NOT_FOUND if error.absent else USAGE) from error
    except _BROKEN as error:
        raise CommandError(f"{path}: {str(error) or type(error).__name__}") from error
    except RecursionError as error:
        raise CommandError(f"{path}: nested too deep; use lists of the model's input shape") from error


def _arrays(path: Path) -> Mapping[str, Any]:
    """Read the arrays of the file by name. No pickle is read, and nothing larger than the limits."""
    import numpy as np

    match path.suffix.lower():
        case ".npy":
            check_size(path, MAX_ARRAY_BYTES)
            try:
                return {"inputs": np.load(path, allow_pickle=False, mmap_mode="r")}  # held to the length of the file
            except ValueError as error:
                if "Python objects" in str(error):
                    raise ValueError("has Python objects, which are not loaded (allow_pickle=False)") from error
                raise
        case ".npz":
            check_size(path, MAX_ARRAY_BYTES)
            with ZipFile(path) as archive:
                if (size := sum(one.file_size for one in archive.infolist())) > MAX_ARRAY_BYTES:
                    raise too_large(MAX_ARRAY_BYTES, size)
            with np.load(path, allow_pickle=False) as found:
                return {name: found[name] for name in ("inputs", "targets") if name in found}
        case ".json":
            body = json.loads(decode_text(read_bytes(path, MAX_JSON_BYTES)))
            return body if isinstance(body, dict) else {"inputs": body}
    raise CommandError(f"{path}: unknown format; use .npy, .npz or .json", USAGE)


def built_in(dataset: str, split: str) -> Samples:
    """Make the samples of a built-in data set as a training does. Raises CommandError for a missing library."""
    from slipway.api.artifacts import Dataset

    if dataset not in set(Dataset) or split not in ("train", "test"):
        known = ", ".join(Dataset)
        raise CommandError(f"--dataset {dataset} --split {split}: unknown; use {known}, and train or test", USAGE)
    task = PrepareTask(dataset=Dataset(dataset), split="test" if split == "test" else "train")
    try:
        from slipway.runtime.datasets import prepare, read_arrays
        from slipway.runtime.pod import ARTIFACT, Pod

        with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
            places = {f"SLIPWAY_{name}_DIR": folder for name in ("OUT", "STORE", "SCRATCH")}
            pod = Pod.from_environment({**places, OUT_URI_ENV: f"store:///{dataset}"})
            prepare(task, pod)
            arrays = read_arrays(pod.out / ARTIFACT)
    except ImportError as error:
        raise CommandError(
            f"--dataset needs {error.name}: pip install 'slipway-operator[runtime]', or use --input"
        ) from error
    return Samples(arrays.inputs, arrays.targets)


def fitted(inputs: NDArray[Any], dims: tuple[int, ...]) -> NDArray[Any]:
    """Return the samples in the model's shape; dims is without the batch, -1 for any size.

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
    raise CommandError(f"samples have shape {list(inputs.shape[1:])}, and the model needs {list(dims)}")
