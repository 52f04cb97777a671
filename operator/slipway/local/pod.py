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
from slipway.local.container import Container, Node, read_termination_message, render_terminated
from slipway.local.controllers import get_phase, is_terminating
from slipway.local.environment import pod_folder, remove_pod_folder, remove_scratch_alias
from slipway.local.state import StateFolder

Report = Callable[[Object], None]
"""Receives the status of the pod as it is now."""


@dataclass
class RunningPod:
    """A pod's processes. report: called with every new status."""

    pod: Object
    node: Node
    report: Report
    disrupted: bool = False
    """True if it is stopped because the run ends (KEP-3329): it did not fail by itself."""
    _inits: list[Container] = field(default_factory=list)
    _mains: list[Container] = field(default_factory=list)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _ready_since: tuple[bool, str] | None = None

    def __post_init__(self) -> None:
        spec = self.pod["spec"]
        self._inits = [
            Container(self.pod, one, self.node, self._report_status) for one in spec.get("initContainers", ())
        ]
        self._mains = [Container(self.pod, one, self.node, self._report_status) for one in spec["containers"]]

    @property
    def containers(self) -> list[Container]:
        return [*self._inits, *self._mains]

    @property
    def over(self) -> bool:
        """True if no container runs or will run again."""
        return self._ended.is_set()

    async def run(self) -> None:
        """Run until all containers have ended (restartPolicy Never) or the pod is stopped."""
        never = self.pod["spec"].get("restartPolicy", "Always") == "Never"
        try:
            for init in self._inits:
                if not never:
                    await init.run_always(until_success=True)
                elif await init.run_once():
                    return
            if not any(one.ending for one in self.containers):
                async with asyncio.TaskGroup() as group:
                    for main in self._mains:
                        group.create_task(main.run_once() if never else main.run_always())
        finally:
            remove_scratch_alias(self.pod, self.node.state)
            self._ended.set()
            self._report_status()

    async def stop(self, *, hurry: bool = False) -> None:
        """Mark it not ready, then run preStop, SIGTERM, and SIGKILL after the grace period. hurry: skip preStop."""
        if self.over:
            return
        grace = float(self.pod["spec"].get("terminationGracePeriodSeconds", 30))
        for container in self.containers:
            container.ending, container.ready = True, False
        self._report_status()
        pause = 0.0 if hurry else max((_pre_stop(one.spec) for one in self._mains), default=0.0)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._ended.wait()
        await asyncio.gather(*(container.end(max(grace - pause, 1.0)) for container in self.containers))

    def status(self) -> Object:
        """Return the whole status."""
        ready = all(one.ready for one in self._mains) and not self.over
        initialized = all("terminated" in one.state for one in self._inits)
        # The node controller reports a lost node by Ready False without a reason.
        why = {} if ready else {"reason": "PodCompleted" if self.over else "ContainersNotReady"}
        conditions: list[Object] = [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Initialized", "status": str(initialized)},
            {"type": "ContainersReady", "status": str(ready), **why},
            {"type": "Ready", "status": str(ready), **why, "lastTransitionTime": self._since(ready)},
        ]
        if self.disrupted:
            conditions.append(render_disruption())
        status: Object = {
            **self.pod["status"],
            "phase": compute_phase(self._mains, over=self.over),
            "conditions": conditions,
            "containerStatuses": [one.status for one in self._mains],
        }
        if self._inits:
            status["initContainerStatuses"] = [one.status for one in self._inits]
        return status

    def _since(self, ready: bool) -> str:
        """Return the time since which readiness has this value."""
        if self._ready_since is None or self._ready_since[0] != ready:
            self._ready_since = ready, wire_time(datetime.now(UTC))  # noqa: TID251 - a kubelet's clock
        return self._ready_since[1]

    def _report_status(self) -> None:
        self.report(self.status())


def render_disruption() -> Object:
    """Return the condition that a node sets on pods that it stops because it shuts down."""
    message = "slipway run ended while the pod ran"
    return {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": message}


def compute_phase(mains: Sequence[Container], *, over: bool) -> str:
    """Return a pod's phase by its containers. over: none of them will start again."""
    if over:
        codes = [one.state.get("terminated", {}).get("exitCode") for one in mains]
        return "Succeeded" if codes and not any(code is None or code for code in codes) else "Failed"
    started = any("running" in one.state or "terminated" in one.state or one.last_state for one in mains)
    return "Running" if started else "Pending"


def _pre_stop(container: Object) -> float:
    sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
    return float(sleep.get("seconds", 0))


async def recover_pods(twin: Twin, state: StateFolder) -> None:
    """Update pods of an earlier run, whose processes have ended: remove serving pods, and set the status of the others.

    A pod whose containers have all ended gets their result; any other was disrupted.
    """
    for pod in await twin.list(POD):
        key = key_of(pod)
        serves = any(owner["kind"] == DEPLOYMENT.kind for owner in pod["metadata"].get("ownerReferences", ()))
        if serves or is_terminating(pod):
            twin.edit(key, lambda pod: pod["metadata"].pop("finalizers", None))
            if not is_terminating(pod):
                twin.remove(key)
        elif get_phase(pod) not in ("Succeeded", "Failed"):
            status = recover_status(pod, state)
            twin.edit(key, lambda pod, status=status: pod.update(status=status))  # type: ignore[misc]
        remove_pod_folder(pod, state)
    await _reset_deployments(twin)
    _remove_unused_folders(state, {pod["metadata"]["name"] for pod in await twin.list(POD)})


def recover_status(pod: Object, state: StateFolder) -> Object:
    """Return the last status of a pod whose run has ended."""
    statuses = [_recover_container(one, pod_folder(pod, state), state.logs(pod)) for one in pod["spec"]["containers"]]
    ends = [one["state"]["terminated"]["exitCode"] for one in statuses if "terminated" in one["state"]]
    whole = len(ends) == len(statuses)
    before = pod.get("status", {})
    if whole and not any(ends):
        return {**before, "containerStatuses": statuses, "phase": "Succeeded", "conditions": []}
    disrupted = not whole or any(c["type"] == "DisruptionTarget" for c in before.get("conditions", ()))
    conditions = [render_disruption()] if disrupted else []
    return {**before, "containerStatuses": statuses, "phase": "Failed", "conditions": conditions}


def _recover_container(container: Object, folder: Path, logs: Path) -> Object:
    name = container["name"]
    results = folder / "containers" / str(name)
    status: Object = {"name": name, "image": container["image"], "ready": False, "restartCount": 0}
    try:
        code = int((results / "exit").read_text())
        at = _modified_at(results / "exit")
    except (OSError, ValueError):
        return {**status, "state": {"waiting": {"reason": "ContainerStatusUnknown"}}}
    message = read_termination_message(container, results / "message", logs / f"{name}.0.log", code)
    return {**status, "state": {"terminated": render_terminated(code, message, at, at)}}


def _modified_at(path: Path) -> str:
    return wire_time(datetime.fromtimestamp(path.stat().st_mtime, UTC))


async def _reset_deployments(twin: Twin) -> None:
    for deployment in await twin.list(DEPLOYMENT):
        twin.edit(key_of(deployment), lambda one: one.pop("status", None))


def _remove_unused_folders(state: StateFolder, names: set[str]) -> None:
    """Remove folders and logs of pods that no longer exist."""
    shutil.rmtree(state.pods, ignore_errors=True)
    for folder in (state.root / "logs").glob("*/*"):
        if folder.name not in names:
            shutil.rmtree(folder, ignore_errors=True)
