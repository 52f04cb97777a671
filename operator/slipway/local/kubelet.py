"""The kubelet: runs processes for the pods of the twin, and assigns the devices of this machine to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import structlog

from slipway.api.base import wire_time
from slipway.api.kinds import Key, Object, key_of
from slipway.cluster.twin import Twin
from slipway.local.container import Node
from slipway.local.controllers import get_phase, is_terminating
from slipway.local.environment import Allocation, RendezvousEndpoint, Sources, remove_pod_folder
from slipway.local.images import Images
from slipway.local.network import choose_address, find_free_port
from slipway.local.pod import RunningPod
from slipway.local.state import StateFolder
from slipway.plan.jobs.pods import index_of
from slipway.plan.observation import controller_uid
from slipway.plan.owner import ATTEMPT_LABEL, PEERS_LABEL

log = structlog.get_logger(__name__)


class Kubelet:
    """Starts new pods, stops deleted ones, and reports the status of each. block: prefix of the pods' addresses."""

    def __init__(
        self,
        twin: Twin,
        state: StateFolder,
        images: Images,
        sources: Sources,
        block: str,
        devices: Devices,
        now: Callable[[], datetime],
    ) -> None:
        self._twin = twin
        self._now = now
        self._block = block
        self._devices = devices
        self._node = Node(state, images, sources, self._allocate)
        self._running: dict[str, RunningPod] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping: dict[str, asyncio.Task[None]] = {}
        self._ports: dict[str, int] = {}  # group of pods -> port of its rendezvous

    async def sync_pods(self, pods: list[Object]) -> None:
        """Start and stop pods. All get their addresses before any starts: agents need the rendezvous endpoint."""
        taken = {pod["status"]["podIP"] for pod in pods if "podIP" in pod.get("status", {}) and not _is_over(pod)}
        waiting = [pod for pod in pods if "podIP" not in pod.get("status", {}) and not is_terminating(pod)]
        fresh = [pod for pod in waiting if self._fits(pod)]
        for pod in fresh:
            address = choose_address(self._block, taken)
            taken.add(address)
            status = {"phase": "Pending", "podIP": address, "startTime": wire_time(self._now())}
            self._report(key_of(pod), status)
        for pod in fresh:
            self._start(await self._twin.get(key_of(pod)))
        for pod in pods:
            uid = pod["metadata"]["uid"]
            if is_terminating(pod) and uid not in self._stopping:
                self._stopping[uid] = asyncio.create_task(self._stop(key_of(pod), uid))

    async def shut_down(self) -> None:
        """End all processes, and mark their pods as disrupted: they did not fail by themselves."""
        for pod in self._running.values():
            pod.disrupted = not pod.over
        await asyncio.gather(*(pod.stop(hurry=True) for pod in self._running.values()))
        await self._cancel(*self._tasks.values(), *self._stopping.values())

    # --- Inside -------------------------------------------------------------------------------------------------

    def _start(self, pod: Object) -> None:
        key, uid = key_of(pod), pod["metadata"]["uid"]
        running = RunningPod(pod, self._node, lambda status: self._report(key, status))
        self._running[uid] = running
        self._tasks[uid] = asyncio.create_task(running.run(), name=key.name)
        self._tasks[uid].add_done_callback(_log_defect)
        self._tasks[uid].add_done_callback(lambda _task: self._devices.release(uid))

    async def _stop(self, key: Key, uid: str) -> None:
        if (running := self._running.get(uid)) is not None:
            await running.stop()
            await self._cancel(self._tasks.pop(uid))
            del self._running[uid]
        pod = self._twin.edit(key, lambda pod: pod["metadata"].pop("finalizers", None))
        remove_pod_folder(pod, self._node.state)
        del self._stopping[uid]

    def _report(self, key: Key, status: Object) -> None:
        self._twin.edit(key, lambda pod: pod.update(status=status))

    def _fits(self, pod: Object) -> bool:
        """Return whether the pod got its devices; if not, it is tried again."""
        wanted = requested_devices(pod)
        fits = self._devices.allocate(pod["metadata"]["uid"], wanted)
        if not fits:
            reason = {"reason": "Unschedulable", "message": f"{wanted} devices requested, and other pods use them"}
            self._report(
                key_of(pod), {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", **reason}]}
            )
        return fits

    def _allocate(self, pod: Object) -> Allocation:
        return Allocation(self._rendezvous(pod), self._devices.visible(pod["metadata"]["uid"]))

    def _rendezvous(self, pod: Object) -> RendezvousEndpoint | None:
        """Return the address of the pod of index 0, with one port for all pods of the Job or attempt."""
        group, index = _group(pod), index_of(pod)
        if group is None or index is None:
            return None
        first = next((one.pod for one in self._running.values() if _is_first(one.pod, group)), pod)
        address = str(first["status"]["podIP"])
        if group not in self._ports:
            self._ports[group] = find_free_port(address)
        return address, self._ports[group]

    @staticmethod
    async def _cancel(*tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _group(pod: Object) -> str | None:
    """Return a name for the pods whose agents meet: those of an attempt, or of a Job."""
    labels = pod["metadata"].get("labels", {})
    if PEERS_LABEL in labels and ATTEMPT_LABEL in labels:
        return f"{labels[PEERS_LABEL]}/{labels[ATTEMPT_LABEL]}"
    return controller_uid(pod)


def _is_first(pod: Object, group: str) -> bool:
    return _group(pod) == group and index_of(pod) == 0


def _is_over(pod: Object) -> bool:
    return get_phase(pod) in ("Succeeded", "Failed")


def _log_defect(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("lost the processes of a pod: this is a defect of Slipway", pod=task.get_name(), exc_info=error)


NVIDIA = "nvidia.com/gpu"


def count_devices(dev: Path = Path("/dev")) -> dict[str, int]:
    """Return the count of devices by resource."""
    return {NVIDIA: len(list(dev.glob("nvidia[0-9]*")))}


def requested_devices(pod: Object) -> int:
    """Return the sum of NVIDIA devices that the pod's containers request."""
    limits = (container.get("resources", {}).get("limits", {}) for container in pod["spec"]["containers"])
    return sum(int(one.get(NVIDIA, 0)) for one in limits)


class Devices:
    """Assignments of NVIDIA devices to pods. present: the count of devices by resource."""

    def __init__(self, present: Mapping[str, int]) -> None:
        self._count = present.get(NVIDIA, 0)
        self._held: dict[str, tuple[int, ...]] = {}

    def allocate(self, uid: str, count: int) -> bool:
        """Assign that many free devices to the pod; return False, and assign none, if fewer are free."""
        taken = {index for held in self._held.values() for index in held}
        free = [index for index in range(self._count) if index not in taken]
        if len(free) < count:
            return False
        self._held[uid] = tuple(free[:count])
        return True

    def release(self, uid: str) -> None:
        self._held.pop(uid, None)

    def visible(self, uid: str) -> str:
        """Return CUDA_VISIBLE_DEVICES of the pod: a pod that requested no device sees none, as on a cluster."""
        return ",".join(map(str, self._held.get(uid, ())))
