"""`slipway predict` against a real tritonserver that serves a classifier of the digits, by both protocols."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner, Result

from slipway.api.artifacts import store_path
from slipway.api.tasks import DataRef, PackageTask, PrepareTask
from slipway.cli.main import app
from slipway.runtime.datasets import read_arrays
from slipway.sdk.manifest import ONNX_FILE
from support.graphs import content_of, random_features
from support.stores import do, made, put
from support.triton import Triton, serving


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the digits, a float32 classifier of them, and its packed repository."""
    store = tmp_path_factory.mktemp("store")
    data = {split: made(do(store, split, PrepareTask(dataset="digits", split=split))) for split in ("train", "test")}
    graph = random_features(read_arrays(store / "train/artifact"))
    model = put(store, "model", content_of((28, 28), 10), {ONNX_FILE: graph})
    golden = DataRef(name="test", artifact=data["test"])
    report = do(store, "packed", PackageTask(model=model, name="digits", max_batch_size=64, data=golden))
    (store / "repository").symlink_to(store / store_path(made(report).uri))
    return store


@pytest.fixture(scope="module")
def triton(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    with serving(store / "repository/models", tmp_path_factory.mktemp("triton")) as server:
        yield server


def predict(triton: Triton, protocol: str, *words: object) -> Result:
    url = triton.grpc if protocol == "grpc" else triton.http
    return CliRunner().invoke(
        app, ["predict", "--url", url, "--model", "digits", "--protocol", protocol, *map(str, words)]
    )


def facts(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("batch_size", [1, 64])
def test_all_held_out_digits_are_answered_as_the_packed_file_answers(
    triton: Triton, store: Path, tmp_path: Path, protocol: str, batch_size: int
) -> None:
    saved = tmp_path / "outputs.npy"
    words = ("--dataset", "digits", "--batch-size", batch_size, "--save", saved, "-o", "json")
    told = facts(predict(triton, protocol, *words))
    held_out = read_arrays(store / "test/artifact")
    session = onnxruntime.InferenceSession(store / f"repository/models/digits/1/{ONNX_FILE}")
    expected = session.run(None, {"input": held_out.inputs})[0]
    assert np.abs(np.load(saved) - expected).max() <= 1e-4
    assert [row["class"] for row in told["predictions"]] == expected.argmax(1).tolist()
    assert [row["target"] for row in told["predictions"]] == held_out.targets.tolist()
    assert told["accuracy"] == pytest.approx((expected.argmax(1) == held_out.targets).mean())
    assert told["samples"] == 540
    assert told["requests"] == -(-540 // batch_size)
    assert 0 < told["latency_ms"]["p50"] <= told["latency_ms"]["p99"]


def test_the_table_says_accuracy_latency_and_how_many_samples_it_leaves_out(triton: Triton) -> None:
    shown = predict(triton, "http", "--dataset", "digits", "--limit", 12).stdout
    assert "12 samples in 12 requests: p50 " in shown
    assert "accuracy " in shown
    assert "2 more samples" in shown


def test_one_sample_alone_and_flat_samples_and_nested_lists_are_taken(triton: Triton, tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((4, 28, 28), dtype=np.float32)
    np.save(tmp_path / "one.npy", images[0])
    np.savez(tmp_path / "flat.npz", inputs=images.reshape(4, -1), targets=np.zeros(4, np.int64))
    (tmp_path / "lists.json").write_text(json.dumps(images.tolist()))
    files = {"one.npy": 1, "flat.npz": 4, "lists.json": 4}
    told = {name: facts(predict(triton, "http", "--input", tmp_path / name, "-o", "json")) for name in files}
    assert {name: answer["samples"] for name, answer in told.items()} == files
    assert told["flat.npz"]["predictions"][1]["class"] == told["lists.json"]["predictions"][1]["class"]
    assert told["flat.npz"]["accuracy"] is not None
    assert told["lists.json"]["accuracy"] is None


def test_samples_of_another_shape_are_refused_with_both_shapes(triton: Triton, tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", np.zeros((2, 5, 28), np.float32))
    result = predict(triton, "http", "--input", tmp_path / "bad.npy")
    assert result.exit_code == 1
    assert result.stderr == "error: samples have shape [5, 28], and the model needs [28, 28]\n"


def test_the_port_of_the_other_protocol_and_a_dead_port_are_one_line_and_exit_code_4(
    triton: Triton, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 28, 28), np.float32))
    swapped = Triton(http=triton.grpc, grpc=triton.http, ready_seconds=0)
    dead = Triton(http="127.0.0.1:1", grpc="127.0.0.1:1", ready_seconds=0)
    for server in (swapped, dead):
        for protocol in ("http", "grpc"):
            result = predict(server, protocol, "--input", tmp_path / "x.npy")
            assert result.exit_code == 4, result.stderr
            assert result.stderr.startswith("error: 127.0.0.1:")
            assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_server_that_lists_no_models_is_asked_by_name(triton: Triton, tmp_path: Path, protocol: str) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 28, 28), np.float32))
    url = triton.grpc if protocol == "grpc" else triton.http
    words = ["predict", "--url", url, "--protocol", protocol, "--input", str(tmp_path / "x.npy")]
    result = CliRunner().invoke(app, words)
    assert result.stderr == "error: the server does not list its models; use --model\n"
    assert CliRunner().invoke(app, [*words, "--model", "digits"]).exit_code == 0
