"""ArtifactStore: the PersistentVolumeClaim or the bucket that holds the artifacts of a namespace."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.api.base import Model, ObjectName, exactly_one, immutable
from slipway.api.podtemplate import LocalObject
from slipway.api.status import Conditions, TaskRun

_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
NETWORK = (
    rf"^({_OCTET}[.]{_OCTET}[.]{_OCTET}[.]{_OCTET}/(3[0-2]|[12]?[0-9])"
    "|[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7}/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$"
)
Network = Annotated[str, Field(pattern=NETWORK, max_length=43)]
"""Network in CIDR notation, such as 10.4.0.0/16."""
_FOLDERS = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$"


class ClaimStore(Model):
    """PersistentVolumeClaim of the same namespace."""

    claim_name: ObjectName
    """Name of the PersistentVolumeClaim. Its access modes must include ReadWriteMany, because pods on several Nodes
    share it."""
    sub_path: Annotated[str, Field(pattern=_FOLDERS, max_length=256)] | None = None
    """Folder of the claim that holds all files. Default: the root of the claim. Set it to share a claim with other
    applications."""


class S3Store(Model):
    """Bucket of Amazon S3, or of a compatible service that supports conditional writes (If-None-Match)."""

    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$", min_length=3, max_length=63)]
    """Name of the bucket. It must exist."""
    prefix: Annotated[str, Field(pattern=_FOLDERS, max_length=256)] | None = None
    """Prefix of all keys, without a slash at the end. Default: none. Set it to share a bucket."""
    endpoint: (
        Annotated[
            str, Field(pattern=r"^https?://[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?/?$", max_length=512)
        ]
        | None
    ) = None
    """URL of the service, such as `https://s3.example.com:8333`. Default: the endpoint of Amazon S3 in the region."""
    region: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=64)] | None = None
    """Region of the bucket. Default: us-east-1, which other services accept."""
    force_path_style: bool | None = None
    """If true, requests use ENDPOINT/BUCKET/KEY instead of BUCKET.ENDPOINT/KEY. Default: true if endpoint is set,
    otherwise false."""
    secret_ref: LocalObject | None = None
    """Secret with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and optionally AWS_SESSION_TOKEN and
    AWS_CA_BUNDLE (PEM). Set either secretRef or serviceAccountName."""
    service_account_name: ObjectName | None = None
    """Service account that gives the pods access to the bucket, such as by IRSA on EKS. A serviceAccountName in a
    podTemplate takes precedence."""

    rules = (exactly_one("secret_ref", "service_account_name"),)

    @property
    def path_style(self) -> bool:
        return self.endpoint is not None if self.force_path_style is None else self.force_path_style


class ArtifactStoreSpec(Model):
    """Location of the files. They stay when the ArtifactStore is deleted. Set exactly one of persistentVolumeClaim and
    s3."""

    persistent_volume_claim: ClaimStore | None = None
    """PersistentVolumeClaim that holds the files. It cannot be changed later."""
    s3: S3Store | None = None
    """Bucket that holds the files. It cannot be changed later."""
    networks: Annotated[tuple[Network, ...], Field(max_length=16)] = ()
    """Networks of the bucket's servers in CIDR notation, such as 10.4.0.0/16; for a Service in the cluster, those of
    its pods. Pods of plugins and of evaluation may then connect to these and to DNS only. Default: the endpoint if it
    is an IP address, otherwise those pods may connect to any address. It has no effect with a claim, which needs no
    network."""
    held_out: bool = False
    """If true, the store is reserved for evaluation data: only the pods that evaluate, compare and package get it, and
    none that runs the code of a user or of a plugin. Default: false. Set it if the main store is a bucket, because its
    one key reads all of it, and name the store in spec.evaluation.store of a ModelDeployment."""

    rules = (
        exactly_one("persistent_volume_claim", "s3"),
        immutable("persistent_volume_claim"),
        immutable("s3"),
        immutable("held_out", required=True),
    )


class ArtifactStoreStatus(Model):
    """State of the store, as the operator last observed it."""

    observed_generation: int = -1
    """Generation of the spec that this status describes; -1 until the operator has processed the resource."""
    phase: Literal["Pending", "Ready", "Failed"] | None = None
    """Summary of the state for people. Programs should read the conditions instead."""
    conditions: Conditions = ()
    """Ready, Reconciling and Stalled. Ready is True once pods can use the store."""
    check: TaskRun | None = None
    """The newest check of a bucket: a pod lists, reads and writes it. Absent with a claim."""


class ArtifactStore(Model):
    """Names the PersistentVolumeClaim or the bucket that holds the artifacts of a namespace: data sets, models and
    reports."""

    spec: ArtifactStoreSpec
    """Location of the files, and the pods that may use them."""
    status: ArtifactStoreStatus = Field(default_factory=ArtifactStoreStatus)
    """State of the store, as the operator last observed it."""
