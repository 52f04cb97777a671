"""Data sources: built-in data sets, and data sets in the store."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from slipway.api.artifacts import StoreUri
from slipway.api.base import Digest, DnsLabel, Model, Reference, exactly_one


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
    """Data set that is built in or lies in the store. Set exactly one of dataset and stored."""

    dataset: Dataset | None = None
    """Name of a built-in data set. `digits` has 1,797 images of handwritten digits."""
    split: Literal["train", "test"] = "train"
    """Part of the built-in data set to use. Default: train. The two parts have no sample in common; use `test` for
    evaluation."""
    stored: StoredData | None = None
    """Data set in the store."""

    rules = (exactly_one("dataset", "stored"),)

    def same_as(self, other: DataSource) -> bool:
        """Whether both name the same samples."""
        if self.stored and other.stored:
            return self.stored.digest == other.stored.digest
        return self.dataset is not None and (self.dataset, self.split) == (other.dataset, other.split)


class NamedDataSource(DataSource):
    """Data set with the name by which the training code reads it."""

    name: Annotated[DnsLabel, Field(max_length=40)] = "train"
    """Name that the code passes to `slipway.runtime.data`. Default: train. A recipe trains on `train`, and evaluates on
    `test` if there is a data source of that name."""
