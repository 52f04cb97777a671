"""A pod's life in real processes: init containers, probes, restarts, and an end with nothing left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from slipway.api.kinds import Object
from slipway.api.tasks import SCRATCH_DIR
from slipway.local import container as containers
from slipway.local.container import Node
from slipway.local.controllers import is_ready
from slipway.local.environment import Allocation, Sources
from slipway.local.images import Images
from slipway.local.pod import RunningPod
from slipway.local.state import StateFolder
from support.local import a_pod
from support.local_runs import processes_of

MOUNT = [{"name": "shared", "mountPath": "/shared"}]
SLEEPS = "import time; time.sleep(600)"


def a_container(name: str, source: str, **more: object) -> Object:
    return {"name": name, "image": "runtime", "command": ["python", "-c", source], "volumeMounts": MOUNT, **more}


class Watched:
    """A pod that runs, and its newest status."""

    def __init__(self, folder: Path, **spec: object) -> None:
        self.status: Object = {}
        self.history: list[Object] = []
        self._news = asyncio.Event()
        pod = a_pod(volumes=[{"name": "shared", "emptyDir": {}}], **spec)
        node = Node(StateFolder(folder), Images("runtime", "serving"), Sources({}), lambda _pod: Allocation())
        self.running = RunningPod(pod, node, self._on_status)

    def _on_status(self, status: Object) -> None:
        self.status = status
        self.history.append(status)
        self._news.set()

    async def until(self, holds: Callable[[Object], object]) -> Object:
        async with asyncio.timeout(60):
            while not (self.status and holds(self.status)):
                self._news.clear()
                await self._news.wait()
        return self.status


@asynccontextmanager
async def running(folder: Path, *mains: Object, **spec: object) -> AsyncIterator[Watched]:
    watched = Watched(folder, containers=list(mains), **spec)
    task = asyncio.create_task(watched.running.run())
    try:
        yield watched
    finally:
        await watched.running.stop(hurry=True)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def status_of(status: Object, name: str = "main") -> Object:
    both = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    return next(one for one in both if one["name"] == name)


def is_over(status: Object) -> bool:
    return status["phase"] in ("Succeeded", "Failed")


async def test_init_containers_run_in_order_and_leave_their_files_to_the_main_one(tmp_path: Path):
    add = "open('/shared/log', 'a').write({!r})"
    inits = [a_container("first", add.format("1")), a_container("second", add.format("2"))]
    main = a_container("main", "import sys; sys.exit(open('/shared/log').read() != '12')")
    async with running(tmp_path, main, initContainers=inits) as pod:
        assert (await pod.until(is_over))["phase"] == "Succeeded"


async def test_a_failed_init_container_ends_a_pod_that_is_not_restarted(tmp_path: Path):
    inits = [a_container("first", "raise SystemExit(4)")]
    async with running(tmp_path, a_container("main", SLEEPS), initContainers=inits) as pod:
        status = await pod.until(is_over)
    assert status["phase"] == "Failed"
    assert status_of(status, "first")["state"]["terminated"]["exitCode"] == 4
    assert "running" not in status_of(status)["state"]


async def test_a_pod_leaves_its_termination_message_and_exit_code(tmp_path: Path):
    source = (
        "import os, pathlib, sys; pathlib.Path(os.environ['SLIPWAY_TERMINATION_LOG']).write_text('why'); sys.exit(3)"
    )
    async with running(tmp_path, a_container("main", source)) as pod:
        ended = status_of(await pod.until(is_over))["state"]["terminated"]
    assert (ended["exitCode"], ended["message"]) == (3, "why")


async def test_a_pod_that_has_ended_leaves_nothing_outside_of_the_state_folder(tmp_path: Path):
    tell = "import os; open(os.environ['SLIPWAY_TERMINATION_LOG'], 'w').write(os.environ['TMPDIR'])"
    main = a_container("main", tell, volumeMounts=[{"name": "shared", "mountPath": SCRATCH_DIR}])
    async with running(tmp_path / ("long" * 20), main) as pod:
        status = await pod.until(is_over)
    scratch = Path(status_of(status)["state"]["terminated"]["message"])
    assert not scratch.is_relative_to(tmp_path)  # a short name, in which sockets can be made
    assert not scratch.parent.exists()


async def test_a_pod_is_ready_only_after_its_startup_probe_has_succeeded(tmp_path: Path):
    source = "open('/shared/asked', 'a').write('.'); open('/shared/go')"
    probe = {"exec": {"command": ["python", "-c", source]}, "periodSeconds": 0.1, "timeoutSeconds": 30}
    main = a_container("main", SLEEPS, startupProbe={**probe, "failureThreshold": 1000})
    async with running(tmp_path, main) as pod:
        await pod.until(lambda status: "running" in status_of(status)["state"])
        shared = next((tmp_path / "pods").glob("*/shared"))
        async with asyncio.timeout(60):
            while not (shared / "asked").exists() or len((shared / "asked").read_text()) < 2:
                await asyncio.sleep(0.05)
        assert not is_ready({"metadata": {}, "status": pod.status})
        (shared / "go").touch()
        await pod.until(lambda status: is_ready({"metadata": {}, "status": status}))


async def test_a_container_that_never_starts_by_its_probe_is_ended_and_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(containers, "FIRST_BACKOFF_SECONDS", 0.1)
    probe = {"exec": {"command": ["python", "-c", "raise SystemExit(1)"]}, "periodSeconds": 0.1, "failureThreshold": 2}
    main = a_container("main", SLEEPS, startupProbe={**probe, "timeoutSeconds": 30})
    async with running(tmp_path, main, restartPolicy="Always") as pod:
        status = await pod.until(lambda status: status_of(status)["restartCount"] >= 1)
    assert status_of(status)["lastState"]["terminated"]["exitCode"] == 143


async def test_readiness_follows_what_the_container_answers(tmp_path: Path):
    server = (
        "import os, http.server as h\n"
        "class Handler(h.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(503 if os.path.exists('/shared/ill') else 200); self.end_headers()\n"
        "h.HTTPServer((os.environ['PET_LOCAL_ADDR'], 8000), Handler).serve_forever()\n"
    )
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 0.1, "failureThreshold": 1}
    ports = [{"name": "http", "containerPort": 8000}]
    async with running(tmp_path, a_container("main", server, readinessProbe=probe, ports=ports)) as pod:
        await pod.until(lambda status: status_of(status)["ready"])
        (next((tmp_path / "pods").glob("*/shared")) / "ill").touch()
        await pod.until(lambda status: not status_of(status)["ready"])


async def test_stopping_makes_it_unready_at_once_and_leaves_no_process(tmp_path: Path):
    async with running(tmp_path, a_container("main", SLEEPS)) as pod:
        await pod.until(lambda status: status_of(status)["ready"])
        async with asyncio.timeout(30):  # a busy machine may not have started it yet
            while not processes_of(tmp_path):
                await asyncio.sleep(0.05)
        seen = len(pod.history)
        await pod.running.stop()
        assert not status_of(pod.history[seen])["ready"]
    assert processes_of(tmp_path) == {}


async def test_an_image_that_is_not_here_is_named_and_waited_for(tmp_path: Path):
    main = {**a_container("main", SLEEPS), "image": "registry.example/mine:1"}
    async with running(tmp_path, main) as pod:
        waits = status_of(await pod.until(lambda status: status_of(status)["state"]["waiting"].get("message")))
    assert waits["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    assert "registry.example/mine:1" in waits["state"]["waiting"]["message"]
