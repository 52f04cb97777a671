"""The task `package`: pack an ONNX model as the repository that a serving pod fetches.

models/<name>/config.pbtxt      configuration of the model in Triton
models/<name>/1/model.py        code of the python backend (serving/model.py)
models/<name>/1/model.onnx      the graph, byte for byte
golden/requests.json            golden requests: a few inputs, and the answers of the packed graph
golden/probe.py                 the startup probe (serving/probe.py)

Before a replica may receive traffic, the startup probe sends the golden requests to Triton, as JSON of KServe's v2
protocol.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError
from slipway.api.reports import Report
from slipway.api.tasks import MODEL_BYTES, PackageTask
from slipway.runtime.datasets import read_arrays
from slipway.runtime.graphs import NUMPY_TYPES, Tensor, open_session, run_session, tensors
from slipway.runtime.pod import Pod
from slipway.sdk.artifact import Artifact
from slipway.sdk.manifest import ONNX_FILE, Content, Provenance

if TYPE_CHECKING:
    import onnxruntime


def run(task: PackageTask, pod: Pod) -> Report:
    """Package the model. Raises ArtifactError for a graph that Triton cannot serve, and for data that does not match
    it.
    """
    model = pod.copy(task.model, State.ONNX)
    data = pod.copy(task.data.artifact, State.DATASET, held_out=True) if task.data else None
    graph = model.file(ONNX_FILE)
    session = open_session(graph)
    inputs, outputs = tensors(session.get_inputs()), tensors(session.get_outputs())
    samples = golden_inputs(inputs, data) if data else example_rows(inputs)
    folder = f"models/{task.name}"
    packed: dict[str, Path | bytes] = {
        f"{folder}/config.pbtxt": render_config(task.name, inputs, outputs, task.max_batch_size).encode(),
        f"{folder}/1/model.py": _serving_file("model.py"),
        f"{folder}/1/{ONNX_FILE}": graph,
        "golden/requests.json": golden_requests(task.name, session, outputs, samples, task.max_batch_size),
        "golden/probe.py": _serving_file("probe.py"),
    }
    artifact = pod.results.write(
        pod.own_artifact,
        Content(state=State.REPOSITORY, inputs=model.content.inputs, outputs=model.content.outputs),
        packed,
        Provenance(
            task=task.task,
            parents=(model.digest, *([data.digest] if data else [])),
            parameters={"name": task.name, "maxBatchSize": task.max_batch_size},
        ),
    )
    return pod.succeeded(artifact, {MODEL_BYTES: float(model.size_bytes)})


def golden_inputs(inputs: tuple[Tensor, ...], data: Artifact) -> dict[str, NDArray[Any]]:
    """Return SAMPLES rows, spread evenly over the data. Raises ArtifactError if they do not match the model's one
    input.
    """
    if len(inputs) != 1:
        raise ArtifactError(f"the model has {len(inputs)} inputs, and a data set has one; package it without data")
    rows = read_arrays(data).inputs
    chosen = rows[np.linspace(0, len(rows) - 1, SAMPLES).round().astype(int)]
    dims = inputs[0].dims
    shape = chosen.shape[1:]
    if len(shape) != len(dims) or any(want not in (-1, got) for want, got in zip(dims, shape, strict=True)):
        raise ArtifactError(f"the model takes samples of shape {dims}, and those of the data have {shape}")
    return {inputs[0].name: chosen.astype(NUMPY_TYPES[inputs[0].datatype])}


def _serving_file(name: str) -> bytes:
    return (files("slipway.runtime.serving") / name).read_bytes()


SAMPLES = 8
TOLERANCE = 1e-4
"""Tolerance of each value: the same graph in the same onnxruntime differs only by the batch and the processor."""
ROUNDING = 1e-6
"""Fraction of the largest value that float32 may lose in about eight roundings; above 100 it exceeds TOLERANCE."""
ANY_SIZE = 8
"""Size of a free dimension in example inputs."""


def golden_requests(
    name: str,
    session: onnxruntime.InferenceSession,
    outputs: Sequence[Tensor],
    samples: Mapping[str, NDArray[Any]],
    max_batch_size: int,
) -> bytes:
    """Return requests.json for the model of that name. samples: SAMPLES rows of each input.

    Raises ArtifactError if the model returns NaN or infinity.
    """
    requests: list[dict[str, Any]] = []
    largest = 0.0
    for start, end in batches(SAMPLES, max_batch_size):
        fed = {key: rows[start:end] for key, rows in samples.items()}
        answers = run_session(session, fed)
        for tensor, answer in zip(outputs, answers, strict=True):
            if not np.isfinite(answer).all():
                raise ArtifactError(f"the model returns NaN or infinity in {tensor.name}, for samples {start} to {end}")
            largest = max(largest, float(np.abs(answer.astype(np.float64)).max(initial=0)))
        requests.append(
            {
                "inputs": [_tensor(key, rows) for key, rows in fed.items()],
                "outputs": [_tensor(tensor.name, answer) for tensor, answer in zip(outputs, answers, strict=True)],
            }
        )
    body = {"model": name, "tolerance": max(TOLERANCE, ROUNDING * largest), "requests": requests}
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()


def batches(samples: int, max_batch_size: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each request: one sample, then twice as many each time, up to the server's limit."""
    start, size = 0, 1
    while start < samples:
        end = min(start + size, samples)
        yield start, end
        start, size = end, min(size * 2, max_batch_size)


def example_rows(inputs: Sequence[Tensor]) -> dict[str, NDArray[Any]]:
    """Return inputs that are the same each time: floats from 0 to 1, integers 0 and 1."""
    random = np.random.default_rng(0)
    rows = {}
    for tensor in inputs:
        kind = NUMPY_TYPES[tensor.datatype]
        values = random.random((SAMPLES, *(ANY_SIZE if size < 0 else size for size in tensor.dims)))
        rows[tensor.name] = (values if np.issubdtype(kind, np.floating) else values > 0.5).astype(kind)
    return rows


def _tensor(name: str, array: NDArray[Any]) -> dict[str, Any]:
    datatype = next(known for known, kind in NUMPY_TYPES.items() if array.dtype == kind)
    shape = array.shape if array.ndim > 1 else (*array.shape, 1)  # one value for each sample is sent as a column
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": array.reshape(-1).tolist()}


def render_config(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], max_batch_size: int) -> str:
    """Return config.pbtxt of an ONNX model in the python backend, one instance on the CPU.

    Batching has no queue delay: for small models it would cost a single client more than it gains. The text is rendered
    from Triton's own message and read back as one, so that no field is misspelt. Raises ValueError if the two differ.
    """
    config = model_config_pb2.ModelConfig(
        name=name,
        backend="python",
        max_batch_size=max_batch_size,
        input=[model_config_pb2.ModelInput(**_tensor_fields(t)) for t in inputs],
        output=[model_config_pb2.ModelOutput(**_tensor_fields(t)) for t in outputs],
        instance_group=[
            model_config_pb2.ModelInstanceGroup(count=1, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
        ],
        dynamic_batching=model_config_pb2.ModelDynamicBatching(),
        version_policy=model_config_pb2.ModelVersionPolicy(
            specific=model_config_pb2.ModelVersionPolicy.Specific(versions=[1])
        ),
    )
    text = text_format.MessageToString(config)
    if text_format.Parse(text, model_config_pb2.ModelConfig()) != config:
        raise ValueError(f"config.pbtxt of {name!r} does not read back as it was written:\n{text}")
    return text


def _tensor_fields(tensor: Tensor) -> dict[str, Any]:
    """Return the fields of a tensor. One value for each sample is a column: Triton requires a dimension besides the
    batch.
    """
    fields = {"name": tensor.name, "data_type": _data_type(tensor), "dims": tensor.dims or (1,)}
    return fields if tensor.dims else {**fields, "reshape": model_config_pb2.ModelTensorReshape()}


def _data_type(tensor: Tensor) -> int:
    return int(model_config_pb2.DataType.Value(f"TYPE_{tensor.datatype}"))
