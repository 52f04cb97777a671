"""The kinds of objects that Slipway reads or writes, and references to single objects and to those with labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Object = dict[str, Any]
"""A Kubernetes object as JSON. Typed models of Slipway's kinds are made from it."""

GROUP = "slipway.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
DEFAULT_NAMESPACE = "default"
"""The namespace of objects that have none."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of the API server, as its discovery lists it. group is "" for the core group."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return self.kind


class Key(NamedTuple):
    """The identity of an object: kind, namespace ("" for cluster-scoped kinds) and name."""

    kind: Kind
    namespace: str
    name: str


TRAINING_JOB = Kind(GROUP, VERSION, "trainingjobs", "TrainingJob")
MODEL_DEPLOYMENT = Kind(GROUP, VERSION, "modeldeployments", "ModelDeployment")
ARTIFACT_STORE = Kind(GROUP, VERSION, "artifactstores", "ArtifactStore")
STEP = Kind(GROUP, VERSION, "steps", "Step")
GPU_POOL = Kind(GROUP, VERSION, "gpupools", "GPUPool", namespaced=False)
COMPRESSION_PLUGIN = Kind(GROUP, VERSION, "compressionplugins", "CompressionPlugin", namespaced=False)

POD = Kind("", "v1", "pods", "Pod")
SERVICE = Kind("", "v1", "services", "Service")
PVC = Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
EVENT = Kind("events.k8s.io", "v1", "events", "Event")
JOB = Kind("batch", "v1", "jobs", "Job")
DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")
CONTROLLER_REVISION = Kind("apps", "v1", "controllerrevisions", "ControllerRevision")
NETWORK_POLICY = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
POD_DISRUPTION_BUDGET = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
LEASE = Kind("coordination.k8s.io", "v1", "leases", "Lease")

OWNERS = (TRAINING_JOB, MODEL_DEPLOYMENT, ARTIFACT_STORE)
"""The kinds that users write and that have a planner."""

RECONCILED = (*OWNERS, STEP)
"""The kinds that have a planner."""

REFERENCED = (GPU_POOL, COMPRESSION_PLUGIN, PVC)
"""Kinds that planners read but never write."""

CHILDREN = (STEP, JOB, SERVICE, NETWORK_POLICY, DEPLOYMENT, CONTROLLER_REVISION, POD_DISRUPTION_BUDGET)
"""Kinds that planners create, apply and delete."""

WATCHED = tuple(dict.fromkeys((*RECONCILED, *REFERENCED, *CHILDREN, POD)))


def kind_of(obj: Object) -> Kind:
    """Return the Kind of an object by its apiVersion and kind. Raises KeyError for one that Slipway does not use."""
    return _BY_GVK[(obj["apiVersion"], obj["kind"])]


def key_of(obj: Object) -> Key:
    meta = obj["metadata"]
    return Key(kind_of(obj), meta.get("namespace", ""), meta["name"])


def selector_text(labels: Mapping[str, str]) -> str:
    """Return the label selector of all objects with these labels, as kubectl takes it; "" for all objects."""
    return ",".join(f"{name}={value}" for name, value in labels.items())


_BY_GVK = {(k.api_version, k.kind): k for k in (*WATCHED, EVENT, LEASE)}
