"""What every declared plugin keeps, and what the ones that Slipway ships are for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.numpy import load_file

from slipway.api.compressionplugin import CompressionPlugin
from slipway.sdk.artifact import Artifact, read_artifact
from slipway.sdk.describe import plugin_manifest
from slipway.sdk.plugin import GROUP, Compression, load_plugins

POINTS = sorted(entry_points(group=GROUP), key=lambda point: point.name)
NAMES = [point.name for point in POINTS]
TESTS = Path(__file__).parents[1]
INT8 = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)


class Runs:
    """What two processes with different hash seeds left; see support.plugin_runs."""

    def __init__(self, stores: list[Path], results: list[dict[str, Any]]) -> None:
        self.stores = stores
        self.digests = [result["digests"] for result in results]
        self.refused: dict[str, str] = results[0]["refused"]

    def artifact(self, name: str) -> Artifact:
        return read_artifact(self.stores[0] / name / "artifact")

    def weights(self, name: str) -> dict[str, np.ndarray]:
        weights: dict[str, np.ndarray] = load_file(self.artifact(name).file("model.safetensors"))
        return weights

    def session(self, name: str) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(str(self.artifact(name).file("model.onnx")))

    def graph(self, name: str) -> onnx.ModelProto:
        return onnx.load(str(self.artifact(name).file("model.onnx")))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    stores = [tmp_path_factory.mktemp(f"store-{number}") for number in range(2)]
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "support.plugin_runs", store],
            cwd=TESTS,
            env={**os.environ, "PYTHONHASHSEED": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, store in enumerate(stores)
    ]
    try:
        results = []
        for process in started:
            out, log = process.communicate(timeout=240)
            assert process.returncode == 0, log[-4000:]
            results.append(json.loads(out))
    finally:
        for process in started:
            process.kill()
    return Runs(stores, results)


@pytest.fixture(params=NAMES)
def plugin(request: pytest.FixtureRequest) -> Compression[Any]:
    loaded, broken = load_plugins(POINTS)
    assert not broken
    return loaded[request.param]


def test_each_parameter_says_what_it_is_and_what_it_may_be(plugin: Compression[Any]):
    schema = plugin.params.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for path, field in parameters(schema):
        assert field.get("description"), f"{path} has no description"
        if field.get("type") in ("integer", "number"):
            assert field.keys() & {"minimum", "exclusiveMinimum"}, f"{path} has no lower bound"
            assert field.keys() & {"maximum", "exclusiveMaximum"}, f"{path} has no upper bound"


def test_parameters_have_defaults_that_are_valid_and_refuse_what_they_do_not_know(plugin: Compression[Any]):
    schema = jsonschema.Draft202012Validator(plugin.params.model_json_schema())
    assert schema.is_valid(plugin.params().model_dump(mode="json"))
    assert not schema.is_valid({"nonsense": 1})


def test_its_manifest_is_a_compression_plugin(plugin: Compression[Any]):
    manifest = plugin_manifest(plugin, image="example.test/plugins@sha256:" + "0" * 64)
    spec = CompressionPlugin.model_validate(manifest).spec
    assert manifest["metadata"]["name"] == plugin.name == spec.entry_point
    assert (spec.version, spec.description) == (plugin.version, plugin.description)
    assert (spec.consumes, spec.produces) == (plugin.consumes, plugin.produces)
    assert spec.needs.data is plugin.needs_data
    assert json.loads(json.dumps(manifest)) == manifest


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_it_cannot_handle_is_refused_with_the_reason(runs: Runs, name: str):
    reason = {
        "export-onnx": "return scores if scores.sum() > 0 else -scores",
        "prune-structured": "no layer has channels to lose",
        "quantize-int8": "the graph is quantized already",
    }[name]
    assert runs.refused[name].startswith(f"PluginError: {name}: ")
    assert reason in runs.refused[name]


def test_the_same_seed_gives_the_same_digests_in_another_process(runs: Runs):
    first, second = runs.digests
    assert first == second
    assert len(set(first.values())) == len(first) == 10  # and no two steps left the same by mistake


def test_pruning_halves_each_layer_but_the_last(runs: Runs):
    shapes = {
        name: array.shape for name, array in load_file(runs.artifact("mlp-pruned").file("model.safetensors")).items()
    }
    assert sorted(shapes.values()) == [(10,), (10, 64), (64,), (64, 784)]
    widths = {array.shape for array in load_file(runs.artifact("convnet-pruned").file("model.safetensors")).values()}
    assert {(8, 1, 3, 3), (16, 8, 3, 3), (10, 16)} <= widths


def test_layers_that_share_channels_lose_the_same_ones(runs: Runs):
    shapes = {name: array.shape for name, array in runs.weights("mixed-pruned").items() if name.endswith("weight")}
    assert shapes == {
        "first.weight": (8, 1, 3, 3),
        "second.weight": (8, 8, 3, 3),
        "norm.weight": (8,),
        "deep.weight": (8, 1, 3, 3),
        "wide.weight": (16, 8, 1, 1),
        "grouped.weight": (16, 4, 3, 3),
        "hidden.weight": (16, 16 * 49),
        "scale.weight": (16,),
        "head.weight": (10, 16),
        "other.weight": (10, 16),
    }


def test_a_teacher_changes_what_is_learned(runs: Runs):
    alone, taught = runs.weights("mlp-pruned"), runs.weights("mlp-taught")
    assert {name: array.shape for name, array in alone.items()} == {name: array.shape for name, array in taught.items()}
    assert any(not np.array_equal(alone[name], taught[name]) for name in alone)


@pytest.mark.parametrize("batch", [1, 5, 200])
@pytest.mark.parametrize("name", ["mlp-pruned-int8", "convnet-pruned-onnx", "convnet-pruned-int8"])
def test_graphs_take_any_batch_and_answer_each_sample_by_itself(runs: Runs, name: str, batch: int):
    session = runs.session(name)
    images = np.random.default_rng(0).random((batch, 28, 28), dtype=np.float32)
    together = scores(session, images)
    assert together.shape == (batch, 10)
    alone = np.concatenate([scores(session, images[place : place + 1]) for place in range(batch)])
    assert np.abs(together - alone).max() < 1e-4


def test_exported_graphs_keep_the_names_of_the_module_and_no_path_of_the_machine(runs: Runs):
    for name in ("mlp-onnx", "mlp-pruned-onnx", "mlp-pruned-int8"):
        session = runs.session(name)
        assert [tensor.name for tensor in (*session.get_inputs(), *session.get_outputs())] == ["image", "scores"]
        data = runs.artifact(name).file("model.onnx").read_bytes()
        assert b".py" not in data
        assert str(TESTS.parent).encode() not in data
        onnx.checker.check_model(runs.graph(name), full_check=True)


def test_int8_is_3_4_times_smaller_than_the_pruned_graph_and_6_5_times_than_the_first(runs: Runs):
    first, pruned, small = (
        runs.artifact(name).size_bytes for name in ("mlp-onnx", "mlp-pruned-onnx", "mlp-pruned-int8")
    )
    assert pruned / small >= 3.4
    assert first / small >= 6.5


@pytest.mark.parametrize("name", ["mlp-pruned-int8", "convnet-pruned-int8", "graph-int8"])
def test_every_weight_of_a_quantized_graph_is_int8_and_its_output_float(runs: Runs, name: str):
    graph = runs.graph(name).graph
    large = [tensor for tensor in graph.initializer if len(tensor.dims) > 1]
    assert large
    assert all(tensor.data_type == onnx.TensorProto.INT8 for tensor in large)
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert graph.node[-1].op_type != "DequantizeLinear"


def test_reduced_range_keeps_weights_within_seven_bits(runs: Runs):
    def extremes(name: str) -> int:
        weights = [t for t in runs.graph(name).graph.initializer if len(t.dims) > 1 and t.data_type in INT8]
        return max(int(np.abs(onnx.numpy_helper.to_array(t).astype(int)).max()) for t in weights)

    assert extremes("mlp-pruned-int8") == 127
    assert extremes("convnet-pruned-int8") <= 64


def test_a_quantized_classifier_keeps_its_classes(runs: Runs):
    images = load_file(runs.stores[0] / "train/artifact/data.safetensors")["inputs"].astype(np.float32) / 255
    whole, small = (scores(runs.session(name), images).argmax(axis=1) for name in ("graph", "graph-int8"))
    assert (whole != small).mean() < 0.01


def scores(session: onnxruntime.InferenceSession, images: np.ndarray) -> np.ndarray:
    """The one output for the one input."""
    (tensor,) = session.get_inputs()
    output: np.ndarray = session.run(None, {tensor.name: images})[0]
    return output


def parameters(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for owner, body in (("", schema), *schema.get("$defs", {}).items()):
        for name, field in body.get("properties", {}).items():
            yield f"{owner}.{name}", field
