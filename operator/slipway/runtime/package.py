"""Pack an ONNX model as what a serving pod fetches.

models/<name>/config.pbtxt      how Triton serves it
models/<name>/1/model.py        the python backend's code (serving/model.py)
models/<name>/1/model.onnx      the graph, byte for byte
golden/requests.json            inputs, and what the packed graph answers
golden/probe.py                 the startup probe (serving/probe.py)
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError
from slipway.api.reports import Report
from slipway.api.tasks import MODEL_BYTES, PackageTask
from slipway.runtime.datasets import read_arrays
from slipway.runtime.golden import SAMPLES, golden_requests, made_up
from slipway.runtime.pod import Pod
from slipway.runtime.session import open_session, tensors
from slipway.runtime.triton import NUMPY_TYPES, Tensor, render_config
from slipway.sdk.artifact import Artifact
from slipway.sdk.manifest import ONNX_FILE, Content, Provenance


def run(task: PackageTask, pod: Pod) -> Report:
    """Raises ArtifactError for a graph that Triton could not serve, or data that does not fit it."""
    model = pod.copy(task.model, State.ONNX)
    data = pod.copy(task.data.artifact, State.DATASET, held_out=True) if task.data else None
    graph = model.file(ONNX_FILE)
    session = open_session(graph)
    inputs, outputs = tensors(session.get_inputs()), tensors(session.get_outputs())
    samples = golden_inputs(inputs, data) if data else made_up(inputs)
    folder = f"models/{task.name}"
    packed: dict[str, Path | bytes] = {
        f"{folder}/config.pbtxt": render_config(task.name, inputs, outputs, task.max_batch_size).encode(),
        f"{folder}/1/model.py": _served("model.py"),
        f"{folder}/1/{ONNX_FILE}": graph,
        "golden/requests.json": golden_requests(task.name, session, outputs, samples, task.max_batch_size),
        "golden/probe.py": _served("probe.py"),
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
    """SAMPLES rows, spread evenly over the data. Raises ArtifactError where they do not fit the model's one input."""
    if len(inputs) != 1:
        raise ArtifactError(f"the model takes {len(inputs)} inputs, and a data set gives one; package it without data")
    rows = read_arrays(data).inputs
    chosen = rows[np.linspace(0, len(rows) - 1, SAMPLES).round().astype(int)]
    dims = inputs[0].dims
    shape = chosen.shape[1:]
    if len(shape) != len(dims) or any(want not in (-1, got) for want, got in zip(dims, shape, strict=True)):
        raise ArtifactError(f"the model takes samples of {dims}, and the data's are of {shape}")
    return {inputs[0].name: chosen.astype(NUMPY_TYPES[inputs[0].datatype])}


def _served(name: str) -> bytes:
    return (files("slipway.runtime.serving") / name).read_bytes()
