"""The file `manifest.json`: an artifact's content, which its digest covers, and its provenance, which it does not.

    {"content":    {"format": 1, "state": "module", "files": {"model.safetensors": {"sha256": ..., "size": ...}}, ...},
     "provenance": {"parents": ["sha256:..."], "task": "compress", "metrics": {...}, ...}}

The digest is the SHA-256 of the content as canonical JSON (keys sorted, no white space, UTF-8). New optional fields
default to None and are left out, so they change no digest that exists.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from slipway.api.artifacts import MANIFEST as MANIFEST  # noqa: PLC0414 - exported: it is part of what this module defines
from slipway.api.artifacts import State
from slipway.api.base import Digest, Model, Open
from slipway.api.entrypoint import Factory
from slipway.api.errors import ArtifactError

MODEL_FILE = "model.safetensors"
"""Weights of an artifact of state module."""
ONNX_FILE = "model.onnx"
"""Graph of an artifact of state onnx."""
DATA_FILE = "data.safetensors"
"""Tensors `inputs` and `targets` (int64 [N]) of an artifact of state dataset."""
PREDICTIONS_FILE = "predictions.safetensors"
"""Tensors of an artifact of state predictions."""
CODE_DIR = "code"
"""Folder of the Python files that define a module of the user's own class."""

_PART = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._+-]*$")


def relative_path(name: str) -> str:
    """Return the name if it is inside a folder on any system. Raises ValueError otherwise."""
    parts = PurePosixPath(name).parts
    if not parts or "/".join(parts) != name or not all(_PART.match(part) for part in parts) or len(name) > 255:
        raise ValueError(f"{name!r} is not a plain relative path of letters, digits and ._+-")
    return name


class FileEntry(Model):
    """One file of an artifact."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Hexadecimal SHA-256 of its bytes."""
    size: int = Field(ge=0)
    """Number of bytes."""


class TensorSpec(Model):
    """An input or output of a model, or an array of a data set."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    """The tensor's name in the graph."""
    shape: tuple[int, ...] = Field(max_length=8)
    """Shape without the batch dimension; -1 for a dimension that may vary."""
    dtype: Annotated[str, Field(pattern=r"^[a-z]+[0-9]*$", max_length=16)] = "float32"
    """numpy's name of the element type."""


class ModuleSource(Model):
    """Callable that builds a torch module before its weights are loaded."""

    factory: Factory
    """`module:callable` that returns a torch.nn.Module; with `code`, the module is a file of the folder `code/`."""
    args: Open = Field(default_factory=dict)
    """Keyword arguments of the callable, as JSON."""
    code: bool = False
    """True if the folder `code/` defines the factory."""
    resized: bool = False
    """True if layers take the shapes of the stored weights before these are loaded, because channels were pruned."""


class DatasetInfo(Model):
    """Description of a data set, besides its arrays."""

    samples: int = Field(ge=1)
    """Number of samples."""
    classes: int = Field(ge=2)
    """Number of classes; targets are from 0 to classes - 1."""
    scale: float = Field(gt=0, allow_inf_nan=False)
    """Factor by which stored inputs are multiplied before a model gets them."""


class Content(Model):
    """The part of a manifest that the digest covers: no times, places or durations."""

    format: Literal[1] = 1
    """Version of this schema."""
    state: State
    """Format of the artifact."""
    files: dict[Annotated[str, AfterValidator(relative_path)], FileEntry] = Field(default_factory=dict)
    """All files except the manifest, by their path in the folder."""
    inputs: tuple[TensorSpec, ...] = Field(default=(), max_length=64)
    """Inputs of a model, in order."""
    outputs: tuple[TensorSpec, ...] = Field(default=(), max_length=64)
    """Outputs of a model, in order; a classifier's first output has one score for each class."""
    module: ModuleSource | None = None
    """Set for state module."""
    dataset: DatasetInfo | None = None
    """Set for state dataset."""


class Provenance(Model):
    """Origin of an artifact, for people and reports: the digest does not cover it."""

    task: Annotated[str, Field(max_length=64)] = ""
    """The task that made it: train, compress, ..."""
    parents: tuple[Digest, ...] = Field(default=(), max_length=64)
    """Digests of the artifacts it was made from."""
    parameters: Open = Field(default_factory=dict)
    """Parameters of the task."""
    metrics: dict[str, float] = Field(default_factory=dict, max_length=16)
    """Measurements of the task."""
    versions: dict[str, str] = Field(default_factory=dict, max_length=32)
    """Versions of the libraries and plugins that made it."""


class Manifest(Model):
    """The whole of manifest.json."""

    content: Content
    """The part that the digest covers."""
    provenance: Provenance = Field(default_factory=Provenance)
    """The part that the digest does not cover."""


def canonical_json(value: object) -> bytes:
    """Return canonical JSON: equal values give equal bytes. Raises ArtifactError for NaN and infinities."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ArtifactError(f"a manifest has a number that JSON cannot represent: {error}") from error
    return text.encode()


def digest_of(content: Mapping[str, Any]) -> str:
    """Return the digest of an artifact by the content part of its manifest, as read from or written to JSON."""
    return f"sha256:{hashlib.sha256(canonical_json(content)).hexdigest()}"
