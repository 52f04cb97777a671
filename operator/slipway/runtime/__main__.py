"""`python -m slipway.runtime`: do the task that SLIPWAY_TASK names, report how it went, exit 0 or not.

One module a task, imported when it is asked for: only those that need torch pay for it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from types import FrameType
from typing import NoReturn

from slipway.api.errors import ArtifactError
from slipway.api.reports import Report
from slipway.api.tasks import Task
from slipway.runtime.failures import Terminated, failed, print_failure
from slipway.runtime.pod import ARTIFACT, Pod
from slipway.runtime.reporting import publish
from slipway.runtime.taskinput import read_task

TASKS = {
    "prepare": "slipway.runtime.prepare",
    "train": "slipway.runtime.train",
    "seal": "slipway.runtime.seal",
    "compress": "slipway.runtime.compress",
    "evaluate": "slipway.runtime.evaluate",
    "compare": "slipway.runtime.compare",
    "package": "slipway.runtime.package",
    "fetch": "slipway.runtime.fetch",
    "recover": "slipway.runtime.recover",
    "check": "slipway.runtime.check",
}
"""The module of each task; it has `run(task, pod) -> Report`."""

SHARED = frozenset({"prepare", "train", "seal", "compress"})
"""Tasks whose result is taken from the store where it is whole, whoever left it. What decides is always done anew."""


def main(environment: Mapping[str, str]) -> int:
    """Returns the exit code: 0, 1, or 143 after SIGTERM."""
    signal.signal(signal.SIGTERM, _terminate)
    pod = Pod.from_environment(environment)
    report: Report
    exit_code = 0  # also if the report tells of the failure of another Job (recover): this task did its work
    try:
        task = read_task(environment)
        report = finished(task, pod) or _perform(task, pod)
    except BaseException as error:  # noqa: BLE001 - whatever ends the pod is reported
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the report is being written
        print_failure(error)
        report = failed(error)
        exit_code = 143 if report.error is not None and report.error.exception == "SIGTERM" else 1
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    publish(report, pod)
    return exit_code


def finished(task: Task, pod: Pod) -> Report | None:
    """The report of a task whose artifact is already whole; None where there is work to do."""
    if task.task not in SHARED:
        return None
    try:
        artifact = pod.results.find(ARTIFACT)
    except ArtifactError as error:
        print(f"doing the work again: {error}", flush=True)
        return None
    if artifact is None:
        return None
    print(f"{artifact.digest} is already there", flush=True)
    return pod.succeeded(artifact, artifact.manifest.provenance.metrics)


def _perform(task: Task, pod: Pod) -> Report:
    run = import_module(TASKS[task.task]).run
    try:
        report: Report = run(task, pod)
    except ArtifactError:
        # Another pod may have left the result of this very task meanwhile: then that is the result.
        if (report_of_another := finished(task, pod)) is not None:
            return report_of_another
        raise
    return report


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(os.environ))
