"""export-onnx: a torch module becomes an ONNX graph that gives the same outputs for any batch size."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from slipway.sdk import Artifact, Context, PluginError, State, TensorSpec

if TYPE_CHECKING:
    import torch

OPSET = 20
TRACE_BATCH = 2
"""Batch of the trace: with one sample torch.export takes the batch size for a constant."""
CHECKED_BATCHES = (1, 2, 64)
MAX_DIFFERENCE = 1e-4
"""Largest difference, as a fraction of the output's largest value, or of 1. Float32 graphs of three architectures
differed from torch by at most 8e-6."""
MAX_BYTES = 2**31
"""Limit of a protobuf message, and so of an ONNX file."""


class ExportParams(BaseModel):
    """No parameters: the module determines the graph."""

    model_config = ConfigDict(extra="forbid")


class ExportOnnx:
    """Conversion by torch.export and torch's ONNX exporter, checked against the module."""

    name = "export-onnx"
    version = "1.0.0"
    description = "Convert a torch module to an ONNX graph with a dynamic batch, checked against the module."
    consumes = State.MODULE
    produces = State.ONNX
    conversion = True
    needs_data = False
    params = ExportParams

    def run(self, model: Artifact, params: ExportParams, context: Context) -> Artifact:  # noqa: ARG002 - the contract
        """Convert the module. Raises PluginError if torch cannot capture it, or the graph gives other outputs."""
        module = context.load_module(model).cpu()
        inputs, outputs = model.content.inputs, model.content.outputs
        if not inputs or not outputs:
            raise PluginError(f"{self.name}: the manifest has no inputs or outputs; save the model with example_inputs")
        graph = export_module(module, inputs, outputs)
        found = [differences(module, graph, inputs, batch) for batch in CHECKED_BATCHES]
        if wrong := [relative for _, relative in found if not relative <= MAX_DIFFERENCE]:
            raise PluginError(
                f"{self.name}: the graph differs from the module by {wrong[0]:.2g} of its largest output, more than"
                f" {MAX_DIFFERENCE}; let its forward depend on its inputs only"
            )
        return context.write_onnx(graph, {"max_difference": max(absolute for absolute, _ in found)})


def export_module(module: torch.nn.Module, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> bytes:
    """Return the module as a serialized ONNX model. Raises PluginError with torch's message."""
    import torch

    size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    if size >= MAX_BYTES:
        raise PluginError(
            f"export-onnx: the weights take {size / 1e9:.1f} GB, and an ONNX file has less than"
            f" {MAX_BYTES / 1e9:.1f} GB; prune the model first, or train a smaller one"
        )
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is missing
    batch = torch.export.Dim("batch")
    try:
        program = torch.onnx.export(
            module,
            examples(inputs, TRACE_BATCH),
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            input_names=[spec.name for spec in inputs],
            output_names=[spec.name for spec in outputs],
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    except Exception as error:
        cause = brief(str(error.__cause__ or error))
        raise PluginError(f"export-onnx: torch.export cannot capture the module: {cause}") from error
    if program is None:
        raise PluginError("export-onnx: torch.onnx.export returned no program")
    return program.model_proto.SerializeToString(deterministic=True)


def brief(message: str) -> str:
    """Return the error of torch.export with the line of the module's code, without its pages about debugging."""
    what, *_ = message.strip().split("\n", 1)
    _, _, where = message.partition("The following call raised this error:")
    lines = [line.strip() for line in where.strip().splitlines()[:2]]
    return f"{what} ({' '.join(lines)})" if lines else what


def examples(inputs: tuple[TensorSpec, ...], batch: int) -> tuple[torch.Tensor, ...]:
    """Return the same tensors each time: floats from 0 to 1, integers 0 and 1; a dimension that may vary has size 8."""
    import torch

    generator = torch.Generator().manual_seed(batch)
    tensors = []
    for spec in inputs:
        dtype = getattr(torch, "bool" if spec.dtype == "bool" else spec.dtype)
        values = torch.rand(batch, *(8 if size < 0 else size for size in spec.shape), generator=generator)
        tensors.append(values.to(dtype) if dtype.is_floating_point else (values > 0.5).to(dtype))
    return tuple(tensors)


def differences(
    module: torch.nn.Module, graph: bytes, inputs: tuple[TensorSpec, ...], batch: int
) -> tuple[float, float]:
    """Return the largest difference between torch and onnxruntime over all outputs: absolute, and as a fraction of the
    output's largest value if that is above 1. Infinite for other shapes.
    """
    import numpy as np
    import onnxruntime
    import torch

    fed = examples(inputs, batch)
    with torch.no_grad():
        answers = module(*fed)
    answers = [answers] if isinstance(answers, torch.Tensor) else answers
    expected = [tensor.numpy().astype(np.float64) for tensor in answers]
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]
    given = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, fed, strict=True)})
    if [array.shape for array in expected] != [array.shape for array in given]:
        return math.inf, math.inf
    absolute = [np.abs(one - other).max(initial=0.0) for one, other in zip(expected, given, strict=True)]
    largest = [max(1.0, np.abs(one).max(initial=0.0)) for one in expected]
    relative = [difference / scale for difference, scale in zip(absolute, largest, strict=True)]
    return float(np.max(absolute)), float(np.max(relative))  # numpy's max keeps NaN
