"""ONNX files: stripped of what varies, and described."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slipway.api.errors import ArtifactError
from slipway.sdk.manifest import TensorSpec


def stripped(graph: Path | bytes) -> tuple[bytes, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The graph without documentation strings and metadata (they hold paths of the machine), its inputs and outputs.

    Equal graphs give equal bytes. Raises ArtifactError for what is no ONNX file, keeps tensors in other files, or has
    an input or output without a shape.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(graph.read_bytes() if isinstance(graph, Path) else graph)
    except DecodeError as error:
        raise ArtifactError(f"this is not an ONNX file: {error}") from error
    model.ClearField("doc_string")
    del model.metadata_props[:]
    _strip_graph(model.graph)
    for function in model.functions:
        function.ClearField("doc_string")
        del function.metadata_props[:]
        _strip_nodes(function.node)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_spec(value) for value in model.graph.input if value.name not in weights)
    outputs = tuple(_spec(value) for value in model.graph.output)
    return model.SerializeToString(deterministic=True), inputs, outputs


def _strip_graph(graph: Any) -> None:
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
                _strip_graph(graph)


def _refuse_external(tensors: Iterable[Any]) -> None:
    import onnx

    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
        raise ArtifactError("the ONNX file keeps its weights in other files; save it with external_data=False")


def _spec(value: Any) -> TensorSpec:
    import onnx

    kind = value.type.tensor_type
    if not kind.HasField("shape") or not kind.shape.dim:
        raise ArtifactError(f"{value.name!r} of the ONNX file has no shape; export it with a batch dimension")
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim[1:])
    return TensorSpec(name=value.name, shape=shape, dtype=str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)))
