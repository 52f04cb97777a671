"""examples/plugin, as its package would be installed: found by entry point, planned by its manifest, run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import yaml
from onnx import helper, numpy_helper
from typer.testing import CliRunner

from slipway.api.errors import PluginError
from slipway.api.tasks import CompressTask
from slipway.cli.main import app
from slipway.sdk.manifest import ONNX_FILE
from slipway.sdk.plugin import GROUP, load_plugins, plugin_manifest
from support.examples import PLUGIN, example_plugin_installed
from support.graphs import content_of
from support.stores import do, made, put

DIGITS = PLUGIN.parent / "digits"
IMAGE = "example.test/svd-linear@sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def installed() -> Iterator[Path]:
    with example_plugin_installed() as folder:
        yield folder


def loaded() -> Any:
    plugins, broken = load_plugins(list(entry_points(group=GROUP, name="svd-linear")))
    assert broken == []
    return plugins["svd-linear"]


def linear(rank: int) -> bytes:
    """A layer of 64 inputs and 32 outputs as torch exports it, whose weight has that rank."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((32, rank)) @ random.standard_normal((rank, 64))
    tensors = [numpy_helper.from_array(weight.astype(np.float32), "w"), numpy_helper.from_array(np.ones(32, "f"), "b")]
    node = helper.make_node("Gemm", ["input", "w", "b"], ["output"], transB=1)
    sides = [
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])]
        for name, size in (("input", 64), ("output", 32))
    ]
    graph = helper.make_graph([node], "linear", *sides, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString(deterministic=True))


def run(store: Path, graph: bytes, folder: str = "step", **params: Any) -> Path:
    """Return the path of the step's graph."""
    model = put(store, f"{folder}-model", content_of((64,), 32), {ONNX_FILE: graph})
    task = CompressTask(entry_point="svd-linear", version="1.0.0", params=params, model=model, data=None, seed=0)
    made(do(store, folder, task))
    return store / folder / "artifact" / ONNX_FILE


def answers(graph: bytes | str, inputs: np.ndarray) -> np.ndarray:
    (output,) = onnxruntime.InferenceSession(graph).run(None, {"input": inputs})
    return np.asarray(output)


def test_it_is_written_in_under_60_lines() -> None:
    assert len((PLUGIN / "svd_linear.py").read_text().splitlines()) < 60


def test_describing_it_imports_nothing_heavy() -> None:
    loaded()
    assert not {"numpy", "onnx", "torch"} & vars(sys.modules["svd_linear"]).keys()


def test_the_command_line_lists_it_and_makes_its_manifest() -> None:
    result = CliRunner().invoke(app, ["plugin", "list", "--local"])
    assert result.exit_code == 0, result.output
    assert "svd-linear" in result.stdout
    result = CliRunner().invoke(app, ["plugin", "manifest", "svd-linear", "--image", IMAGE])
    assert yaml.safe_load(result.stdout) == plugin_manifest(loaded(), IMAGE)


def test_its_manifest_puts_its_step_into_its_image_and_checks_its_parameters(tmp_path: Path) -> None:
    manifest = tmp_path / "plugin.yaml"
    manifest.write_text(yaml.safe_dump(plugin_manifest(loaded(), IMAGE)))
    deployment = tmp_path / "deployment.yaml"
    files = [DIGITS / "store.yaml", DIGITS / "training.yaml", manifest, deployment]
    words = ["plan", *(word for file in files for word in ("-f", str(file)))]

    deployment.write_text((PLUGIN / "deployment.yaml").read_text())
    planned = CliRunner().invoke(app, [*words, "-o", "yaml"])
    assert planned.exit_code == 0, planned.output
    images = {
        container["image"]
        for body in yaml.safe_load_all(planned.stdout)
        if body["kind"] == "Job" and "step-0-svd-linear" in body["metadata"]["name"]
        for container in body["spec"]["template"]["spec"]["containers"]
    }
    assert images == {IMAGE}

    deployment.write_text(deployment.read_text().replace("energy: 0.9", "energy: 2"))
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code != 0
    assert "energy" in refused.output


def test_a_layer_of_low_rank_gets_smaller_and_answers_as_before(tmp_path: Path) -> None:
    graph = linear(rank=4)
    left = run(tmp_path, graph, energy=0.999999)
    assert left.stat().st_size < len(graph) / 2
    inputs = np.random.default_rng(1).standard_normal((5, 64), dtype=np.float32)
    np.testing.assert_allclose(answers(str(left), inputs), answers(graph, inputs), rtol=1e-3, atol=1e-3)
    onnx.checker.check_model(str(left), full_check=True)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (run(tmp_path, linear(rank=4), folder) for folder in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


def test_a_model_without_a_layer_to_gain_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="no fully connected layer gets smaller"):
        run(tmp_path, linear(rank=32), energy=0.999)
