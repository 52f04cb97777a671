"""One container of a pod: starts by its pod's restartPolicy, probes, end, and termination message."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from slipway.api.base import wire_time
from slipway.api.kinds import Object, key_of
from slipway.api.tasks import SCRATCH_DIR
from slipway.local import processes
from slipway.local.environment import (
    Allocation,
    ContainerConfigError,
    Sources,
    build_environment,
    expand_variables,
    make_mounts,
    move_long_task_to_file,
    pod_folder,
    resolve_port,
    short_scratch_path,
    translate_paths,
)
from slipway.local.images import Images
from slipway.local.processes import ProcessGroup, start
from slipway.local.state import StateFolder

FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 10.0, 300.0
"""Bounds of the wait between two starts of a container; it doubles, as the kubelet's."""
RETRY_SECONDS = 10.0
"""Wait before a container that cannot be created is tried again."""


@dataclass(frozen=True, slots=True)
class Node:
    """The machine that containers run on: folders, stand-ins for images, and contents of ConfigMaps and Secrets."""

    state: StateFolder
    images: Images
    sources: Sources
    allocation: Callable[[Object], Allocation]
    """Devices and rendezvous endpoint of a pod."""


@dataclass
class Container:
    """A container over all its restarts. changed: called whenever its status changes."""

    pod: Object
    spec: Object
    node: Node
    changed: Callable[[], None]
    state: Object = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last_state: Object = field(default_factory=dict)
    restarts: int = 0
    started: bool = False
    ready: bool = False
    group: ProcessGroup | None = None
    ending: bool = False

    @property
    def status(self) -> Object:
        """An item of containerStatuses."""
        return {
            "name": self.spec["name"],
            "image": self.spec["image"],
            "imageID": self.spec["image"],
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last_state,
        }

    @property
    def folder(self) -> Path:
        """The folder of the container's exit code and termination message."""
        return pod_folder(self.pod, self.node.state) / "containers" / str(self.spec["name"])

    @property
    def log(self) -> Path:
        return self.node.state.log_of(key_of(self.pod), self.spec["name"], self.restarts)

    async def run_once(self) -> int:
        """Run it to its end and return the exit code. A container that cannot be created is tried again."""
        self.ready = self.started = False
        while True:
            try:
                self.group = await self._start()
                break
            except ContainerConfigError as error:
                self._set_state({"waiting": {"reason": "CreateContainerConfigError", "message": str(error)}})
                await asyncio.sleep(RETRY_SECONDS)
        since = _now()
        self._set_state({"running": {"startedAt": since}})
        probing = asyncio.create_task(self._run_probes(self.group))
        try:
            code = await self.group.wait()
        except asyncio.CancelledError:
            await self.group.kill_and_wait()
            raise
        finally:
            probing.cancel()
            with suppress(asyncio.CancelledError):
                await probing
        self.ready = self.started = False
        self._set_state({"terminated": self._terminated_state(code, since)})
        return code

    async def run_always(self, *, until_success: bool = False) -> None:
        """Run it again and again, with a back-off that doubles. until_success: end then, as an init container does."""
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            code = await self.run_once()
            if self.ending or (until_success and code == 0):
                return
            self.last_state = self.state
            message = f"back-off {backoff:.0f}s restarting failed container {self.spec['name']}"
            self._set_state({"waiting": {"reason": "CrashLoopBackOff", "message": message}})
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)
            self.restarts += 1

    async def end(self, grace_seconds: float) -> None:
        """Send SIGTERM, then SIGKILL after the grace period."""
        self.ending = True
        if self.group is not None:
            await self.group.end(grace_seconds)

    # --- Inside -------------------------------------------------------------------------------------------------

    async def _start(self) -> ProcessGroup:
        command, environment = self._command(self.spec.get("command", ()), self.spec.get("args", ()))
        self.log.parent.mkdir(parents=True, exist_ok=True)
        return await start(command, environment, self._prepare_folder(), self.log, str(self.folder / "exit"))

    def _command(self, *parts: object) -> tuple[list[str], dict[str, str]]:
        """Return the command to execute for one of the manifest, and its environment. Raises ContainerConfigError."""
        node, address = self.node, self.pod["status"]["podIP"]
        mounts = make_mounts(self.pod, self.spec, node.state, node.sources)
        environment = build_environment(
            self.pod,
            self.spec,
            mounts=mounts,
            message=self.folder / "message",
            sources=node.sources,
            allocation=node.allocation(self.pod),
        )
        if SCRATCH_DIR in mounts:
            environment["TMPDIR"] = str(short_scratch_path(self.pod, mounts[SCRATCH_DIR], node.state))
        image = self.spec["image"]
        environment |= node.images.environment(image, environment["PATH"])
        arguments = [str(word) for part in parts if isinstance(part, list | tuple) for word in part]
        arguments = [translate_paths(expand_variables(word, environment), mounts) for word in arguments]
        return node.images.command(image, arguments, address), move_long_task_to_file(environment, self.folder)

    def _prepare_folder(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("exit", "message"):
            (self.folder / name).unlink(missing_ok=True)
        return self.folder

    def _terminated_state(self, code: int, since: str) -> Object:
        message = read_termination_message(self.spec, self.folder / "message", self.log, code)
        return render_terminated(code, message, since, _now())

    async def _run_probes(self, group: ProcessGroup) -> None:
        """Probe startup, then readiness and liveness. Without a readiness probe a started container is ready."""
        startup = self.spec.get("startupProbe")
        if startup is not None and not await processes.wait_for_startup(startup, self._probe):
            await group.end(_grace(self.pod))
            return
        self.started = True
        readiness, liveness = self.spec.get("readinessProbe"), self.spec.get("livenessProbe")
        self._set_ready(readiness is None)
        async with asyncio.TaskGroup() as tasks:
            if readiness is not None:
                tasks.create_task(processes.follow_probe(readiness, self._probe, self._set_ready))
            if liveness is not None:
                tasks.create_task(
                    processes.follow_probe(liveness, self._probe, lambda alive: self._on_liveness(group, alive))
                )

    def _set_ready(self, ready: bool) -> None:
        self.ready = ready and not self.ending
        self.changed()

    def _on_liveness(self, group: ProcessGroup, alive: bool) -> None:
        if not alive:
            group.signal(signal.SIGTERM)
            asyncio.get_running_loop().call_later(_grace(self.pod), group.kill)

    async def _probe(self, probe: Object) -> bool:
        if (get := probe.get("httpGet")) is not None:
            port = resolve_port(self.spec, get["port"])
            return await processes.probe_http(self.pod["status"]["podIP"], port, get.get("path", "/"))
        if (run := probe.get("exec")) is not None:
            command, environment = self._command(run["command"])
            group = await start(command, environment, self.folder)
            try:
                return await group.wait() == 0
            finally:
                await group.kill_and_wait()
        raise ContainerConfigError(
            f"container {self.spec['name']}: only exec and httpGet probes work without a cluster"
        )

    def _set_state(self, state: Object) -> None:
        self.state = state
        self.changed()


def render_terminated(code: int, message: str, since: str, at: str) -> Object:
    """Return a terminated state, as in containerStatuses."""
    ended = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": since, "finishedAt": at}
    return {**ended, "message": message} if message else ended


def _grace(pod: Object) -> float:
    return float(pod["spec"].get("terminationGracePeriodSeconds", 30))


def _now() -> str:
    return wire_time(datetime.now(UTC))  # noqa: TID251 - a kubelet's clock


MESSAGE_BYTES = 4096
"""Limit of a termination message; the end of the file is kept, as the kubelet does."""
FALLBACK_LINES, FALLBACK_BYTES = 80, 2048
"""Limits of the end of a log that replaces an empty message of a failed container (FallbackToLogsOnError)."""


def read_termination_message(container: object, file: Path, log: Path, exit_code: int) -> str:
    """Return the message by the container's terminationMessagePolicy; empty if it wrote none."""
    message = read_tail(file, MESSAGE_BYTES)
    policy = container.get("terminationMessagePolicy") if isinstance(container, dict) else None
    if message or exit_code == 0 or policy != "FallbackToLogsOnError":
        return message
    lines = read_tail(log, FALLBACK_BYTES).splitlines(keepends=True)
    return "".join(lines[-FALLBACK_LINES:])


def read_tail(path: Path, count: int) -> str:
    """Return the last bytes of a file as text, at most count; empty if there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - count))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
