"""Triton's python backend for one ONNX graph: runs model.onnx, which lies beside this file, in onnxruntime.

Needs numpy and onnxruntime in the interpreter of the stub. Triton has checked names, types and shapes against
config.pbtxt before a request comes here, and joins only requests of equal shape.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found] # Triton puts it on the path


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        onnxruntime.disable_telemetry_events()  # a server calls nobody
        options = onnxruntime.SessionOptions()
        # Instances and replicas scale; threads of their own would fight over the pod's CPU limit.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [tensor.name for tensor in self.session.get_inputs()]
        self.outputs = [tensor.name for tensor in self.session.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        """One run for all requests of the dynamic batch; the answers are cut along the batch axis again."""
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
