"""What a plugin's result must keep of the model that it was made from: its tensors, and how it answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError, Finding, SlipwayError, finding_of
from slipway.runtime.golden import SAMPLES, TOLERANCE, made_up
from slipway.runtime.onnxfile import stripped
from slipway.runtime.session import open_session, run_session, tensors
from slipway.runtime.triton import NUMPY_TYPES, Tensor
from slipway.sdk.artifact import Artifact
from slipway.sdk.manifest import ONNX_FILE, TensorSpec

if TYPE_CHECKING:
    import torch

Rows = Mapping[str, NDArray[Any]]
Answer = Callable[[Rows], list[NDArray[Any]]]
BATCHES = (1, 3, SAMPLES, 64)
_SOURCE_FILE = re.compile(rb"/[\w./-]{8,}\.py\b")
_CALL = "leave it by context.write_onnx"


def result_findings(model: Artifact, left: Artifact, places: Sequence[Path]) -> list[Finding]:
    """A finding for each thing. places: folders of this machine that no file may name."""
    if left.state is State.ONNX:
        return _of_graph(model, left, places)
    if left.state is State.MODULE:
        return _of_module(model, left)
    return []


def tensor_problems(model: Artifact, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[str]:
    """Where names, types or shapes are not those of the model."""
    wanted = model.content
    return [
        f"{kind} are {_told(found)}, and the model's are {_told(old)}"
        for kind, found, old in (("inputs", inputs, wanted.inputs), ("outputs", outputs, wanted.outputs))
        if tuple(found) != tuple(old)
    ]


def answer_problems(answer: Answer, rows: Rows) -> list[str]:
    """Where a batch of some size is refused, or a sample is answered otherwise in company than alone.

    rows: SAMPLES of each input, [SAMPLES, ...]. Answers may differ by TOLERANCE, as golden requests may.
    """
    try:
        alone = _joined([answer({name: array[n : n + 1] for name, array in rows.items()}) for n in range(SAMPLES)])
    except Exception as error:  # noqa: BLE001 - a module may raise anything
        return [f"one sample alone is refused: {error}"]
    if odd := [place for place, array in enumerate(alone) if len(array) != SAMPLES]:
        return [f"output {odd[0]} has not one row a sample"]
    if bad := [place for place, array in enumerate(alone) if not np.isfinite(array.astype(np.float64)).all()]:
        return [f"output {bad[0]} holds NaN or infinity"]
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
                problems.append(f"a batch of {batch} is answered otherwise than its samples alone, by {worst:.2g}")
    return problems


def path_problems(data: bytes, places: Sequence[Path]) -> list[str]:
    """Folders of this machine, and source files, that the bytes name."""
    known = sorted({str(place) for place in places if len(place.parts) > 2})
    found = [place for place in known if place.encode() in data]
    found += sorted({path.decode() for path in _SOURCE_FILE.findall(data)})
    return [f"the file names {path}" for path in found[:3]]


def _of_graph(model: Artifact, left: Artifact, places: Sequence[Path]) -> list[Finding]:
    import onnx

    path = left.file(ONNX_FILE)
    data = path.read_bytes()
    try:
        plain, inputs, outputs = stripped(path)
        onnx.checker.check_model(str(path), full_check=True)
        session = open_session(path)
        taken = tensors(session.get_inputs())
        tensors(session.get_outputs())
    except (ArtifactError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return [Finding("graph", "fail", str(error), "leave a graph that onnx.checker and onnxruntime take")]
    named = path_problems(data, places) or ([] if plain == data else ["it holds documentation strings or metadata"])
    return [
        Finding("graph", "ok", "onnx.checker and onnxruntime take it"),
        _tensors(model, inputs, outputs),
        _answers(lambda rows: run_session(session, dict(rows)), made_up(taken)),
        finding_of("paths", named, "it names no path of the machine", _CALL),
    ]


def _of_module(model: Artifact, left: Artifact) -> list[Finding]:
    from slipway.runtime.modules import load_module

    cure = "leave it by context.save_module"
    try:
        module = load_module(left)
    except SlipwayError as error:
        return [Finding("rebuilt", "fail", str(error), cure)]
    content = left.content
    found = [
        Finding("rebuilt", "ok", f"{content.module.factory if content.module else ''} builds it anew"),
        _tensors(model, content.inputs, content.outputs),
    ]
    try:
        rows = _rows(model.content.inputs)
    except KeyError as error:
        return [*found, Finding("batches", "warn", f"not tried: no inputs of {error} are made here")]
    return [*found, _answers(_answers_of(module), rows)]


def _tensors(model: Artifact, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Finding:
    problems = tensor_problems(model, inputs, outputs)
    return finding_of("tensors", problems, "names, types and shapes are kept", "clients send and read them: keep them")


def _answers(answer: Answer, rows: Rows) -> Finding:
    sizes = ", ".join(map(str, BATCHES))
    well = f"batches of {sizes} are answered as each sample alone"
    return finding_of(
        "batches", answer_problems(answer, rows), well, "keep the first dimension free, and samples apart"
    )


def _answers_of(module: torch.nn.Module) -> Answer:
    import torch

    from slipway.runtime.modules import run

    def answer(rows: Rows) -> list[NDArray[Any]]:
        return [output.numpy() for output in run(module, [torch.from_numpy(array) for array in rows.values()])]

    return answer


def _rows(inputs: Sequence[TensorSpec]) -> Rows:
    names = {np.dtype(kind).name: datatype for datatype, kind in NUMPY_TYPES.items()}
    return made_up([Tensor(spec.name, names[spec.dtype], spec.shape) for spec in inputs])


def _told(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in specs) or "none"


def _joined(answers: Sequence[Sequence[NDArray[Any]]]) -> list[NDArray[Any]]:
    return [np.concatenate(parts) for parts in zip(*answers, strict=True)]
