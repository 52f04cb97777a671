"""Recovery of the report of a Job whose pods are gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slipway.api.reports import ErrorReport, Report, encode_report
from slipway.api.tasks import RecoverTask
from slipway.runtime import storetasks
from slipway.runtime.pod import Pod
from slipway.runtime.store import FolderStore

T0 = datetime(2026, 1, 1, tzinfo=UTC)
TASK = RecoverTask(uri="store:///training/u1/1", job_uid="j1")


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod.from_environment({"SLIPWAY_STORE_DIR": str(tmp_path)})


def leave(pod: Pod, name: str, report: Report | bytes) -> None:
    assert isinstance(pod.store, FolderStore)
    folder = pod.store.root / "training/u1/1/reports"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_bytes(report if isinstance(report, bytes) else encode_report(report))


def failed(seconds: int, message: str) -> Report:
    error = ErrorReport(exception="ValueError", message=message)
    return Report(outcome="failed", at=T0 + timedelta(seconds=seconds), error=error)


def test_the_success_of_index_0_is_found(pod: Pod):
    leave(pod, "j1-0", Report(outcome="succeeded", at=T0, metrics={"loss": 0.5}))
    assert storetasks.recover_report(TASK, pod).metrics == {"loss": 0.5}


def test_of_several_failures_the_earliest_is_reported(pod: Pod):
    leave(pod, "j1-0", failed(9, "connection reset"))
    leave(pod, "j1-1", failed(3, "out of range"))
    assert storetasks.recover_report(TASK, pod).error == ErrorReport(exception="ValueError", message="out of range")


@pytest.mark.parametrize(
    ("name", "report"),
    [
        ("j2-0", Report(outcome="succeeded", at=T0)),
        ("j1-0", b'{"outcome": "succ'),
        ("j1-1", Report(outcome="succeeded", at=T0)),
    ],
    ids=["of another Job", "cut", "of another index"],
)
def test_nothing_else_counts_as_a_success(pod: Pod, name: str, report: Report | bytes):
    leave(pod, name, report)
    assert storetasks.recover_report(TASK, pod).outcome == "none"


def test_a_folder_that_never_was_is_answered_none(pod: Pod):
    assert storetasks.recover_report(TASK, pod).outcome == "none"


def test_the_pod_ends_well_also_when_what_it_found_is_a_failure(pod: Pod, tmp_path: Path):
    leave(pod, "j1-0", failed(0, "out of range"))
    message = tmp_path / "termination-log"
    environment = {
        **os.environ,
        "SLIPWAY_STORE_DIR": str(tmp_path),
        "SLIPWAY_TERMINATION_LOG": str(message),
        "SLIPWAY_TASK": TASK.model_dump_json(by_alias=True),
    }
    ended = subprocess.run([sys.executable, "-m", "slipway.runtime"], env=environment, timeout=60, check=False)
    assert ended.returncode == 0
    assert json.loads(message.read_bytes())["error"]["message"] == "out of range"
