"""Deciding tasks work on copies of their own, so that no writer to the store can change verified files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.errors import ArtifactError
from slipway.api.tasks import (
    CompareTask,
    CompressTask,
    DataRef,
    DecidingTask,
    EvaluateTask,
    FetchTask,
    PackageTask,
    PrepareTask,
)
from slipway.runtime.pod import Pod
from slipway.sdk import artifact
from slipway.sdk.artifact import copy_artifact, read_artifact
from slipway.sdk.manifest import MANIFEST, ONNX_FILE, Content
from support.graphs import content_of, identity_graph
from support.stores import do, made, pod_in, put


def other_graph() -> bytes:
    """A graph of the same size as the identity graph, with other outputs."""
    model = onnx.load_model_from_string(identity_graph())
    weights = model.graph.initializer[0]
    weights.CopyFrom(onnx.numpy_helper.from_array(np.roll(onnx.numpy_helper.to_array(weights), 1, 1), weights.name))
    return model.SerializeToString(deterministic=True)


@pytest.fixture
def model(tmp_path: Path) -> ArtifactRef:
    return put(tmp_path, "step", content_of((3,), 3), {ONNX_FILE: identity_graph()})


def swap(tmp_path: Path) -> None:
    """Put another graph in the place of the model, as a pod may that runs the same step once more."""
    draft = tmp_path / "draft"
    draft.write_bytes(other_graph())
    os.replace(draft, tmp_path / "step/artifact" / ONNX_FILE)


def test_a_graph_that_is_swapped_once_it_was_verified_is_packed_as_it_was_verified(
    tmp_path: Path, model: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Pod.copy

    def copy(pod: Pod, ref: ArtifactRef, state: State, *, held_out: bool = False) -> artifact.Artifact:
        found = whole(pod, ref, state, held_out=held_out)
        swap(tmp_path)
        return found

    monkeypatch.setattr(Pod, "copy", copy)
    report = do(tmp_path, "package", PackageTask(model=model, name="m", max_batch_size=8))
    packed = pod_in(tmp_path, "package").read(made(report)).path
    assert (packed / "models/m/1" / ONNX_FILE).read_bytes() == identity_graph()
    assert json.loads((packed / MANIFEST).read_text())["provenance"]["parents"] == [model.digest]


def test_a_file_that_is_written_over_while_it_is_copied_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes that were copied are those that are hashed, chunk by chunk."""
    ref = put(tmp_path, "data", Content(state=State.ONNX), {"x": b"a" * 64 + b"b" * 64})
    source = tmp_path / "data/artifact/x"
    monkeypatch.setattr(artifact, "COPY_BYTES", 64)

    class Hash:
        def __init__(self) -> None:
            self.inner = hashlib.sha256()

        def update(self, chunk: bytes) -> None:
            source.chmod(0o644)
            source.write_bytes(b"z" * 128)
            self.inner.update(chunk)

        def hexdigest(self) -> str:
            return self.inner.hexdigest()

    monkeypatch.setattr(artifact, "_new_hash", Hash)
    with pytest.raises(ArtifactError, match="x differs from its sha256"):
        copy_artifact(source.parent, tmp_path / "copy", ref.digest)
    assert not (tmp_path / "copy/x").exists()


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda path: path.write_bytes(b"longer than it was"), "x has more bytes instead of 5"),
        (lambda path: path.write_bytes(b"sho"), "x has 3 bytes instead of 5"),
        (lambda path: path.write_bytes(b"other"), "x differs from its sha256"),
        (lambda path: path.unlink(), "x is missing"),
        (lambda path: (path.unlink(), path.symlink_to("/etc/hostname")), "x is not a plain file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "x is not a plain file"),
        (lambda path: (path.unlink(), path.mkdir()), "x is not a plain file"),
    ],
    ids=["longer", "shorter", "other", "missing", "link", "pipe", "folder"],
)
def test_a_copy_takes_only_what_the_digest_promises(
    spoil: Callable[[Path], object], complaint: str, tmp_path: Path
) -> None:
    ref = put(tmp_path, "data", Content(state=State.ONNX), {"x": b"bytes"})
    path = tmp_path / "data/artifact/x"
    path.chmod(0o644)
    spoil(path)
    with pytest.raises(ArtifactError, match=complaint):
        copy_artifact(path.parent, tmp_path / "copy", ref.digest)


def test_every_deciding_task_reads_its_inputs_as_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task of ours that read a folder of the store in place would be open to a swap."""
    model = put(tmp_path, "model", content_of((28, 28), 10), {ONNX_FILE: _digits_graph()})
    data = DataRef(name="e", artifact=made(do(tmp_path, "d", PrepareTask(dataset="digits", split="test"))))

    def refuse(*_: object) -> None:
        raise AssertionError("it reads in place")

    monkeypatch.setattr("slipway.runtime.store.FolderStore.read", refuse)
    predictions = made(do(tmp_path, "e", EvaluateTask(model=model, data=data)))
    assert do(tmp_path, "c", CompareTask(baseline=predictions, candidate=predictions)).counts is not None
    package = made(do(tmp_path, "p", PackageTask(model=model, name="m", max_batch_size=8, data=data)))
    assert do(tmp_path, "f", FetchTask(artifact=package)).outcome == "succeeded"
    assert {kind.__name__ for kind in DecidingTask.__subclasses__()} == {
        "EvaluateTask",
        "CompareTask",
        "PackageTask",
        "FetchTask",
    }
    assert not issubclass(CompressTask, DecidingTask)


def _digits_graph() -> bytes:
    from support.graphs import mlp_graph

    return mlp_graph([(np.zeros((784, 10), np.float32), np.arange(10, dtype=np.float32))], (28, 28))


def test_a_copy_is_an_artifact_of_the_same_digest(tmp_path: Path) -> None:
    ref = put(tmp_path, "data", Content(state=State.MODULE), {"a": b"1", "code/deep/b.py": b"2", "empty": b""})
    copy_artifact(tmp_path / "data/artifact", tmp_path / "copy", ref.digest)
    assert read_artifact(tmp_path / "copy").digest == ref.digest
