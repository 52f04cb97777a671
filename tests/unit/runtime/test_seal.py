"""Output folders of scripts: models that are sealed, and messages for other content."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError
from slipway.api.tasks import SealTask
from slipway.sdk.artifact import Artifact, read_artifact
from support.graphs import identity_graph
from support.stores import do, made

WEIGHTS = save({"weight": np.ones((2, 3), np.float32)})
GRAPH = identity_graph()
MODULE = {"content": {"state": "module", "module": {"factory": "nets:Net", "code": True}}, "provenance": {}}


def seal(tmp_path: Path, files: dict[str, bytes | str]) -> Artifact:
    for name, data in files.items():
        path = tmp_path / "job/output" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_artifact(tmp_path / "job/artifact", made(do(tmp_path, "job", SealTask())).digest)


def test_an_onnx_file_is_sealed_with_its_inputs_and_outputs(tmp_path: Path):
    artifact = seal(tmp_path, {"best.onnx": GRAPH, "checkpoint.pt": b"a checkpoint of the script's own"})
    assert artifact.state is State.ONNX
    assert list(artifact.content.files) == ["model.onnx"]
    assert len(artifact.content.inputs) == len(artifact.content.outputs) == 1


def test_a_graph_has_one_digest_whatever_metadata_its_exporter_wrote(tmp_path: Path):
    import onnx

    model = onnx.load_model_from_string(GRAPH)
    onnx.helper.set_model_props(model, {"path": "/home/ada"})
    model.graph.node[0].doc_string = "File /home/ada/train.py, line 3"
    one = seal(tmp_path / "one", {"m.onnx": GRAPH})
    other = seal(tmp_path / "other", {"m.onnx": model.SerializeToString()})
    assert one.digest == other.digest
    assert b"ada" not in other.file("model.onnx").read_bytes()


@pytest.mark.parametrize("place", ["graph", "branch", "constant"])
def test_a_graph_whose_weights_lie_in_another_file_is_refused_wherever_they_are_named(tmp_path: Path, place: str):
    import onnx

    elsewhere = onnx.helper.make_tensor("elsewhere", onnx.TensorProto.FLOAT, [0], [])
    elsewhere.data_location = onnx.TensorProto.EXTERNAL
    elsewhere.external_data.add(key="location", value="../../other/data.safetensors")
    model = onnx.load_model_from_string(GRAPH)
    if place == "graph":
        model.graph.initializer.append(elsewhere)
    elif place == "constant":
        model.graph.node.append(onnx.helper.make_node("Constant", [], ["c"], value=elsewhere))
    else:
        branch = onnx.helper.make_graph([], "branch", [], [], [elsewhere])
        model.graph.node.append(onnx.helper.make_node("If", ["c"], ["d"], then_branch=branch))
    with pytest.raises(ArtifactError, match="has its weights in other files"):
        seal(tmp_path, {"m.onnx": model.SerializeToString()})


def test_weights_with_a_manifest_and_code_are_sealed(tmp_path: Path):
    manifest = {**MODULE, "provenance": {"metrics": {"accuracy": 0.9}}}
    files = {"manifest.json": json.dumps(manifest), "model.safetensors": WEIGHTS, "code/nets.py": "class Net: ..."}
    artifact = seal(tmp_path, {**files, "notes.txt": "left out"})
    assert sorted(artifact.content.files) == ["code/nets.py", "model.safetensors"]
    assert artifact.manifest.provenance.metrics == {"accuracy": 0.9}


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({}, r"is empty; call slipway\.runtime\.save"),
        ({"model.pt": b""}, r"model\.pt: pickles are refused, .* slipway\.runtime\.save"),
        ({"log.txt": b""}, r"no model, only log\.txt; call"),
        ({"a.onnx": b"", "b.onnx": b""}, r"2 models \(a\.onnx, b\.onnx\); keep one"),
        ({"a.onnx": b"no graph"}, "not an ONNX file"),
        ({"manifest.json": "{"}, r"manifest\.json in the output folder is invalid"),
        ({"manifest.json": json.dumps(MODULE)}, r"model\.safetensors in the output folder is missing"),
        ({"manifest.json": json.dumps(MODULE), "model.safetensors": b"pickle"}, "is not a safetensors file"),
        ({"manifest.json": json.dumps(MODULE), "model.safetensors": WEIGHTS}, "refers to code/ for the factory"),
        ({"manifest.json": '{"content": {"state": "dataset"}}'}, "has state dataset"),
    ],
    ids=[
        "empty",
        "pickle",
        "no model",
        "two",
        "bad graph",
        "bad JSON",
        "no weights",
        "bad weights",
        "no code",
        "state",
    ],
)
def test_anything_else_is_refused_with_what_to_write_instead(tmp_path: Path, files: dict[str, bytes], complaint: str):
    with pytest.raises(ArtifactError, match=complaint):
        seal(tmp_path, files)
    assert not (tmp_path / "job/artifact").exists()


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path):
    (tmp_path / "secret").write_bytes(GRAPH)
    (tmp_path / "job/output").mkdir(parents=True)
    (tmp_path / "job/output/model.onnx").symlink_to(tmp_path / "secret")
    with pytest.raises(ArtifactError, match="not a plain file"):
        seal(tmp_path, {})
