"""A pod's process: one task, a report in two places, an exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from slipway.api.reports import MAX_REPORT_BYTES, Report, parse_report
from slipway.api.tasks import PrepareTask, SealTask, TrainTask, task_digest
from slipway.sdk.artifact import read_artifact


def start(store: Path, task: str, **more: str) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "SLIPWAY_TASK": task,
        "SLIPWAY_STORE_DIR": str(store),
        "SLIPWAY_OUT_DIR": str(store / "out"),
        "SLIPWAY_OUT_URI": "store:///out",
        "SLIPWAY_JOB_UID": "uid",
        "SLIPWAY_TERMINATION_LOG": str(store / "termination-log"),
        **more,
    }
    return subprocess.Popen([sys.executable, "-m", "slipway.runtime"], env=environment, stdout=subprocess.PIPE)


def run(store: Path, task: str | Mapping[str, object], **more: str) -> tuple[int, Report]:
    pod = start(store, task if isinstance(task, str) else json.dumps(task), **more)
    pod.communicate(timeout=120)
    told = (store / "termination-log").read_bytes()
    assert told == (store / "out/reports/uid-0.json").read_bytes()
    assert len(told) <= MAX_REPORT_BYTES
    report = parse_report(told)
    assert report is not None
    return pod.returncode, report


def test_a_task_that_was_done_is_not_done_again(tmp_path: Path):
    task = PrepareTask.model_validate({"dataset": "digits", "split": "test"}).to_wire()
    code, first = run(tmp_path, task)
    assert (code, first.outcome, first.metrics) == (0, "succeeded", {"samples": 540.0})
    made = (tmp_path / "out/artifact/manifest.json").stat().st_mtime_ns
    code, second = run(tmp_path, task)
    assert (code, second.artifact, second.metrics) == (0, first.artifact, first.metrics)
    assert (tmp_path / "out/artifact/manifest.json").stat().st_mtime_ns == made

    (tmp_path / "out/artifact/data.safetensors").write_bytes(b"cut")
    code, third = run(tmp_path, task)
    assert (code, third.artifact) == (0, first.artifact)
    assert read_artifact(tmp_path / "out/artifact").digest == first.artifact.digest


def test_a_failure_is_reported_and_ends_with_its_exit_code(tmp_path: Path):
    code, report = run(tmp_path, SealTask().to_wire())
    assert code == 1
    assert report.error is not None
    assert report.error.exception == "OutputError"
    assert "the output folder is empty; call slipway.runtime.save" in report.error.message


def test_a_task_of_another_release_is_refused_by_the_name_of_its_field(tmp_path: Path):
    code, report = run(tmp_path, {"task": "prepare", "dataset": "letters", "split": "test"})
    assert code == 1
    assert report.error is not None
    assert "prepare.dataset" in report.error.message
    code, report = run(tmp_path, "")
    assert code == 1
    assert report.error is not None
    assert "SLIPWAY_TASK is not set" in report.error.message


def in_file(store: Path, text: str, digest: str) -> dict[str, str]:
    """The variables of a pod whose task lies in a file."""
    (store / "given").mkdir(exist_ok=True)
    (store / "given/task.json").write_text(text)
    return {"SLIPWAY_TASK": digest, "SLIPWAY_TASK_DIR": str(store / "given")}


def test_a_task_of_200_kb_is_read_from_its_file(tmp_path: Path):
    task = {**PrepareTask.model_validate({"dataset": "digits", "split": "test"}).to_wire(), "note": "x" * 200_000}
    text = json.dumps(task)
    code, report = run(tmp_path, "", **in_file(tmp_path, text, task_digest(text.encode())))
    assert (code, report.outcome, report.metrics) == (0, "succeeded", {"samples": 540.0})


def test_a_task_that_was_edited_in_the_annotation_of_its_pod_does_not_run(tmp_path: Path):
    text = json.dumps(SealTask().to_wire())
    code, report = run(tmp_path, "", **in_file(tmp_path, text + " ", task_digest(text.encode())))
    assert code == 1
    assert report.error is not None
    assert "has another digest than the one in SLIPWAY_TASK; do not edit the annotations" in report.error.message
    (tmp_path / "given/task.json").unlink()
    code, report = run(tmp_path, task_digest(b"none"), SLIPWAY_TASK_DIR=str(tmp_path / "given"))
    assert code == 1
    assert report.error is not None
    assert "has the digest of a task that cannot be read" in report.error.message


def test_sigterm_ends_a_pod_that_waits_for_another_with_a_report(tmp_path: Path):
    task = TrainTask.model_validate(
        {
            "entrypoint": {"script": {"path": "/train.py"}},
            "nodes": 2,
            "processesPerNode": 1,
            "rendezvous": {"id": "one", "host": "127.0.0.1", "port": 1},
        }
    )
    pod = start(tmp_path, json.dumps(task.to_wire()), JOB_COMPLETION_INDEX="1")
    try:
        assert pod.stdout is not None
        assert pod.stdout.readline() == b"waiting for the rendezvous at 127.0.0.1:1\n"
        pod.send_signal(signal.SIGTERM)
        pod.communicate(timeout=30)
    finally:
        pod.kill()
    assert pod.returncode == 143
    report = parse_report((tmp_path / "termination-log").read_bytes())
    assert report is not None
    assert report.error is not None
    assert report.error.exception == "SIGTERM"
