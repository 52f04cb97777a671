"""Devices of this machine, by the names that pods ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from slipway.api.kinds import Object

NVIDIA = "nvidia.com/gpu"


def present_devices(dev: Path = Path("/dev")) -> dict[str, int]:
    """How many there are of each resource."""
    return {NVIDIA: len(list(dev.glob("nvidia[0-9]*")))}


def wanted_devices(pod: Object) -> int:
    """How many NVIDIA devices its containers ask for together."""
    limits = (container.get("resources", {}).get("limits", {}) for container in pod["spec"]["containers"])
    return sum(int(one.get(NVIDIA, 0)) for one in limits)


class Devices:
    """Which pod has which NVIDIA devices. present: how many there are of each resource."""

    def __init__(self, present: Mapping[str, int]) -> None:
        self._count = present.get(NVIDIA, 0)
        self._held: dict[str, tuple[int, ...]] = {}

    def take(self, uid: str, count: int) -> bool:
        """Give the pod so many that nobody has; False, and none, where there are fewer."""
        taken = {index for held in self._held.values() for index in held}
        free = [index for index in range(self._count) if index not in taken]
        if len(free) < count:
            return False
        self._held[uid] = tuple(free[:count])
        return True

    def give_back(self, uid: str) -> None:
        self._held.pop(uid, None)

    def visible(self, uid: str) -> str:
        """What CUDA may see (CUDA_VISIBLE_DEVICES): a pod that asked for none sees none, as on a cluster."""
        return ",".join(map(str, self._held.get(uid, ())))
