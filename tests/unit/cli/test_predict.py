"""What `slipway predict` sends, what it makes of the answers, and where it goes: without a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from slipway.cli.commands.predict import probabilities, scores
from slipway.cli.commands.samples import built_in, fitted, read_file
from slipway.cli.connections.endpoints import container_port, is_ready
from slipway.cli.connections.triton import Answers
from slipway.cli.rendering.errors import CommandError
from support import statuses
from support.kubehttp import KubeHttp

Slipway = Callable[..., Result]
IMAGES = np.zeros((6, 28, 28), np.float32)


@pytest.mark.parametrize(
    ("given", "dims", "expected"),
    [
        (IMAGES, (28, 28), (6, 28, 28)),
        (IMAGES[0], (28, 28), (1, 28, 28)),
        (IMAGES.reshape(6, 784), (28, 28), (6, 28, 28)),
        (IMAGES, (784,), (6, 784)),
        (IMAGES, (-1, 28), (6, 28, 28)),
        (np.zeros(784), (784,), (1, 784)),
    ],
)
def test_samples_are_brought_into_the_shape_of_the_model(
    given: np.ndarray, dims: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert fitted(given, dims).shape == expected


@pytest.mark.parametrize(
    ("given", "dims"), [(IMAGES, (10,)), (np.zeros((6, 783)), (28, 28)), (IMAGES, (-1, 27)), (np.float32(1), (784,))]
)
def test_samples_that_cannot_be_brought_into_that_shape_are_refused(given: np.ndarray, dims: tuple[int, ...]) -> None:
    with pytest.raises(CommandError, match=r"samples have shape .* and the model needs"):
        fitted(given, dims)


def test_scores_become_probabilities_and_probabilities_stay_what_they_are() -> None:
    scores = np.array([[1000.0, 1000.0, 0.0], [0.0, np.log(3), 0.0]])
    assert probabilities(scores) == pytest.approx(np.array([[0.5, 0.5, 0.0], [0.2, 0.6, 0.2]]))
    given = np.array([[0.1, 0.9], [0.5, 0.5]])
    assert probabilities(given) == pytest.approx(given)


def test_accuracy_and_latency_are_counted_over_all_answers() -> None:
    answers = Answers(np.eye(4) * 9, seconds=[0.001] * 99 + [0.101], total_seconds=2.0)
    told = scores(answers, np.array([0, 1, 2, 0]))
    assert told["accuracy"] == 0.75
    assert told["latency_ms"]["p50"] == 1.0
    assert 1.0 < told["latency_ms"]["p99"] < 101.0
    assert told["requests_per_second"] == 50.0
    assert [row["class"] for row in told["predictions"]] == [0, 1, 2, 3]


def test_the_held_out_digits_are_540_images_between_0_and_1() -> None:
    samples = built_in("digits", "test")
    assert samples.inputs.shape == (540, 28, 28)
    assert (samples.inputs.min(), samples.inputs.max()) == (0, 1)
    assert samples.targets is not None
    assert len(samples.targets) == 540


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("x.npz", "no zip", "x.npz: "),
        ("x.json", "{", "x.json: "),
        ("x.json", '{"images": [[1]]}', "it holds no 'inputs'"),
        ("x.json", "[[1], [1, 2]]", "x.json: "),
        ("x.csv", "1,2", "unknown format; use .npy, .npz or .json"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_cause(
    tmp_path: Path, name: str, content: str, complaint: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CommandError, match=complaint):
        read_file(tmp_path / name)


def test_no_pickle_is_ever_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CommandError, match="allow_pickle=False"):
        read_file(tmp_path / "x.npy")


@pytest.mark.parametrize(
    "words", [["digits"], ["--input", "x.npy"], ["d", "--url", "h:1", "--input", "x"], ["d", "--dataset", "mnist"]]
)
def test_a_wrong_command_line_is_exit_code_2(slipway: Slipway, words: list[str]) -> None:
    assert slipway(None, "predict", *words).exit_code == 2


def test_a_deployment_that_serves_nothing_says_how_far_it_is(slipway: Slipway, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps([[1.0]]))
    server = KubeHttp([[statuses.compressing_deployment()]])
    answer = slipway(server, "predict", "digits", "--input", str(tmp_path / "x.json"))
    assert answer.exit_code == 1
    assert answer.stderr == (
        "error: modeldeployment/digits does not serve a model yet "
        "(Compressing, StepRunning: step-1-quantize-int8 runs)\n"
    )


def test_a_service_without_a_ready_pod_is_one_line_and_exit_code_4(slipway: Slipway, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps([[1.0]]))
    unready = statuses.pod("digits-r1-x", {"app": "digits"})
    server = KubeHttp([[statuses.serving_deployment(), statuses.service(), unready]])
    answer = slipway(server, "predict", "digits", "--input", str(tmp_path / "x.json"))
    assert (answer.exit_code, answer.stderr) == (4, "error: service digits has no ready pod\n")


def test_without_the_client_library_the_extra_is_named(
    slipway: Slipway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.http.aio", None)
    answer = slipway(None, "predict", "digits", "--input", str(tmp_path / "x.json"))
    assert answer.exit_code == 1
    assert "pip install 'slipway-operator[client]'" in answer.stderr


def test_a_terminating_pod_is_not_asked() -> None:
    pod = statuses.pod("x", {}, ready=True)
    assert is_ready(pod)
    pod["metadata"]["deletionTimestamp"] = statuses.at(0)
    assert not is_ready(pod)


def test_a_named_target_port_is_the_container_port_of_that_name() -> None:
    pod = statuses.pod("x", {}, containers=[{"name": "main", "ports": [{"name": "http", "containerPort": 8000}]}])
    assert container_port(pod, {"port": 80, "targetPort": "http"}) == 8000
    assert container_port(pod, {"port": 80, "targetPort": 81}) == 81
    assert container_port(pod, {"port": 80}) == 80
    with pytest.raises(CommandError, match="no port named 'grpc'"):
        container_port(pod, {"port": 80, "targetPort": "grpc"})
