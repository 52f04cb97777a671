"""ArtifactStore: where a namespace keeps its artifacts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.api.base import Model, ObjectName, immutable
from slipway.api.status import Conditions


class ClaimStore(Model):
    """A PersistentVolumeClaim of the same namespace."""

    claim_name: ObjectName
    """Name of the claim. Its access modes must hold ReadWriteMany: pods of several nodes share it."""
    sub_path: (
        Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$", max_length=256)]
        | None
    ) = None
    """A folder of the claim to keep to."""


class ArtifactStoreSpec(Model):
    """Where the files lie. They outlive this resource, as a claim's data does."""

    persistent_volume_claim: ClaimStore
    """The claim that holds the files."""

    rules = (immutable("persistent_volume_claim", required=True),)


class ArtifactStoreStatus(Model):
    """Whether pods can use the store."""

    observed_generation: int = -1
    """The generation of the spec that this status was derived from; -1 before the first."""
    phase: Literal["Pending", "Ready", "Failed"] | None = None
    """One word for people."""
    conditions: Conditions = ()
    """Ready, Reconciling, Stalled."""


class ArtifactStore(Model):
    """Keeps the artifacts of a namespace: data sets, models, reports."""

    spec: ArtifactStoreSpec
    """What is wanted."""
    status: ArtifactStoreStatus = Field(default_factory=ArtifactStoreStatus)
    """What is."""
