"""GPUPool: what a node pool is and what a pod may ask of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from slipway.api.base import Model
from slipway.api.podtemplate import LabelKey, LabelValue, Toleration


class DeviceResource(Model):
    """The extended resource by which a pod asks for devices."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$", max_length=253)] = "nvidia.com/gpu"
    """Name of the resource, as the device plugin advertises it."""
    per_pod: int = Field(default=1, ge=1, le=64)
    """Devices that each training pod takes; also the default of processesPerNode."""


class GPUPoolSpec(Model):
    """Which nodes, and how a pod asks for their devices."""

    node_selector: dict[LabelKey, LabelValue] = Field(min_length=1, max_length=16)
    """Labels of the pool's nodes."""
    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=16)
    """Taints of the pool's nodes that its pods tolerate."""
    resource: DeviceResource | None = None
    """How devices are asked for. Absent: the pool has none."""


class GPUPool(Model):
    """A pool of alike nodes that TrainingJobs name by preference."""

    spec: GPUPoolSpec
    """What the pool is."""
