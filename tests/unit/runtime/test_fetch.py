"""The init container: whatever Triton then reads is what the digest says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path, PurePath

import pytest

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.errors import ArtifactError
from slipway.api.tasks import REPOSITORY_FRONTEND, FetchTask
from slipway.runtime.serving import frontend
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
