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
    CannotStart,
    Seat,
    Sources,
    environment_of,
    expanded,
    folder_of,
    mounts_of,
    port_of,
    scratch_of,
    translated,
    with_task_in_file,
)
from slipway.local.images import Images
from slipway.local.processes import Held, start
from slipway.local.state import State

FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 10.0, 300.0
"""Between two starts of a container that ends; it doubles (the kubelet's)."""
LOOK_AGAIN_SECONDS = 10.0
"""For what was missing when a container could not be made."""


@dataclass(frozen=True, slots=True)
class Node:
    """What containers run on: folders, what stands for images, and what the files hold besides objects."""

    state: State
    images: Images
    sources: Sources
    seat: Callable[[Object], Seat]
    """What a pod has been given."""


@dataclass
class Container:
    """A container's life over its restarts. changed: called whenever its status is another."""

    pod: Object
    spec: Object
    node: Node
    changed: Callable[[], None]
    state: Object = field(default_factory=lambda: {"waiting": {"reason": "ContainerCreating"}})
    last_state: Object = field(default_factory=dict)
    restarts: int = 0
    started: bool = False
    ready: bool = False
    held: Held | None = None
    ending: bool = False

    @property
    def status(self) -> Object:
        """As in containerStatuses."""
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
    def words(self) -> Path:
        """Where the container's exit code and last words are kept."""
        return folder_of(self.pod, self.node.state) / "containers" / str(self.spec["name"])

    @property
    def log(self) -> Path:
        return self.node.state.log_of(key_of(self.pod), self.spec["name"], self.restarts)

    async def once(self) -> int:
        """Run it to its end and return the exit code. What is missing to make it is waited for."""
        self.ready = self.started = False
        while True:
            try:
                self.held = await self._made()
                break
            except CannotStart as error:
                self._turn({"waiting": {"reason": "CreateContainerConfigError", "message": str(error)}})
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
        since = _now()
        self._turn({"running": {"startedAt": since}})
        probing = asyncio.create_task(self._probed(self.held))
        try:
            code = await self.held.wait()
        except asyncio.CancelledError:
            await self.held.killed()
            raise
        finally:
            probing.cancel()
            with suppress(asyncio.CancelledError):
                await probing
        self.ready = self.started = False
        self._turn({"terminated": self._ended(code, since)})
        return code

    async def always(self, *, until_success: bool = False) -> None:
        """Run it again and again, after a back-off that doubles; until_success: an init container's way."""
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            code = await self.once()
            if self.ending or (until_success and code == 0):
                return
            self.last_state = self.state
            said = f"back-off {backoff:.0f}s restarting failed container {self.spec['name']}"
            self._turn({"waiting": {"reason": "CrashLoopBackOff", "message": said}})
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)
            self.restarts += 1

    async def end(self, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL when the grace period is over."""
        self.ending = True
        if self.held is not None:
            await self.held.end(grace_seconds)

    # --- Inside -------------------------------------------------------------------------------------------------

    async def _made(self) -> Held:
        command, environment = self._command(self.spec.get("command", ()), self.spec.get("args", ()))
        self.log.parent.mkdir(parents=True, exist_ok=True)
        return await start(command, environment, self._folder(), self.log, str(self.words / "exit"))

    def _command(self, *parts: object) -> tuple[list[str], dict[str, str]]:
        """What is executed for a command of the manifest, and its environment. Raises CannotStart."""
        node, address = self.node, self.pod["status"]["podIP"]
        mounts = mounts_of(self.pod, self.spec, node.state, node.sources)
        environment = environment_of(
            self.pod,
            self.spec,
            mounts=mounts,
            message=self.words / "message",
            sources=node.sources,
            seat=node.seat(self.pod),
        )
        if SCRATCH_DIR in mounts:
            environment["TMPDIR"] = str(scratch_of(self.pod, mounts[SCRATCH_DIR], node.state))
        image = self.spec["image"]
        environment |= node.images.environment(image, environment["PATH"])
        words = [str(word) for part in parts if isinstance(part, list | tuple) for word in part]
        words = [translated(expanded(word, environment), mounts) for word in words]
        return node.images.command(image, words, address), with_task_in_file(environment, self.words)

    def _folder(self) -> Path:
        self.words.mkdir(parents=True, exist_ok=True)
        for name in ("exit", "message"):
            (self.words / name).unlink(missing_ok=True)
        return self.words

    def _ended(self, code: int, since: str) -> Object:
        message = termination_message(self.spec, self.words / "message", self.log, code)
        return terminated(code, message, since, _now())

    async def _probed(self, held: Held) -> None:
        """Startup first; only then readiness and liveness. Without a readiness probe a started container is ready."""
        startup = self.spec.get("startupProbe")
        if startup is not None and not await processes.until_success(startup, self._ask):
            await held.end(_grace(self.pod))
            return
        self.started = True
        readiness, liveness = self.spec.get("readinessProbe"), self.spec.get("livenessProbe")
        self._readied(readiness is None)
        async with asyncio.TaskGroup() as group:
            if readiness is not None:
                group.create_task(processes.follow(readiness, self._ask, self._readied))
            if liveness is not None:
                group.create_task(processes.follow(liveness, self._ask, lambda alive: self._lives(held, alive)))

    def _readied(self, ready: bool) -> None:
        self.ready = ready and not self.ending
        self.changed()

    def _lives(self, held: Held, alive: bool) -> None:
        if not alive:
            held.signal(signal.SIGTERM)
            asyncio.get_running_loop().call_later(_grace(self.pod), held.kill)

    async def _ask(self, probe: Object) -> bool:
        if (get := probe.get("httpGet")) is not None:
            port = port_of(self.spec, get["port"])
            return await processes.http_get(self.pod["status"]["podIP"], port, get.get("path", "/"))
        if (run := probe.get("exec")) is not None:
            command, environment = self._command(run["command"])
            asked = await start(command, environment, self.words)
            try:
                return await asked.wait() == 0
            finally:
                await asked.killed()
        raise CannotStart(f"container {self.spec['name']}: a process can be probed by exec and httpGet alone")

    def _turn(self, state: Object) -> None:
        self.state = state
        self.changed()


def terminated(code: int, message: str, since: str, at: str) -> Object:
    """A terminated state, as in containerStatuses."""
    ended = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": since, "finishedAt": at}
    return {**ended, "message": message} if message else ended


def _grace(pod: Object) -> float:
    return float(pod["spec"].get("terminationGracePeriodSeconds", 30))


def _now() -> str:
    return wire_time(datetime.now(UTC))  # noqa: TID251 - a kubelet's clock


LONGEST_BYTES = 4096
"""The kubelet keeps the end of the file."""
FALLBACK_LINES, FALLBACK_BYTES = 80, 2048
"""Of the log, where the file is empty and the container failed (FallbackToLogsOnError)."""


def termination_message(container: object, file: Path, log: Path, exit_code: int) -> str:
    """By the container's terminationMessagePolicy; empty where it said nothing."""
    said = ending(file, LONGEST_BYTES)
    policy = container.get("terminationMessagePolicy") if isinstance(container, dict) else None
    if said or exit_code == 0 or policy != "FallbackToLogsOnError":
        return said
    lines = ending(log, FALLBACK_BYTES).splitlines(keepends=True)
    return "".join(lines[-FALLBACK_LINES:])


def ending(path: Path, count: int) -> str:
    """The last so many bytes of a file as text; empty where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - count))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
