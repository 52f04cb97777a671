"""A real tritonserver behind the front end of its pod serves what was packed, and does nothing else that it could."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import onnx
import pytest
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from slipway.api.tasks import CompressTask, DataRef, FetchTask, PackageTask, PrepareTask
from slipway.runtime.datasets import read_arrays
from slipway.runtime.serving import frontend
from slipway.sdk.manifest import ONNX_FILE
from slipway_plugins.quantize_int8 import QuantizeInt8
from support.graphs import classifying_graph, content_of, random_features
from support.stores import do, made, put
from support.triton import Triton, process_runs, serving

TOLERANCE = 1e-4
EMPTY = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("output", np.zeros((1, 0), np.float32))]) for _ in requests]
"""
REFERENCE = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
numpy.save(sys.argv[3], session.run(None, {"input": numpy.load(sys.argv[2])})[0])
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the digits, a classifier of them in int8, and its packed and fetched repository."""
    store = tmp_path_factory.mktemp("store")
    data = {split: made(do(store, split, PrepareTask(dataset="digits", split=split))) for split in ("train", "test")}
    graph = random_features(read_arrays(store / "train/artifact"))
    model = put(store, "float", content_of((28, 28), 10), {ONNX_FILE: graph})
    quantize = CompressTask(
        entry_point="quantize-int8",
        version=QuantizeInt8.version,
        model=model,
        data=DataRef(name="train", artifact=data["train"]),
    )
    small = made(do(store, "int8", quantize))
    golden = DataRef(name="test", artifact=data["test"])
    packed = made(do(store, "packed", PackageTask(model=small, name="digits", max_batch_size=64, data=golden)))
    do(store, "serving", FetchTask(artifact=packed))
    return store


@pytest.fixture(scope="module")
def repository(store: Path) -> Path:
    """What a serving pod has after fetch, and beside the model two broken copies of it."""
    repository = store / "serving/repository"
    hollow = copied(repository, "hollow")
    (hollow / "1/model.py").write_text(EMPTY)
    altered = copied(repository, "altered") / "1" / ONNX_FILE
    alter(altered)
    return repository


@pytest.fixture(scope="module")
def classifying(store: Path, repository: Path) -> Path:
    """Golden requests of a model that gives one value a sample besides its scores; it is served beside the others."""
    model = put(store, "classes", content_of((3,), 3), {ONNX_FILE: classifying_graph()})
    packed = made(do(store, "packed-classes", PackageTask(model=model, name="classes", max_batch_size=8)))
    do(store, "serving-classes", FetchTask(artifact=packed))
    shutil.copytree(store / "serving-classes/repository/models/classes", repository / "models/classes")
    return store / "serving-classes/repository/golden"


@pytest.fixture(scope="module")
def triton(repository: Path, classifying: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    with serving(repository / "models", tmp_path_factory.mktemp("triton")) as server:
        yield server


@pytest.fixture(scope="module")
def images(store: Path) -> NDArray[np.float32]:
    return read_arrays(store / "test/artifact").inputs


@pytest.fixture(scope="module")
def reference(
    store: Path, images: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory
) -> NDArray[np.float32]:
    """What another process gets from the packed file."""
    folder = tmp_path_factory.mktemp("reference")
    np.save(folder / "images.npy", images)
    (graph,) = store.glob(f"packed/artifact-*/models/digits/1/{ONNX_FILE}")
    command = [sys.executable, "-c", REFERENCE, graph, folder / "images.npy", folder / "scores.npy"]
    subprocess.run(command, check=True, timeout=60)
    scores: NDArray[np.float32] = np.load(folder / "scores.npy")
    return scores


def test_the_probe_passes_where_triton_answers_as_the_artifact_does(triton: Triton, repository: Path):
    code, reason = probe(repository / "golden", triton.http)
    assert (code, reason) == (0, "digits: 4 golden requests answered as the artifact does")


def test_one_value_a_sample_is_answered_beside_the_scores(triton: Triton, classifying: Path):
    code, reason = probe(classifying, triton.http)
    assert (code, reason) == (0, "classes: 4 golden requests answered as the artifact does")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("hollow", "golden request 0: output output has 0 values, not 10"),
        ("altered", "golden request 0: output output has"),
        ("absent", "Triton answered 4"),
    ],
)
def test_the_probe_fails_where_triton_is_ready_but_answers_otherwise(
    triton: Triton, repository: Path, tmp_path: Path, model: str, reason: str
):
    golden = shutil.copytree(repository / "golden", tmp_path / "golden")
    requests = json.loads((golden / "requests.json").read_text())
    (golden / "requests.json").write_text(json.dumps(requests | {"model": model}))
    code, said = probe(golden, triton.http)
    assert code == 1
    assert said.startswith(reason)


def test_all_images_by_http_are_answered_as_in_another_process(
    triton: Triton, images: NDArray[np.float32], reference: NDArray[np.float32]
):
    client = tritonclient.http.InferenceServerClient(triton.http, network_timeout=30.0)
    answers = []
    start = 0
    for size in itertools.cycle((1, 7, 64)):
        if start >= len(images):
            break
        part = images[start : start + size]
        tensor = tritonclient.http.InferInput("input", list(part.shape), "FP32")
        tensor.set_data_from_numpy(part)
        answers.append(client.infer("digits", [tensor]).as_numpy("output"))
        start += size
    client.close()
    assert_equal(np.concatenate(answers), reference)


def test_all_images_by_grpc_from_eight_threads_are_answered_as_in_another_process(
    triton: Triton, images: NDArray[np.float32], reference: NDArray[np.float32]
):
    with tritonclient.grpc.InferenceServerClient(triton.grpc) as client, ThreadPoolExecutor(8) as threads:

        def ask(image: NDArray[np.float32]) -> NDArray[np.float32]:
            tensor = tritonclient.grpc.InferInput("input", [1, *image.shape], "FP32")
            tensor.set_data_from_numpy(image[None])
            answer: NDArray[np.float32] = client.infer("digits", [tensor], client_timeout=30.0).as_numpy("output")
            return answer

        answers = list(threads.map(ask, images))
    assert_equal(np.concatenate(answers), reference)


def assert_equal(answers: NDArray[np.float32], reference: NDArray[np.float32]) -> None:
    assert answers.shape == reference.shape == (540, 10)
    assert np.abs(answers - reference).max() <= TOLERANCE
    assert (answers.argmax(axis=1) == reference.argmax(axis=1)).all()


def probe(golden: Path, server: str) -> tuple[int, str]:
    command = [sys.executable, "-I", "-S", golden / "probe.py", server]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout.strip()


def copied(repository: Path, name: str) -> Path:
    copy = Path(shutil.copytree(repository / "models/digits", repository / "models" / name))
    config = copy / "config.pbtxt"
    config.write_text(config.read_text().replace('name: "digits"', f'name: "{name}"'))
    return copy


def alter(path: Path) -> None:
    """Double the scale of the first weights: still a good graph, but another model."""
    model = onnx.load(str(path))
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == "w0_scale")
    scale.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(scale) * 2, scale.name))
    onnx.save(model, str(path))


# --- What else a server could be asked for ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "systemsharedmemory/status",
        "systemsharedmemory/region/r/register",
        "systemsharedmemory/region/r/unregister",
        "systemsharedmemory/unregister",
        "cudasharedmemory/status",
        "cudasharedmemory/region/r/register",
        "cudasharedmemory/unregister",
        "repository/index",
        "repository/models/digits/load",
        "repository/models/digits/unload",
        "models/stats",
        "models/digits/stats",
        "trace/setting",
        "models/digits/trace/setting",
        "logging",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_by_http_nobody_reaches_more_than_inference_needs(triton: Triton, method: str, path: str):
    status, text = asked(triton.http, method, f"/v2/{path}", b"{}" if method == "POST" else None)
    assert status == 403 or (status == 405 and method == "GET"), text
    assert "restricted" in text or status == 405


GRPC_CALLS: dict[str, Callable[[tritonclient.grpc.InferenceServerClient], object]] = {
    "system shared memory, status": lambda c: c.get_system_shared_memory_status(),
    "system shared memory, register": lambda c: c.register_system_shared_memory("r", "/r", 8),
    "system shared memory, unregister": lambda c: c.unregister_system_shared_memory(),
    "cuda shared memory, status": lambda c: c.get_cuda_shared_memory_status(),
    "cuda shared memory, register": lambda c: c.register_cuda_shared_memory("r", b"aGFuZGxl", 0, 8),
    "cuda shared memory, unregister": lambda c: c.unregister_cuda_shared_memory(),
    "repository, index": lambda c: c.get_model_repository_index(),
    "repository, load": lambda c: c.load_model("digits"),
    "repository, unload": lambda c: c.unload_model("digits"),
    "statistics": lambda c: c.get_inference_statistics("digits"),
    "trace, read": lambda c: c.get_trace_settings(),
    "trace, write": lambda c: c.update_trace_settings(settings={"trace_file": "/tmp/t"}),
    "logging, read": lambda c: c.get_log_settings(),
    "logging, write": lambda c: c.update_log_settings({"log_file": "/tmp/l"}),
}


@pytest.mark.parametrize("call", GRPC_CALLS.values(), ids=GRPC_CALLS)
def test_by_grpc_nobody_reaches_more_than_inference_needs(
    triton: Triton, call: Callable[[tritonclient.grpc.InferenceServerClient], object]
):
    restricted = pytest.raises(InferenceServerException, match="This protocol is restricted")
    with tritonclient.grpc.InferenceServerClient(triton.grpc) as client, restricted:
        call(client)


def test_what_clients_need_is_answered(triton: Triton):
    for path in ("health/live", "health/ready", "models/digits", "models/digits/ready", "models/digits/config"):
        assert asked(triton.http, "GET", f"/v2/{path}")[0] == 200
    with tritonclient.grpc.InferenceServerClient(triton.grpc) as client:
        assert client.is_server_live()
        assert client.is_model_ready("digits")
        assert client.get_model_metadata("digits").name == "digits"
        assert client.get_model_config("digits").config.name == "digits"


def test_a_million_chunks_of_one_byte_are_a_request_like_another(triton: Triton):
    """Alone, this Triton is killed by 600,000 of them (CVE-2025-23310)."""
    with closing(http.client.HTTPConnection(triton.http, timeout=60)) as connection:
        blocks = (b"1\r\n \r\n" * 10_000 for _ in range(100))
        connection.putrequest("POST", "/v2/models/digits/infer")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        for block in blocks:
            connection.send(block)
        connection.send(b"0\r\n\r\n")
        assert "failed to parse the request JSON" in connection.getresponse().read().decode()
    assert asked(triton.http, "GET", "/v2/health/ready")[0] == 200


def test_a_chunked_request_is_answered(triton: Triton, images: NDArray[np.float32]):
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 28, 28], "data": images[:1].tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    with closing(http.client.HTTPConnection(triton.http, timeout=30)) as connection:
        connection.request("POST", "/v2/models/digits/infer", iter([body[:7], body[7:]]), encode_chunked=True)
        assert "output" in connection.getresponse().read().decode()


def test_a_body_above_the_limit_is_refused_before_it_is_read(triton: Triton):
    with closing(http.client.HTTPConnection(triton.http, timeout=30)) as connection:
        connection.putrequest("POST", "/v2/models/digits/infer")
        connection.putheader("Content-Length", str(frontend.MAX_BODY_BYTES + 1))
        connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Connection"]) == (413, "close")
        assert json.loads(answer.read()) == {"error": "a body above 67108864 bytes; use gRPC"}


def test_triton_ends_only_when_every_client_has_left(repository: Path, tmp_path: Path):
    """Kept connections are answered during the drain, told to leave, and nobody who does as told loses a request."""
    pids: list[int] = []
    with serving(repository / "models", tmp_path, pids) as server, ExitStack() as stack:
        kept = stack.enter_context(closing(http.client.HTTPConnection(server.http, timeout=30)))
        silent = stack.enter_context(socket.create_connection(server.http.split(":")))
        client = stack.enter_context(tritonclient.grpc.InferenceServerClient(server.grpc))
        closes = []
        for told in (False, True):
            if told:
                os.kill(pids[0], signal.SIGTERM)
                time.sleep(0.5)
            kept.request("GET", "/v2/models/digits/ready")
            answer = kept.getresponse()
            answer.read()
            closes.append((answer.status, answer.headers["Connection"]))
            assert client.is_model_ready("digits")
        assert closes == [(200, None), (200, "close")]
        began = time.monotonic()
        while process_runs(pids[0]):
            time.sleep(0.05)
        assert silent.recv(1) == b""  # closed in good order, not reset
        # Not at once, though nothing was in flight; and not as the last resort.
        assert frontend.IDLE_SECONDS - 2 < time.monotonic() - began < frontend.DRAIN_SECONDS / 2


def asked(server: str, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
    with closing(http.client.HTTPConnection(server, timeout=30)) as connection:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
