"""ArtifactStore: where a namespace keeps its artifacts: a claim, or a bucket."""

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
"""A network in CIDR notation."""
_FOLDERS = r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$"


class ClaimStore(Model):
    """A PersistentVolumeClaim of the same namespace."""

    claim_name: ObjectName
    """Name of the claim. Its access modes must hold ReadWriteMany: pods of several nodes share it."""
    sub_path: Annotated[str, Field(pattern=_FOLDERS, max_length=256)] | None = None
    """A folder of the claim to keep to."""


class S3Store(Model):
    """A bucket of S3, or of a service that speaks it, conditional writes (If-None-Match) included."""

    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$", min_length=3, max_length=63)]
    """Name of the bucket. It must exist."""
    prefix: Annotated[str, Field(pattern=_FOLDERS, max_length=256)] | None = None
    """What the keys begin with, without a slash at the end."""
    endpoint: (
        Annotated[
            str, Field(pattern=r"^https?://[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?/?$", max_length=512)
        ]
        | None
    ) = None
    """URL of the service, as `https://s3.example.com:8333`. Absent: Amazon's, of the region."""
    region: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=64)] | None = None
    """The bucket's region. Absent: us-east-1, which services with an endpoint of their own take."""
    force_path_style: bool | None = None
    """Ask for ENDPOINT/BUCKET/KEY instead of BUCKET.ENDPOINT/KEY. Absent: true where an endpoint is given."""
    secret_ref: LocalObject | None = None
    """A Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; may hold AWS_SESSION_TOKEN and AWS_CA_BUNDLE (PEM)."""
    service_account_name: ObjectName | None = None
    """Or the service account by which a cloud knows the pods (IRSA on EKS). A podTemplate's own goes first."""

    rules = (exactly_one("secret_ref", "service_account_name"),)

    @property
    def path_style(self) -> bool:
        return self.endpoint is not None if self.force_path_style is None else self.force_path_style


class ArtifactStoreSpec(Model):
    """Where the files lie. They outlive this resource."""

    persistent_volume_claim: ClaimStore | None = None
    """The claim that holds the files."""
    s3: S3Store | None = None
    """Or the bucket."""
    networks: Annotated[tuple[Network, ...], Field(max_length=16)] = ()
    """Networks in which the bucket's servers are, as 10.4.0.0/16; of a Service of the cluster, those of its pods. Set
    them so that pods of plugins and of evaluation reach these and the DNS alone. Absent: the endpoint where it is an
    address, else those pods may reach anything. Of a claim, they reach nothing in any case."""
    held_out: bool = False
    """Keep the store for evaluation data: only the pods that evaluate, compare and package are given it, and none that
    runs the code of a user or a plugin. A ModelDeployment names it in spec.evaluation.store. Default: false. Set it if
    the main store is a bucket, whose one key reads everything in it."""

    rules = (
        exactly_one("persistent_volume_claim", "s3"),
        immutable("persistent_volume_claim"),
        immutable("s3"),
        immutable("held_out", required=True),
    )


class ArtifactStoreStatus(Model):
    """Whether pods can use the store."""

    observed_generation: int = -1
    """The generation of the spec that this status was derived from; -1 before the first."""
    phase: Literal["Pending", "Ready", "Failed"] | None = None
    """One word for people."""
    conditions: Conditions = ()
    """Ready, Reconciling, Stalled."""
    check: TaskRun | None = None
    """The newest try of a bucket, by a pod that lists, reads and writes it."""


class ArtifactStore(Model):
    """Keeps the artifacts of a namespace: data sets, models, reports."""

    spec: ArtifactStoreSpec
    """What is wanted."""
    status: ArtifactStoreStatus = Field(default_factory=ArtifactStoreStatus)
    """What is."""
