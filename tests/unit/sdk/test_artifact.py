"""An artifact is its bytes: what reads it sees every change, and what writes it leaves all or nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.api.errors import ArtifactError
from slipway.sdk import Artifact, Content, ModuleSource, Provenance, State, TensorSpec, read_artifact, write_artifact

CONTENT = Content(
    state=State.MODULE,
    module=ModuleSource(factory="nets:Net", args={"width": 8, "bias": None}, code=True),
    inputs=(TensorSpec(name="input", shape=(4,)),),
)
FILES = {"model.safetensors": b"weights", "code/nets.py": b"class Net: ...\n"}


def write(
    path: Path, content: Content = CONTENT, files: dict[str, Path | bytes] | None = None, **origin: object
) -> Artifact:
    return write_artifact(path, content, FILES if files is None else files, Provenance.model_validate(origin))


def test_what_was_written_is_read(tmp_path: Path):
    written = write(tmp_path / "a", task="train", metrics={"accuracy": 0.5})
    found = read_artifact(tmp_path / "a", written.digest)
    assert found == written
    assert found.file("code/nets.py").read_bytes() == FILES["code/nets.py"]
    assert found.content.module is not None
    assert found.content.module.args == {"width": 8, "bias": None}
    assert found.manifest.provenance.metrics == {"accuracy": 0.5}


def test_the_digest_does_not_cover_places_times_and_durations(tmp_path: Path):
    here = write(tmp_path / "a", metrics={"seconds": 1.0}, task="train")
    there = write(tmp_path / "deep" / "er", metrics={"seconds": 2.0}, parents=["sha256:" + "0" * 64])
    assert here.digest == there.digest


def test_the_digest_is_pinned(tmp_path: Path):
    """Digests are in statuses and GitOps repositories: a release must not change that of the same content."""
    assert write(tmp_path / "a").digest == "sha256:fcbf0f9311204425561d9129f9f7d530548885d452c1a55f63f9ae9274255817"


@pytest.mark.parametrize(
    "other",
    [
        CONTENT.model_copy(update={"state": State.ONNX}),
        CONTENT.model_copy(update={"module": ModuleSource(factory="nets:Other", code=True)}),
        CONTENT.model_copy(update={"module": None}),
        CONTENT.model_copy(update={"inputs": (TensorSpec(name="input", shape=(5,)),)}),
    ],
    ids=["state", "factory", "no module", "input shape"],
)
def test_every_part_of_the_content_changes_the_digest(tmp_path: Path, other: Content):
    assert write(tmp_path / "a").digest != write(tmp_path / "b", other).digest


def test_the_size_is_that_of_weights_and_graph_alone(tmp_path: Path):
    files = {"1/model.onnx": b"12345", "golden/inputs.safetensors": b"123", "config.pbtxt": b"1"}
    assert write(tmp_path / "a", Content(state=State.REPOSITORY), files).size_bytes == 5


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"!")


def swap(path: Path) -> None:
    path.write_bytes(b"WEIGHTS")


def link(path: Path) -> None:
    path.rename(path.parent.parent / "outside")
    path.symlink_to(path.parent.parent / "outside")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda root: append(root / "model.safetensors"), "model.safetensors has 8 bytes instead of 7"),
        (lambda root: swap(root / "model.safetensors"), "model.safetensors differs from its sha256"),
        (lambda root: (root / "code/nets.py").unlink(), "code/nets.py is missing"),
        (lambda root: (root / "code/more.py").write_text(""), "code/more.py is not in the manifest"),
        (lambda root: link(root / "model.safetensors"), "model.safetensors is not a plain file"),
        (lambda root: (root / "manifest.json").unlink(), "has no manifest.json"),
        (lambda root: (root / "manifest.json").write_text("{"), "is not a manifest"),
        (lambda root: (root / "manifest.json").write_text('{"content": []}'), "is not a manifest"),
    ],
    ids=["longer", "other bytes", "missing", "one more", "link", "no manifest", "cut manifest", "other JSON"],
)
def test_a_change_is_seen_and_named(tmp_path: Path, change: Callable[[Path], object], complaint: str):
    write(tmp_path / "a")
    change(tmp_path / "a")
    with pytest.raises(ArtifactError, match=complaint):
        read_artifact(tmp_path / "a")


def test_every_difference_is_reported_at_once(tmp_path: Path):
    write(tmp_path / "a")
    swap(tmp_path / "a/model.safetensors")
    (tmp_path / "a/code/nets.py").unlink()
    with pytest.raises(ArtifactError, match=r"model\.safetensors differs from its sha256.*code/nets\.py is missing"):
        read_artifact(tmp_path / "a")


def test_a_whole_artifact_of_another_digest_is_refused(tmp_path: Path):
    write(tmp_path / "a")
    with pytest.raises(ArtifactError, match="not sha256:0000"):
        read_artifact(tmp_path / "a", "sha256:" + "0" * 64)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a//b", "a/../b", ".hidden", "", "a\\b", "a/./b"])
def test_a_name_that_leaves_the_folder_is_neither_written_nor_read(tmp_path: Path, name: str):
    with pytest.raises(ArtifactError, match="plain relative path"):
        write(tmp_path / "a", files={name: b""})
    assert list(tmp_path.iterdir()) == []
    written = write(tmp_path / "b")
    raw = json.loads((written.path / "manifest.json").read_text())
    raw["content"]["files"][name] = {"sha256": "0" * 64, "size": 0}
    (written.path / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match="plain relative path"):
        read_artifact(written.path)


def test_fields_of_a_newer_release_are_read_and_count(tmp_path: Path):
    written = write(tmp_path / "a")
    raw = json.loads((written.path / "manifest.json").read_text())
    raw["content"]["precision"] = "bfloat16"
    (written.path / "manifest.json").write_text(json.dumps(raw))
    assert read_artifact(written.path).digest != written.digest


def test_the_same_artifact_may_be_written_twice(tmp_path: Path):
    first = write(tmp_path / "a", metrics={"seconds": 1})
    again = write(tmp_path / "a", metrics={"seconds": 2})
    assert again.manifest.provenance.metrics == {"seconds": 1}
    assert again.digest == first.digest
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_whole_artifact_is_not_written_over(tmp_path: Path):
    first = write(tmp_path / "a")
    with pytest.raises(ArtifactError, match="already has"):
        write(tmp_path / "a", files={**FILES, "model.safetensors": b"others"})
    assert read_artifact(tmp_path / "a") == first
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_half_written_one_is_replaced(tmp_path: Path):
    (tmp_path / "a/code").mkdir(parents=True)
    (tmp_path / "a/model.safetensors").write_bytes(b"wei")
    assert write(tmp_path / "a").digest == write(tmp_path / "b").digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_source_that_cannot_be_read_leaves_nothing(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "out/a", files={"model.onnx": tmp_path / "none"})
    assert list((tmp_path / "out").iterdir()) == []


def test_a_number_that_json_does_not_have_is_refused(tmp_path: Path):
    path = write(tmp_path / "a").path / "manifest.json"
    path.write_text(path.read_text().replace('"width": 8', '"width": NaN'))
    with pytest.raises(ArtifactError, match="number that JSON cannot"):
        read_artifact(tmp_path / "a")


def test_asking_for_a_file_that_is_not_there_names_those_that_are(tmp_path: Path):
    artifact = write(tmp_path / "a")
    with pytest.raises(ArtifactError, match=r"it has code/nets\.py, model\.safetensors"):
        artifact.file("model.onnx")
