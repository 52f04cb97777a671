"""A torch module as an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from slipway.api.errors import ArtifactError


def export(module: torch.nn.Module, example_inputs: Sequence[torch.Tensor], target: Path) -> None:
    """Write the module as an ONNX file whose first dimension may be any batch size."""
    names = ["input", *(f"input_{place}" for place in range(1, len(example_inputs)))]
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        module,
        tuple(example_inputs),
        dynamo=True,
        dynamic_shapes=tuple({0: batch} for _ in example_inputs),
        input_names=names,
        output_names=["output"],
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise ArtifactError("torch.onnx.export made no program")
    program.save(target)
