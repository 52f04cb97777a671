"""Artifacts and data sources: references to content in a store, and built-in data sets."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from slipway.api.base import Count, Digest, DnsLabel, Model, Reference, exactly_one

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
    """Return the path below the store's root. Raises ValueError if it would leave the store."""
    path = uri.removeprefix(URI_PREFIX)
    if path == uri or any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError(f"{uri!r} is not a path inside a store")
    return path


class Dataset(StrEnum):
    """Built-in data set, which a task of its own writes into the store."""

    DIGITS = "digits"
    """scikit-learn's 1,797 handwritten digits (UCI optdigits), scaled to 28x28 pixels: 1,257 train, 540 test."""


class StoredData(Reference):
    """Data set in the store: a folder with a manifest."""

    uri: StoreUri
    """Location of the data set in the store, such as `store:///path/in/the/store`."""
    digest: Digest
    """Digest of the data set. Content with another digest is refused."""


class DataSource(Model):
    """Data set that is built in or in the store. Set exactly one of dataset and stored."""

    dataset: Dataset | None = None
    """Name of a built-in data set. `digits` has 1,797 images of handwritten digits."""
    split: Literal["train", "test"] = "train"
    """Part of the built-in data set to use. Default: train. The two parts have no sample in common; use `test` for
    evaluation."""
    stored: StoredData | None = None
    """Data set in the store."""

    rules = (exactly_one("dataset", "stored"),)

    def same_as(self, other: DataSource) -> bool:
        """Return True if both name the same samples."""
        if self.stored and other.stored:
            return self.stored.digest == other.stored.digest
        return self.dataset is not None and (self.dataset, self.split) == (other.dataset, other.split)


class NamedDataSource(DataSource):
    """Data set with the name by which the training code reads it."""

    name: Annotated[DnsLabel, Field(max_length=40)] = "train"
    """Name that the code passes to `slipway.runtime.data`. Default: train. A recipe trains on `train`, and evaluates on
    `test` if there is a data source of that name."""
