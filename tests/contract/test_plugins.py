"""The contract of every declared plugin, and the purpose of those that Slipway ships."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from slipway.cli.main import app
from slipway.local.plugin_check import run_python, run_twice
from slipway.sdk.artifact import Artifact, read_artifact
from slipway.sdk.contract import class_findings
from slipway.sdk.plugin import GROUP, load_plugins
from support.examples import example_plugin_installed

POINTS = sorted(entry_points(group=GROUP), key=lambda point: point.name)
NAMES = [point.name for point in POINTS]
TESTS = Path(__file__).parents[1]
INT8 = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)


class Runs:
    """Results of two processes with different hash seeds; see support.plugin_runs."""

    def __init__(self, results: Sequence[dict[str, Any]]) -> None:
        self.stores = [result["store"] for result in results]
        self.digests = [result["digests"] for result in results]
        self.refused: dict[str, str] = results[0]["refused"]
        self.wrong: dict[str, list[Any]] = results[0]["wrong"]

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
    async def run(number: int, folder: Path) -> dict[str, Any]:
        arguments = ["-W", "ignore", "-m", "support.plugin_runs", str(folder / "store"), str(folder / "result")]
        assert await run_python(arguments, folder, hash_seed=number, timeout_seconds=240) == ""
        return {"store": folder / "store", **json.loads((folder / "result").read_text())}

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
        return Runs(asyncio.run(run_twice(run, tmp_path_factory.mktemp("runs"))))


@pytest.mark.parametrize("name", NAMES)
def test_its_class_keeps_what_the_command_line_checks(name: str):
    loaded, broken = load_plugins(POINTS)
    assert not broken
    found = class_findings(loaded[name])
    assert len(found) >= 5
    assert [one for one in found if one.level != "ok"] == []


def test_every_result_keeps_what_the_command_line_checks(runs: Runs):
    assert runs.wrong.keys() >= runs.digests[0].keys()
    assert {name: found for name, found in runs.wrong.items() if found} == {}


@pytest.mark.parametrize(
    ("name", "model"), [("export-onnx", "mlp"), ("prune-structured", "convnet"), ("quantize-int8", "mlp-onnx")]
)
def test_a_plugin_that_we_ship_passes_the_check_of_the_command_line(runs: Runs, name: str, model: str):
    store = runs.stores[0]
    words = ["--model", str(store / model / "artifact"), "--data", str(store / "train/artifact"), "-o", "json"]
    if name == "prune-structured":
        words += ["--param", "recover.epochs=1"]
    result = CliRunner().invoke(app, ["plugin", "check", name, *words])
    assert result.exit_code == 0, result.output
    found = {one["check"]: one["level"] for one in json.loads(result.stdout)}
    assert {"import", "model: same seed", "model: batches", "model: size"} <= found.keys()
    assert set(found.values()) == {"ok"}


def test_the_example_passes_the_check_with_a_warning_on_the_model_that_it_refuses(monkeypatch: pytest.MonkeyPatch):
    with example_plugin_installed() as folder:
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        result = CliRunner().invoke(app, ["plugin", "check", "svd-linear"])
    assert result.exit_code == 0, result.output
    rows = [re.split(r" {3,}", line) for line in result.stdout.splitlines()[1:]]
    assert [row for row in rows if row[1] != "ok"] == [
        ["convnet: run", "warn", "refused: svd-linear: no fully connected layer gets smaller at energy 0.9"]
    ]
    assert {"mlp: same seed", "mlp: graph", "mlp: batches", "mlp: paths", "mlp: size"} <= {row[0] for row in rows}


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_it_cannot_handle_is_refused_with_the_reason(runs: Runs, name: str):
    reason = {
        "export-onnx": "return scores if scores.sum() > 0 else -scores",
        "prune-structured": "no layer has channels to remove",
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
