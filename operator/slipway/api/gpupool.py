"""GPUPool: a group of similar Nodes, and the devices that a pod gets on them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from slipway.api.base import Model
from slipway.api.podtemplate import LabelKey, LabelValue, Toleration


class DeviceResource(Model):
    """Extended resource by which a pod requests devices."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$", max_length=253)] = "nvidia.com/gpu"
    """Name of the extended resource, as the device plugin of the Nodes advertises it. Default: nvidia.com/gpu."""
    per_pod: int = Field(default=1, ge=1, le=64)
    """Number of devices that each pod requests. Default: 1. It is also the default of spec.processesPerNode of a
    TrainingJob."""


class GPUPoolSpec(Model):
    """Nodes of the pool, and the devices that a pod requests on them."""

    node_selector: dict[LabelKey, LabelValue] = Field(min_length=1, max_length=16)
    """Labels that a Node must have to belong to the pool."""
    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=16)
    """Taints of the Nodes that the pods tolerate. Default: none."""
    resource: DeviceResource | None = None
    """Devices that each pod requests. Default: none, for a pool of Nodes without devices."""


class GPUPool(Model):
    """Names a group of similar Nodes that TrainingJobs and the pods of Steps can run on."""

    spec: GPUPoolSpec
    """Nodes of the pool, and the devices that a pod requests on them."""
