"""Packed repositories: their files, and the graphs that are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from safetensors.numpy import save
from tritonclient.grpc import model_config_pb2

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.errors import ArtifactError
from slipway.api.tasks import DataRef, PackageTask
from slipway.runtime.graphs import open_session, run_session
from slipway.runtime.package import batches
from slipway.sdk.manifest import DATA_FILE, ONNX_FILE, Content, DatasetInfo
from support.graphs import classifying_graph, content_of, identity_graph, mlp_graph
from support.stores import do, made, pod_in, put


def model_in(store: Path, graph: bytes | None = None) -> ArtifactRef:
    return put(store, "model", content_of((3,), 3), {ONNX_FILE: graph or identity_graph()})


def data_in(store: Path, shape: tuple[int, ...] = (3,)) -> DataRef:
    inputs = np.arange(20 * int(np.prod(shape)), dtype=np.float32).reshape(20, *shape)
    content = Content(state=State.DATASET, dataset=DatasetInfo(samples=20, classes=3, scale=0.5))
    files = {DATA_FILE: save({"inputs": inputs, "targets": np.arange(20) % 3})}
    return DataRef(name="test", artifact=put(store, "data", content, files))


def packed(store: Path, **task: object) -> Path:
    """The folder of the repository that was made."""
    report = do(store, "packed", PackageTask.model_validate({"name": "digits", "max_batch_size": 8, **task}))
    return pod_in(store, "packed").read(made(report)).path


def test_the_repository_holds_the_graph_byte_for_byte(tmp_path: Path):
    root = packed(tmp_path, model=model_in(tmp_path))
    assert (root / "models/digits/1/model.onnx").read_bytes() == identity_graph()
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*")) == [
        "golden/probe.py",
        "golden/requests.json",
        "manifest.json",
        "models/digits/1/model.onnx",
        "models/digits/1/model.py",
        "models/digits/config.pbtxt",
    ]


def test_tritons_own_message_reads_the_configuration(tmp_path: Path):
    root = packed(tmp_path, model=model_in(tmp_path), max_batch_size=32)
    config = text_format.Parse((root / "models/digits/config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("digits", "python", 32)
    assert [(t.name, t.data_type, list(t.dims)) for t in (*config.input, *config.output)] == [
        ("input", model_config_pb2.TYPE_FP32, [3]),
        ("output", model_config_pb2.TYPE_FP32, [3]),
    ]
    assert config.HasField("dynamic_batching")
    assert config.dynamic_batching.max_queue_delay_microseconds == 0
    assert list(config.version_policy.specific.versions) == [1]
    assert [(group.kind, group.count) for group in config.instance_group] == [
        (model_config_pb2.ModelInstanceGroup.KIND_CPU, 1)
    ]


@pytest.mark.parametrize("with_data", [True, False], ids=["of the data", "made up"])
def test_golden_outputs_are_what_the_packed_graph_answers(tmp_path: Path, with_data: bool):
    model = model_in(tmp_path)
    root = packed(tmp_path, model=model, data=data_in(tmp_path) if with_data else None)
    golden = json.loads((root / "golden/requests.json").read_text())
    session = open_session(root / "models/digits/1/model.onnx")
    samples = 0
    for request in golden["requests"]:
        given, expected = request["inputs"][0], request["outputs"][0]
        rows = np.array(given["data"], np.float32).reshape(given["shape"])
        answer = run_session(session, {given["name"]: rows})[0]
        assert np.array_equal(answer, np.array(expected["data"], np.float32).reshape(expected["shape"]))
        samples += len(rows)
    assert (golden["model"], samples) == ("digits", 8)


def test_golden_inputs_are_spread_over_the_data_as_a_model_sees_it(tmp_path: Path):
    root = packed(tmp_path, model=model_in(tmp_path), data=data_in(tmp_path))
    requests = json.loads((root / "golden/requests.json").read_text())["requests"]
    values = [value for request in requests for value in request["inputs"][0]["data"]]
    assert values[:3] == [0.0, 0.5, 1.0]  # the first sample times the scale of the data set
    assert values[-3:] == [28.5, 29.0, 29.5]  # the last


@pytest.mark.parametrize(("scale", "tolerance"), [(1.0, 1e-4), (1e4, 0.295)], ids=["small scores", "large scores"])
def test_large_scores_may_differ_by_what_float32_rounds(tmp_path: Path, scale: float, tolerance: float):
    graph = mlp_graph([(np.eye(3, dtype=np.float32) * np.float32(scale), np.zeros(3, np.float32))], (3,))
    root = packed(tmp_path, model=model_in(tmp_path, graph), data=data_in(tmp_path))  # inputs up to 29.5
    assert json.loads((root / "golden/requests.json").read_text())["tolerance"] == pytest.approx(tolerance)


def test_the_same_model_packs_to_the_same_digest(tmp_path: Path):
    task = PackageTask(model=model_in(tmp_path), name="digits", max_batch_size=8, data=data_in(tmp_path))
    assert made(do(tmp_path, "one", task)).digest == made(do(tmp_path, "two", task)).digest


@pytest.mark.parametrize(
    ("max_batch_size", "sizes"), [(64, [1, 2, 4, 1]), (2, [1, 2, 2, 2, 1]), (1, [1] * 8)], ids=["64", "2", "1"]
)
def test_golden_requests_grow_up_to_what_the_server_takes(max_batch_size: int, sizes: list[int]):
    assert [end - start for start, end in batches(8, max_batch_size)] == sizes


def test_a_graph_with_a_fixed_batch_is_refused(tmp_path: Path):
    with pytest.raises(ArtifactError, match=r"input has the shape .* export the model with a dynamic batch"):
        packed(tmp_path, model=model_in(tmp_path, identity_graph(batch=1)))


def test_a_graph_that_answers_nan_is_refused(tmp_path: Path):
    weights = np.full((3, 3), np.nan, np.float32)
    with pytest.raises(ArtifactError, match="returns NaN or infinity in output"):
        packed(tmp_path, model=model_in(tmp_path, mlp_graph([(weights, np.zeros(3, np.float32))], (3,))))


def test_data_of_another_shape_is_refused(tmp_path: Path):
    with pytest.raises(ArtifactError, match=r"takes samples of shape \(3,\), and those of the data have \(4,\)"):
        packed(tmp_path, model=model_in(tmp_path), data=data_in(tmp_path, (4,)))


def test_half_precision_is_refused_because_json_cannot_ask_for_it(tmp_path: Path):
    complaint = r"input is tensor\(float16\); cast it inside the graph to one of tensor\(float\), "
    with pytest.raises(ArtifactError, match=complaint):
        packed(tmp_path, model=model_in(tmp_path, half_graph()))


def half_graph() -> bytes:
    value = onnx.helper.make_tensor_value_info
    nodes = [onnx.helper.make_node("Relu", ["input"], ["output"])]
    ends = [[value(name, onnx.TensorProto.FLOAT16, ["batch", 3])] for name in ("input", "output")]
    opset = [onnx.helper.make_opsetid("", 20)]
    graph = onnx.helper.make_graph(nodes, "half", *ends)
    return bytes(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString())


def test_one_value_a_sample_is_served_as_a_column(tmp_path: Path):
    root = packed(tmp_path, model=model_in(tmp_path, classifying_graph()))
    config = text_format.Parse((root / "models/digits/config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert [(t.name, list(t.dims), t.HasField("reshape")) for t in config.output] == [
        ("output", [3], False),
        ("class", [1], True),
    ]
    request = json.loads((root / "golden/requests.json").read_text())["requests"][1]
    assert [(output["name"], output["shape"]) for output in request["outputs"]] == [
        ("output", [2, 3]),
        ("class", [2, 1]),
    ]


def test_what_is_no_graph_is_refused(tmp_path: Path):
    with pytest.raises(ArtifactError, match="onnxruntime cannot load"):
        packed(tmp_path, model=model_in(tmp_path, b"not a graph"))


def test_a_type_that_the_server_cannot_send_is_refused(tmp_path: Path):
    model = onnx.load_model_from_string(identity_graph())
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    node = onnx.helper.make_node("Cast", ["scores"], ["output"], to=onnx.TensorProto.STRING)
    model.graph.node[-1].output[0] = "scores"
    model.graph.node.append(node)
    with pytest.raises(ArtifactError, match=r"output is tensor\(string\); cast it"):
        packed(tmp_path, model=model_in(tmp_path, model.SerializeToString()))
