"""Triton's side of a packed model: config.pbtxt, and the data types of its three dialects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

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
"""onnxruntime's name of a type -> KServe's v2 protocol; config.pbtxt says the same with TYPE_ in front.

No float16: Triton takes it in binary requests alone, and golden requests are JSON, as many clients' are.
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

    datatype: KServe's v2 name, as FP32. dims: without the batch axis; -1 where any size goes, () for one value each.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]


def render_config(name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], max_batch_size: int) -> str:
    """config.pbtxt of an ONNX model in the python backend, one instance on the CPU.

    It batches what waits and waits for nothing: for small models a queue delay costs a lone client more than it gains.
    Rendered from Triton's own message and read back as one, so that no field is misspelt. Raises ValueError
    where the two differ.
    """
    config = model_config_pb2.ModelConfig(
        name=name,
        backend="python",
        max_batch_size=max_batch_size,
        input=[model_config_pb2.ModelInput(**_tensor(t)) for t in inputs],
        output=[model_config_pb2.ModelOutput(**_tensor(t)) for t in outputs],
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


def _tensor(tensor: Tensor) -> dict[str, Any]:
    """The fields of a tensor. One value a sample travels as a column: Triton wants a dimension besides the batch."""
    fields = {"name": tensor.name, "data_type": _type(tensor), "dims": tensor.dims or (1,)}
    return fields if tensor.dims else {**fields, "reshape": model_config_pb2.ModelTensorReshape()}


def _type(tensor: Tensor) -> int:
    return int(model_config_pb2.DataType.Value(f"TYPE_{tensor.datatype}"))
