"""Running an ONNX graph the same way everywhere: one thread, so that sums are taken in one order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.api.errors import ArtifactError
from slipway.runtime.triton import DATATYPES, Tensor

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime
    from numpy.typing import NDArray


def open_session(graph: Path | bytes, *, fused: bool = True, precise: bool = False) -> onnxruntime.InferenceSession:
    """Load the graph. Raises ArtifactError for what onnxruntime cannot load.

    fused: False runs every node by itself. precise: no kernel whose sums of 8-bit products may saturate, which is
    slower. Both only to compare with: Triton does neither.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # a pod calls nobody
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if precise:
        options.add_session_config_entry("session.x64quantprecision", "1")
    given, name = (graph, "the graph") if isinstance(graph, bytes) else (str(graph), str(graph))
    try:
        return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no base class but this
        raise ArtifactError(f"onnxruntime cannot load {name}: {error}") from error


def tensors(arguments: list[Any]) -> tuple[Tensor, ...]:
    """The inputs or outputs of a session, without the batch axis.

    Raises ArtifactError for a type that is not served, and for a first dimension that is not free.
    """
    result = []
    for argument in arguments:
        if argument.type not in DATATYPES:
            raise ArtifactError(
                f"{argument.name} is a {argument.type}; Slipway serves {', '.join(DATATYPES)}; cast it inside the graph"
            )
        if not argument.shape or isinstance(argument.shape[0], int):
            raise ArtifactError(
                f"{argument.name} has the shape {argument.shape}, whose first dimension is not a free batch;"
                " export the model with a dynamic batch"
            )
        dims = tuple(size if isinstance(size, int) else -1 for size in argument.shape[1:])
        result.append(Tensor(argument.name, DATATYPES[argument.type], dims))
    return tuple(result)


def run_session(session: onnxruntime.InferenceSession, inputs: dict[str, NDArray[np.generic]]) -> list[NDArray[Any]]:
    """The outputs in the graph's order. Raises ArtifactError where the graph refuses the inputs."""
    try:
        return list(session.run(None, inputs))
    except Exception as error:
        shapes = {name: array.shape for name, array in inputs.items()}
        raise ArtifactError(f"the model refuses inputs of {shapes}: {error}") from error
