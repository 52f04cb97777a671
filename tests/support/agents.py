"""Real torchrun agents as processes of this machine, each started as the pod's process would be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from slipway.api.artifacts import ArtifactRef
from slipway.api.reports import MAX_REPORT_BYTES, ErrorReport, Report, parse_report
from support.servers import free_ports
from support.stores import AnyStore, environment_in, made, pod_in


class Agents:
    """The pods of one attempt. logs: a folder for what each of them leaves on its own machine."""

    def __init__(self, store: AnyStore, folder: str, task: dict[str, Any], logs: Path) -> None:
        self.pods = []
        self.store, self.folder, self.logs = store, folder, logs
        self.logs.mkdir(parents=True)
        for index in range(task["nodes"]):
            environment = {
                **os.environ,
                **environment_in(store, folder),
                "PYTHONPATH": os.pathsep.join(sys.path),
                "SLIPWAY_TASK": json.dumps(task),
                "SLIPWAY_SCRATCH_DIR": str(self.logs / f"scratch-{index}"),
                "SLIPWAY_TERMINATION_LOG": str(self.logs / f"message-{index}"),
                "SLIPWAY_JOB_UID": "uid",
                "JOB_COMPLETION_INDEX": str(index),
            }
            self.pods.append(
                subprocess.Popen(
                    [sys.executable, "-m", "slipway.runtime"], env=environment, stdout=subprocess.PIPE, text=True
                )
            )
        self.lines: list[list[str]] = [[] for _ in self.pods]
        self.said = threading.Condition()
        self.listeners = [threading.Thread(target=self._listen, args=(index,)) for index in range(len(self.pods))]
        for listener in self.listeners:
            listener.start()

    def _listen(self, index: int) -> None:
        stdout = self.pods[index].stdout
        assert stdout is not None
        with stdout:
            for line in stdout:
                with self.said:
                    self.lines[index].append(line.strip())
                    self.said.notify_all()

    def wait_for(self, index: int, line: str) -> None:
        with self.said:
            assert self.said.wait_for(lambda: line in self.lines[index], timeout=120), self.lines

    def ends(self) -> list[int]:
        return [pod.wait(timeout=150) for pod in self.pods]

    def report(self, index: int) -> Report:
        told = (self.logs / f"message-{index}").read_bytes()
        assert len(told) <= MAX_REPORT_BYTES
        assert told == pod_in(self.store, "reader").store.reports(self.folder, "uid")[f"uid-{index}"]
        report = parse_report(told)
        assert report is not None
        return report

    def error(self, index: int) -> ErrorReport:
        error = self.report(index).error
        assert error is not None
        return error

    def end(self) -> None:
        for pod in self.pods:
            if pod.poll() is None:
                pod.send_signal(signal.SIGTERM)
        for pod in self.pods:
            try:
                pod.wait(timeout=40)
            except subprocess.TimeoutExpired:
                pod.kill()
                pod.wait(timeout=10)
        for listener in self.listeners:
            listener.join(timeout=10)


def training_task(entrypoint: dict[str, Any], data: list[dict[str, Any]], nodes: int, processes: int) -> dict[str, Any]:
    """A TrainTask whose agents meet on this machine."""
    (port,) = free_ports(1)
    host = {"host": "127.0.0.1"} if nodes > 1 else {}
    return {
        "task": "train",
        "entrypoint": entrypoint,
        "data": data,
        "nodes": nodes,
        "processesPerNode": processes,
        "rendezvous": {"id": f"attempt-{port}", "port": port, "timeoutSeconds": 100, **host},
    }


def recipe(epochs: int = 10, **more: Any) -> dict[str, Any]:
    """An entry point that learns the digits without code."""
    model = {"factory": "slipway.runtime.models:mlp", "args": {"layers": [784, 128, 10]}}
    adam = {"name": "adam", "args": {"lr": 0.001}}
    return {"recipe": {"model": model, "optimizer": adam, "epochs": epochs, "batchSize": 32, **more}}


def trained(agents: Agents) -> ArtifactRef:
    """What they made, once all have ended well."""
    assert agents.ends() == [0] * len(agents.pods), agents.lines
    return made(agents.report(0))
