"""Where data comes from."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from slipway.api.artifacts import StoreUri
from slipway.api.base import Digest, DnsLabel, Model, Reference, exactly_one


class Dataset(StrEnum):
    """A built-in data set, prepared into the store by a task of its own."""

    DIGITS = "digits"
    """scikit-learn's 1,797 handwritten digits (UCI optdigits), scaled to 28x28: 1,257 train, 540 test."""


class StoredData(Reference):
    """A data set that already lies in the store, as a folder with a manifest."""

    uri: StoreUri
    """Where it lies: `store:///path/in/the/store`."""
    digest: Digest
    """Its digest; other content is refused."""


class DataSource(Model):
    """Exactly one of a built-in data set or stored data."""

    dataset: Dataset | None = None
    """A built-in data set."""
    split: Literal["train", "test"] = "train"
    """Which part of a built-in data set. The two parts never share a sample."""
    stored: StoredData | None = None
    """A data set in the store."""

    rules = (exactly_one("dataset", "stored"),)

    def same_as(self, other: DataSource) -> bool:
        """Whether both name the same samples."""
        if self.stored and other.stored:
            return self.stored.digest == other.stored.digest
        return self.dataset is not None and (self.dataset, self.split) == (other.dataset, other.split)


class NamedDataSource(DataSource):
    """A data source under a name that the training code asks for."""

    name: Annotated[DnsLabel, Field(max_length=40)] = "train"
    """`slipway.runtime.data(NAME)` finds it; a recipe trains on `train` and evaluates on `test` where given."""
