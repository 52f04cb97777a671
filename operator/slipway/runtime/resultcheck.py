"""Checks of a plugin's result against the model that it was made from: tensors, outputs, and paths in the file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError, Finding, SlipwayError, finding_of
from slipway.runtime.graphs import NUMPY_TYPES, Tensor, open_session, run_session, strip_graph, tensors
from slipway.runtime.package import SAMPLES, TOLERANCE, example_rows
from slipway.sdk.artifact import Artifact
from slipway.sdk.manifest import ONNX_FILE, TensorSpec

if TYPE_CHECKING:
    import torch

Rows = Mapping[str, NDArray[Any]]
Answer = Callable[[Rows], list[NDArray[Any]]]
BATCHES = (1, 3, SAMPLES, 64)
_SOURCE_FILE = re.compile(rb"/[\w./-]{8,}\.py\b")
_USE_WRITE_ONNX = "write it by context.write_onnx"


def result_findings(model: Artifact, result: Artifact, places: Sequence[Path]) -> list[Finding]:
    """Return the findings on the result. places: folders of this machine that no file may contain."""
    if result.state is State.ONNX:
        return _graph_findings(model, result, places)
    if result.state is State.MODULE:
        return _module_findings(model, result)
    return []


def tensor_problems(model: Artifact, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[str]:
    """Return the names, types or shapes that differ from those of the model."""
    wanted = model.content
    return [
        f"{kind} are {_describe(found)}, and the model's are {_describe(old)}"
        for kind, found, old in (("inputs", inputs, wanted.inputs), ("outputs", outputs, wanted.outputs))
        if tuple(found) != tuple(old)
    ]


def answer_problems(answer: Answer, rows: Rows) -> list[str]:
    """Return the batch sizes that are refused, or give a sample another output than alone.

    rows: SAMPLES of each input, [SAMPLES, ...]. Outputs may differ by TOLERANCE, as those of golden requests may.
    """
    try:
        alone = _joined([answer({name: array[n : n + 1] for name, array in rows.items()}) for n in range(SAMPLES)])
    except Exception as error:  # noqa: BLE001 - a module may raise anything
        return [f"one sample alone is refused: {error}"]
    if misshapen := [place for place, array in enumerate(alone) if len(array) != SAMPLES]:
        return [f"output {misshapen[0]} does not have one row for each sample"]
    if not_finite := [place for place, array in enumerate(alone) if not np.isfinite(array.astype(np.float64)).all()]:
        return [f"output {not_finite[0]} has NaN or infinity"]
    problems = []
    for batch in BATCHES[1:]:
        places = np.arange(batch) % SAMPLES
        try:
            given = answer({name: array[places] for name, array in rows.items()})
        except Exception as error:  # noqa: BLE001
            problems.append(f"a batch of {batch} is refused: {error}")
            continue
        for number, (array, each) in enumerate(zip(given, alone, strict=True)):
            wanted = each[places]
            if array.shape != wanted.shape:
                problems.append(f"a batch of {batch} gives output {number} the shape {list(array.shape)}")
            elif not np.allclose(array, wanted, rtol=TOLERANCE, atol=TOLERANCE):
                worst = float(np.abs(array.astype(np.float64) - wanted).max())
                problems.append(f"a batch of {batch} gives other outputs than its samples alone, by {worst:.2g}")
    return problems


def path_problems(data: bytes, places: Sequence[Path]) -> list[str]:
    """Return the folders of this machine, and source files, that the bytes contain."""
    known = sorted({str(place) for place in places if len(place.parts) > 2})
    found = [place for place in known if place.encode() in data]
    found += sorted({path.decode() for path in _SOURCE_FILE.findall(data)})
    return [f"the file contains the path {path}" for path in found[:3]]


def _graph_findings(model: Artifact, result: Artifact, places: Sequence[Path]) -> list[Finding]:
    import onnx

    path = result.file(ONNX_FILE)
    data = path.read_bytes()
    try:
        plain, inputs, outputs = strip_graph(path)
        onnx.checker.check_model(str(path), full_check=True)
        session = open_session(path)
        taken = tensors(session.get_inputs())
        tensors(session.get_outputs())
    except (ArtifactError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return [Finding("graph", "fail", str(error), "write a graph that onnx.checker and onnxruntime accept")]
    named = path_problems(data, places) or ([] if plain == data else ["the file has documentation strings or metadata"])
    return [
        Finding("graph", "ok", "onnx.checker and onnxruntime accept it"),
        _tensor_finding(model, inputs, outputs),
        _batch_finding(lambda rows: run_session(session, dict(rows)), example_rows(taken)),
        finding_of("paths", named, "the file contains no path of the machine", _USE_WRITE_ONNX),
    ]


def _module_findings(model: Artifact, result: Artifact) -> list[Finding]:
    from slipway.runtime.modules import load_module

    cure = "write it by context.save_module"
    try:
        module = load_module(result)
    except SlipwayError as error:
        return [Finding("rebuilt", "fail", str(error), cure)]
    content = result.content
    found = [
        Finding("rebuilt", "ok", f"{content.module.factory if content.module else ''} builds it again"),
        _tensor_finding(model, content.inputs, content.outputs),
    ]
    try:
        rows = _rows(model.content.inputs)
    except KeyError as error:
        return [*found, Finding("batches", "warn", f"not checked: there are no example inputs of type {error}")]
    return [*found, _batch_finding(_answer_of(module), rows)]


def _tensor_finding(model: Artifact, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Finding:
    problems = tensor_problems(model, inputs, outputs)
    return finding_of("tensors", problems, "names, types and shapes are kept", "keep them, because clients use them")


def _batch_finding(answer: Answer, rows: Rows) -> Finding:
    sizes = ", ".join(map(str, BATCHES))
    passed = f"batches of {sizes} give the same outputs as single samples"
    return finding_of(
        "batches", answer_problems(answer, rows), passed, "keep the batch dimension dynamic, and samples independent"
    )


def _answer_of(module: torch.nn.Module) -> Answer:
    import torch

    from slipway.runtime.modules import run

    def answer(rows: Rows) -> list[NDArray[Any]]:
        return [output.numpy() for output in run(module, [torch.from_numpy(array) for array in rows.values()])]

    return answer


def _rows(inputs: Sequence[TensorSpec]) -> Rows:
    names = {np.dtype(kind).name: datatype for datatype, kind in NUMPY_TYPES.items()}
    return example_rows([Tensor(spec.name, names[spec.dtype], spec.shape) for spec in inputs])


def _describe(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in specs) or "none"


def _joined(answers: Sequence[Sequence[NDArray[Any]]]) -> list[NDArray[Any]]:
    return [np.concatenate(parts) for parts in zip(*answers, strict=True)]
