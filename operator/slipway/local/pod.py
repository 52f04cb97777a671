"""One pod: init containers in order, then its containers together, until they end or are stopped.

A pod whose run has ended gets its last status from the files that its shims and processes left in the state folder.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from slipway.api.base import wire_time
from slipway.api.kinds import DEPLOYMENT, POD, Object, key_of
from slipway.cluster.twin import Twin
from slipway.local.container import Container, Node, terminated, termination_message
from slipway.local.controllers import is_going, phase
from slipway.local.environment import discard, folder_of, give_back_scratch
from slipway.local.state import State

Report = Callable[[Object], None]
"""Takes the status of the pod as it is now."""


@dataclass
class RunningPod:
    """A pod's processes. report: called with every new status."""

    pod: Object
    node: Node
    report: Report
    disrupted: bool = False
    """It is ended because this run ends: no fault of its own (KEP-3329)."""
    _inits: list[Container] = field(default_factory=list)
    _mains: list[Container] = field(default_factory=list)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _turned: tuple[bool, str] | None = None

    def __post_init__(self) -> None:
        spec = self.pod["spec"]
        self._inits = [Container(self.pod, one, self.node, self._tell) for one in spec.get("initContainers", ())]
        self._mains = [Container(self.pod, one, self.node, self._tell) for one in spec["containers"]]

    @property
    def containers(self) -> list[Container]:
        return [*self._inits, *self._mains]

    @property
    def over(self) -> bool:
        """Nothing of it runs any more, or will."""
        return self._ended.is_set()

    async def run(self) -> None:
        """Until all containers have ended (restartPolicy Never) or the pod is stopped."""
        never = self.pod["spec"].get("restartPolicy", "Always") == "Never"
        try:
            for init in self._inits:
                if not never:
                    await init.always(until_success=True)
                elif await init.once():
                    return
            if not any(one.ending for one in self.containers):
                async with asyncio.TaskGroup() as group:
                    for main in self._mains:
                        group.create_task(main.once() if never else main.always())
        finally:
            give_back_scratch(self.pod, self.node.state)
            self._ended.set()
            self._tell()

    async def stop(self, *, hurry: bool = False) -> None:
        """Not ready at once; then preStop, SIGTERM, and SIGKILL after the grace period. hurry: without preStop."""
        if self.over:
            return
        grace = float(self.pod["spec"].get("terminationGracePeriodSeconds", 30))
        for container in self.containers:
            container.ending, container.ready = True, False
        self._tell()
        pause = 0.0 if hurry else max((_pre_stop(one.spec) for one in self._mains), default=0.0)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._ended.wait()
        await asyncio.gather(*(container.end(max(grace - pause, 1.0)) for container in self.containers))

    def status(self) -> Object:
        """The whole status, over what the pod began with."""
        ready = all(one.ready for one in self._mains) and not self.over
        initialized = all("terminated" in one.state for one in self._inits)
        # A Ready that is False without a reason is the node controller's word for a lost node.
        why = {} if ready else {"reason": "PodCompleted" if self.over else "ContainersNotReady"}
        conditions: list[Object] = [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Initialized", "status": str(initialized)},
            {"type": "ContainersReady", "status": str(ready), **why},
            {"type": "Ready", "status": str(ready), **why, "lastTransitionTime": self._since(ready)},
        ]
        if self.disrupted:
            conditions.append(disruption())
        status: Object = {
            **self.pod["status"],
            "phase": phase_of(self._mains, over=self.over),
            "conditions": conditions,
            "containerStatuses": [one.status for one in self._mains],
        }
        if self._inits:
            status["initContainerStatuses"] = [one.status for one in self._inits]
        return status

    def _since(self, ready: bool) -> str:
        """When it became so."""
        if self._turned is None or self._turned[0] != ready:
            self._turned = ready, wire_time(datetime.now(UTC))  # noqa: TID251 - a kubelet's clock
        return self._turned[1]

    def _tell(self) -> None:
        self.report(self.status())


def disruption() -> Object:
    """What a node says of pods that it ends because it shuts down."""
    message = "slipway run ended while the pod ran"
    return {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": message}


def phase_of(mains: Sequence[Container], *, over: bool) -> str:
    """A pod's phase by its containers. over: nothing of it will be started any more."""
    if over:
        codes = [one.state.get("terminated", {}).get("exitCode") for one in mains]
        return "Succeeded" if codes and not any(code is None or code for code in codes) else "Failed"
    begun = any("running" in one.state or "terminated" in one.state or one.last_state for one in mains)
    return "Running" if begun else "Pending"


def _pre_stop(container: Object) -> float:
    sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
    return float(sleep.get("seconds", 0))


async def settle_pods(twin: Twin, state: State) -> None:
    """Nothing of an earlier run is running: serving pods go, work that ended has ended, other work was disrupted."""
    for pod in await twin.list(POD):
        key = key_of(pod)
        serves = any(owner["kind"] == DEPLOYMENT.kind for owner in pod["metadata"].get("ownerReferences", ()))
        if serves or is_going(pod):
            twin.edit(key, lambda pod: pod["metadata"].pop("finalizers", None))
            if not is_going(pod):
                twin.remove(key)
        elif phase(pod) not in ("Succeeded", "Failed"):
            status = settled(pod, state)
            twin.edit(key, lambda pod, status=status: pod.update(status=status))  # type: ignore[misc]
        discard(pod, state)
    await _unready(twin)
    _forget(state, {pod["metadata"]["name"] for pod in await twin.list(POD)})


def settled(pod: Object, state: State) -> Object:
    """The last status of a pod that nobody runs any more."""
    statuses = [_container(one, folder_of(pod, state), state.logs(pod)) for one in pod["spec"]["containers"]]
    ends = [one["state"]["terminated"]["exitCode"] for one in statuses if "terminated" in one["state"]]
    whole = len(ends) == len(statuses)
    before = pod.get("status", {})
    if whole and not any(ends):
        return {**before, "containerStatuses": statuses, "phase": "Succeeded", "conditions": []}
    disrupted = not whole or any(c["type"] == "DisruptionTarget" for c in before.get("conditions", ()))
    conditions = [disruption()] if disrupted else []
    return {**before, "containerStatuses": statuses, "phase": "Failed", "conditions": conditions}


def _container(container: Object, folder: Path, logs: Path) -> Object:
    name = container["name"]
    words = folder / "containers" / str(name)
    status: Object = {"name": name, "image": container["image"], "ready": False, "restartCount": 0}
    try:
        code = int((words / "exit").read_text())
        at = _at(words / "exit")
    except (OSError, ValueError):
        return {**status, "state": {"waiting": {"reason": "ContainerStatusUnknown"}}}
    message = termination_message(container, words / "message", logs / f"{name}.0.log", code)
    return {**status, "state": {"terminated": terminated(code, message, at, at)}}


def _at(path: Path) -> str:
    return wire_time(datetime.fromtimestamp(path.stat().st_mtime, UTC))


async def _unready(twin: Twin) -> None:
    for deployment in await twin.list(DEPLOYMENT):
        twin.edit(key_of(deployment), lambda one: one.pop("status", None))


def _forget(state: State, names: set[str]) -> None:
    """Folders of pods that no object tells of, and their logs."""
    shutil.rmtree(state.pods, ignore_errors=True)
    for folder in (state.root / "logs").glob("*/*"):
        if folder.name not in names:
            shutil.rmtree(folder, ignore_errors=True)
