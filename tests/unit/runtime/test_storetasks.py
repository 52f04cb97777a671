"""Tasks on the store: a verified copy of a repository for a serving pod, and recovery of the report of a lost Job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath

import pytest

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.errors import ArtifactError
from slipway.api.reports import ErrorReport, Report, encode_report
from slipway.api.tasks import REPOSITORY_FRONTEND, FetchTask, RecoverTask
from slipway.runtime import storetasks
from slipway.runtime.pod import Pod
from slipway.runtime.serving import frontend
from slipway.runtime.store import FolderStore
from slipway.sdk.artifact import read_artifact
from slipway.sdk.manifest import Content
from support.stores import do, pod_in, put

FILES = {"models/digits/config.pbtxt": b"name", "models/digits/1/model.onnx": b"graph", "golden/probe.py": b"probe"}


@pytest.fixture
def packed(tmp_path: Path) -> ArtifactRef:
    return put(tmp_path, "packed", Content(state=State.REPOSITORY), FILES)


def fetched(store: Path) -> Path:
    return pod_in(store, "serving").repository


def digest_of_the_copy(store: Path) -> str:
    """Return the files besides the front end."""
    (fetched(store) / PurePath(REPOSITORY_FRONTEND).name).unlink()
    return read_artifact(fetched(store)).digest


def test_the_whole_repository_is_copied(tmp_path: Path, packed: ArtifactRef):
    do(tmp_path, "serving", FetchTask(artifact=packed))
    assert digest_of_the_copy(tmp_path) == packed.digest
    assert (fetched(tmp_path) / "models/digits/1/model.onnx").read_bytes() == b"graph"


def test_the_front_end_lies_beside_it_also_after_a_second_start(tmp_path: Path, packed: ArtifactRef):
    for _ in range(2):
        do(tmp_path, "serving", FetchTask(artifact=packed))
        name = PurePath(REPOSITORY_FRONTEND).name
        assert (fetched(tmp_path) / name).read_bytes() == Path(frontend.__file__).read_bytes()


def test_a_copy_that_was_cut_short_is_finished(tmp_path: Path, packed: ArtifactRef):
    (fetched(tmp_path) / "models/digits/1").mkdir(parents=True)
    (fetched(tmp_path) / "models/digits/1/model.onnx").write_bytes(b"gr")
    do(tmp_path, "serving", FetchTask(artifact=packed))
    assert digest_of_the_copy(tmp_path) == packed.digest


def test_a_repository_that_was_altered_in_the_store_is_refused(tmp_path: Path, packed: ArtifactRef):
    model = tmp_path / "packed/artifact/models/digits/1/model.onnx"
    model.chmod(0o644)
    model.write_bytes(b"grape")
    with pytest.raises(ArtifactError, match=r"models/digits/1/model.onnx differs from its sha256"):
        do(tmp_path, "serving", FetchTask(artifact=packed))
    assert not (fetched(tmp_path) / "models/digits/1/model.onnx").exists()


def test_another_digest_is_refused(tmp_path: Path, packed: ArtifactRef):
    other = packed.model_copy(update={"digest": "sha256:" + "0" * 64})
    with pytest.raises(ArtifactError, match="another artifact was written there"):
        do(tmp_path, "serving", FetchTask(artifact=other))


def test_what_lies_in_the_pods_folder_and_is_not_of_the_repository_is_refused(tmp_path: Path, packed: ArtifactRef):
    (fetched(tmp_path) / "models/other").mkdir(parents=True)
    (fetched(tmp_path) / "models/other/config.pbtxt").write_text("name")
    with pytest.raises(ArtifactError, match=r"models/other/config\.pbtxt is not in the manifest"):
        do(tmp_path, "serving", FetchTask(artifact=packed))


def test_an_artifact_of_another_state_is_refused(tmp_path: Path):
    model = put(tmp_path, "model", Content(state=State.ONNX), {"model.onnx": b"graph"})
    with pytest.raises(ArtifactError, match="is of state onnx, and repository is needed"):
        do(tmp_path, "serving", FetchTask(artifact=model))


def test_a_serving_pod_waits_for_no_heavy_import(tmp_path: Path):
    heavy = "{'numpy', 'torch', 'onnx', 'onnxruntime', 'safetensors'}"
    code = (
        f"import sys, slipway.runtime.__main__, slipway.runtime.storetasks; sys.exit(str({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.strip() == "set()"


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
