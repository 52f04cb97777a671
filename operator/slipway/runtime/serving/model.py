"""Triton's python backend for one ONNX graph: runs model.onnx beside this file in onnxruntime.

The interpreter of the stub needs numpy and onnxruntime. Triton checks names, types and shapes against config.pbtxt
before it passes a request, and joins only requests of equal shape.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found] # Triton puts it on the path


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        onnxruntime.disable_telemetry_events()  # a server sends no telemetry
        options = onnxruntime.SessionOptions()
        # Instances and replicas scale; more threads would compete for the pod's CPUs.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [tensor.name for tensor in self.session.get_inputs()]
        self.outputs = [tensor.name for tensor in self.session.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Run all requests of the dynamic batch at once, and split the outputs along the batch axis."""
        fed = [[pb_utils.get_input_tensor_by_name(r, name).as_numpy() for name in self.inputs] for r in requests]
        joined = {name: np.concatenate(parts) for name, parts in zip(self.inputs, zip(*fed, strict=True), strict=True)}
        ends = np.cumsum([len(parts[0]) for parts in fed])[:-1]
        answers = [np.split(array, ends) for array in self.session.run(self.outputs, joined)]
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, part) for name, part in zip(self.outputs, parts, strict=True)]
            )
            for parts in zip(*answers, strict=True)
        ]
