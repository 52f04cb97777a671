"""`python -m slipway.runtime`: run the task in SLIPWAY_TASK, report its result, and exit with 0 or an error code.

The module of a task is imported when the task runs, so only tasks that need torch import it.
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
from slipway.runtime.pod import ARTIFACT, Pod, publish, read_task

TASKS = {
    "prepare": "slipway.runtime.datasets:prepare",
    "train": "slipway.runtime.train:run",
    "seal": "slipway.runtime.seal:run",
    "compress": "slipway.runtime.compress:run",
    "evaluate": "slipway.runtime.evaluation:evaluate",
    "compare": "slipway.runtime.evaluation:compare",
    "package": "slipway.runtime.package:run",
    "fetch": "slipway.runtime.storetasks:fetch_repository",
    "recover": "slipway.runtime.storetasks:recover_report",
    "check": "slipway.runtime.storetasks:check_bucket",
}
"""The function of each task, as `module:function`; it takes the task and the pod, and returns a Report."""

SHARED = frozenset({"prepare", "train", "seal", "compress"})
"""Tasks that use an artifact which is already complete in the store. Deciding tasks always run."""


def main(environment: Mapping[str, str]) -> int:
    """Run the task and report it. Returns the exit code: 0, 1, or 143 after SIGTERM."""
    signal.signal(signal.SIGTERM, _terminate)
    pod = Pod.from_environment(environment)
    report: Report
    exit_code = 0  # also if the report is on the failure of another Job (recover): this task succeeded
    try:
        task = read_task(environment)
        report = finished(task, pod) or _perform(task, pod)
    except BaseException as error:  # noqa: BLE001 - every end of the pod is reported
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the report is being written
        print_failure(error)
        report = failed(error)
        exit_code = 143 if report.error is not None and report.error.exception == "SIGTERM" else 1
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    publish(report, pod)
    return exit_code


def finished(task: Task, pod: Pod) -> Report | None:
    """Return the report of a task whose artifact is already complete; None if the task must run."""
    if task.task not in SHARED:
        return None
    try:
        artifact = pod.results.find(ARTIFACT)
    except ArtifactError as error:
        print(f"running the task again: {error}", flush=True)
        return None
    if artifact is None:
        return None
    print(f"{artifact.digest} is already there", flush=True)
    return pod.succeeded(artifact, artifact.manifest.provenance.metrics)


def _perform(task: Task, pod: Pod) -> Report:
    module, _, function = TASKS[task.task].partition(":")
    run = getattr(import_module(module), function)
    try:
        report: Report = run(task, pod)
    except ArtifactError:
        # Another pod may have written the result of the same task meanwhile, which is then used.
        if (report_of_another := finished(task, pod)) is not None:
            return report_of_another
        raise
    return report


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(os.environ))
