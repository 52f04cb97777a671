"""Devices of this machine, by the names that pods ask for them."""

from __future__ import annotations

from pathlib import Path

NVIDIA = "nvidia.com/gpu"


def present_devices(dev: Path = Path("/dev")) -> dict[str, int]:
    """How many there are of each resource."""
    return {NVIDIA: len(list(dev.glob("nvidia[0-9]*")))}
