"""ONNX graphs: stripped of what varies, described, run the same way everywhere, and compared with exact arithmetic.

A session has one thread, so that sums are taken in one order. x86 processors without VNNI multiply unsigned by signed
bytes with `pmaddubsw`, which adds two products in 16 bits and saturates: 255 * 127 twice is 64,770, and the result is
32,767. Weights of 7 bits cannot saturate.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slipway.api.errors import ArtifactError
from slipway.sdk.manifest import TensorSpec

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

DATATYPES = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(int64)": "INT64",
    "tensor(int32)": "INT32",
    "tensor(int16)": "INT16",
    "tensor(int8)": "INT8",
    "tensor(uint8)": "UINT8",
    "tensor(bool)": "BOOL",
}
"""onnxruntime's name of a type -> its name in KServe's v2 protocol; config.pbtxt has the same with the prefix TYPE_.

Float16 is missing: Triton takes it in binary requests only, and golden requests are JSON, as those of many clients.
"""

NUMPY_TYPES: dict[str, type[np.generic]] = {
    "FP32": np.float32,
    "FP64": np.float64,
    "INT64": np.int64,
    "INT32": np.int32,
    "INT16": np.int16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a served model.

    datatype: KServe's v2 name, such as FP32. dims: without the batch axis; -1 for any size, () for one value each.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]


def strip_graph(graph: Path | bytes) -> tuple[bytes, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the graph without documentation strings and metadata (they have paths of the machine), inputs and outputs.

    Equal graphs give equal bytes. Raises ArtifactError for another file than ONNX, for tensors in other files, and for
    an input or output without a shape.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(graph.read_bytes() if isinstance(graph, Path) else graph)
    except DecodeError as error:
        raise ArtifactError(f"not an ONNX file: {error}") from error
    model.ClearField("doc_string")
    del model.metadata_props[:]
    _strip_subgraph(model.graph)
    for function in model.functions:
        function.ClearField("doc_string")
        del function.metadata_props[:]
        _strip_nodes(function.node)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_spec(value) for value in model.graph.input if value.name not in weights)
    outputs = tuple(_spec(value) for value in model.graph.output)
    return model.SerializeToString(deterministic=True), inputs, outputs


def _strip_subgraph(graph: Any) -> None:
    graph.ClearField("doc_string")
    del graph.metadata_props[:]
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.ClearField("doc_string")
        del value.metadata_props[:]
    _refuse_external(graph.initializer)
    _refuse_external(part for sparse in graph.sparse_initializer for part in (sparse.values, sparse.indices))
    _strip_nodes(graph.node)


def _strip_nodes(nodes: Iterable[Any]) -> None:
    for node in nodes:
        node.ClearField("doc_string")
        del node.metadata_props[:]
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
            _refuse_external((*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors))
            # Touching an absent g would set it, and the attribute would have two values.
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _strip_subgraph(graph)


def _refuse_external(tensors: Iterable[Any]) -> None:
    import onnx

    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
        raise ArtifactError("the ONNX file has its weights in other files; save it with external_data=False")


def _spec(value: Any) -> TensorSpec:
    import onnx

    kind = value.type.tensor_type
    if not kind.HasField("shape") or not kind.shape.dim:
        raise ArtifactError(f"{value.name!r} of the ONNX file has no shape; export it with a batch dimension")
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim[1:])
    return TensorSpec(name=value.name, shape=shape, dtype=str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)))


def open_session(graph: Path | bytes, *, fused: bool = True, precise: bool = False) -> onnxruntime.InferenceSession:
    """Load the graph. Raises ArtifactError if onnxruntime cannot load it.

    fused: False runs every node by itself. precise: True avoids kernels whose sums of 8-bit products may saturate,
    which is slower. Both are for comparisons: Triton does neither.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # a pod sends no telemetry
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
    """Return the inputs or outputs of a session, without the batch axis.

    Raises ArtifactError for a type that cannot be served, and for a first dimension that is fixed.
    """
    result = []
    for argument in arguments:
        if argument.type not in DATATYPES:
            raise ArtifactError(
                f"{argument.name} is {argument.type}; cast it inside the graph to one of {', '.join(DATATYPES)}"
            )
        if not argument.shape or isinstance(argument.shape[0], int):
            raise ArtifactError(
                f"{argument.name} has the shape {argument.shape}, whose first dimension is fixed;"
                " export the model with a dynamic batch"
            )
        dims = tuple(size if isinstance(size, int) else -1 for size in argument.shape[1:])
        result.append(Tensor(argument.name, DATATYPES[argument.type], dims))
    return tuple(result)


def run_session(session: onnxruntime.InferenceSession, inputs: dict[str, NDArray[np.generic]]) -> list[NDArray[Any]]:
    """Return the outputs in the graph's order. Raises ArtifactError if the graph refuses the inputs."""
    try:
        return list(session.run(None, inputs))
    except Exception as error:
        shapes = {name: array.shape for name, array in inputs.items()}
        raise ArtifactError(f"the model refuses inputs of {shapes}: {error}") from error


COMPARED_SAMPLES = 32
"""Number of samples that `kernel_error` compares; more cost time and change little."""
_DEPTH = 64
"""Products in the sum of the probe: the widest kernel computes 64 at once."""


@cache
def int8_saturates() -> bool:
    """Return True if a sum of products of uint8 activations and int8 weights saturates on this processor (about 3
    ms)."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.full((_DEPTH, 1), 127, np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, _DEPTH])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 1])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=10)
    activations = np.full((1, _DEPTH), 255, np.uint8)
    (answer,) = run_session(open_session(model.SerializeToString()), {"x": activations})
    return bool((answer != activations.astype(np.int32) @ weights.astype(np.int32)).any())


def saturation(graph: Path | bytes, samples: NDArray[np.float32]) -> float:
    """Return the difference from the outputs of kernels that cannot saturate; 0 on a processor whose kernels do not.

    It is measured as in `kernel_error`, also for graphs that quantize as they run.
    """
    return _largest_difference(samples, open_session(graph), open_session(graph, precise=True))


def kernel_error(graph: Path | bytes, samples: NDArray[np.float32]) -> float:
    """Return the difference from exact arithmetic, node by node: 0 if they agree, at most 1.

    It is the mean difference over the first COMPARED_SAMPLES samples as a fraction of the mean sizes, for the output
    that differs most. The graph has one input. Raises ArtifactError if it cannot be run.
    """
    error = _largest_difference(samples, open_session(graph), open_session(graph, fused=False))
    return max(error, saturation(graph, samples)) if int8_saturates() else error


def _largest_difference(
    samples: NDArray[np.float32], one: onnxruntime.InferenceSession, other: onnxruntime.InferenceSession
) -> float:
    given: dict[str, NDArray[Any]] = {one.get_inputs()[0].name: samples[:COMPARED_SAMPLES]}
    pairs = zip(run_session(one, given), run_session(other, given), strict=True)
    return max((_difference(*pair) for pair in pairs if pair[0].dtype.kind == "f"), default=0.0)


def _difference(one: NDArray[Any], other: NDArray[Any]) -> float:

    one, other = one.astype(np.float64), other.astype(np.float64)
    size = float((np.abs(one) + np.abs(other)).sum())
    if not np.isfinite(size):
        return 0.0 if np.array_equal(one, other, equal_nan=True) else 1.0
    return float(np.abs(one - other).sum()) / size if size else 0.0
