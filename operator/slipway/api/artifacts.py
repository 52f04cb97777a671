"""References to artifacts: what a status records of a folder in a store."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from slipway.api.base import Count, Digest, Reference

URI_PREFIX = "store:///"
MANIFEST = "manifest.json"
"""The file of an artifact that is written last: a folder without it holds no artifact."""

_PATH = r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*"

StoreUri = Annotated[str, Field(pattern=f"^{URI_PREFIX}{_PATH}$", max_length=512)]
"""Path in the namespace's store, such as `store:///steps/<digest>/artifact`. No part of it begins with a dot."""


class State(StrEnum):
    """Format of an artifact, which decides what can be done with it."""

    MODULE = "module"
    """A torch module: safetensors, a factory and, if its class is the user's, the code."""
    ONNX = "onnx"
    """An ONNX graph in one file."""
    DATASET = "dataset"
    """Arrays of inputs and targets as safetensors."""
    PREDICTIONS = "predictions"
    """Predicted and true classes of one data set, as safetensors."""
    REPOSITORY = "repository"
    """A Triton model repository with golden requests."""


class ArtifactRef(Reference):
    """Reference to one artifact. Readers refuse content with another digest."""

    uri: StoreUri
    """Location of the artifact in the store."""
    digest: Digest
    """Digest of the artifact's content."""
    state: State | None = None
    """Format of the artifact: module (torch), onnx, dataset, predictions, or repository (for Triton)."""
    size_bytes: Count | None = None
    """Bytes of the files that make the model, which are the weights or the graph; manifest and golden requests are not
    counted. Absent if it was not measured."""


def store_path(uri: str) -> str:
    """The path below the store's root. Raises ValueError where it would leave the store."""
    path = uri.removeprefix(URI_PREFIX)
    if path == uri or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"{uri!r} is not a path inside a store")
    return path
