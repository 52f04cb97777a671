"""onnxruntime's int8 kernels on this processor, compared with exact arithmetic.

x86 processors without VNNI multiply unsigned by signed bytes with `pmaddubsw`, which adds two products in 16 bits and
saturates: 255 * 127 twice is 64,770, and 32,767 is what comes out. Weights of 7 bits cannot saturate.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.runtime.session import open_session, run_session

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime
    from numpy.typing import NDArray

SAMPLES = 32
"""Samples on which `kernel_error` compares; more cost time and change little."""
_DEPTH = 64
"""Products in the sum of the probe: the widest kernel takes 64 at once."""


@cache
def int8_saturates() -> bool:
    """Whether a sum of products of uint8 activations and int8 weights saturates here: one MatMulInteger, some 3 ms."""
    import numpy as np
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
    """How far the outputs are from those of kernels that cannot saturate; 0 on a processor whose kernels do not.

    As `kernel_error` measures it; also of graphs that quantize as they run.
    """
    return _disagreement(samples, open_session(graph), open_session(graph, precise=True))


def kernel_error(graph: Path | bytes, samples: NDArray[np.float32]) -> float:
    """How far the outputs are from exact arithmetic, node by node: 0 where they agree, at most 1.

    The mean difference over the first SAMPLES samples as a share of the mean sizes, of the output that differs most.
    The graph has one input. Raises ArtifactError where it cannot be run.
    """
    error = _disagreement(samples, open_session(graph), open_session(graph, fused=False))
    return max(error, saturation(graph, samples)) if int8_saturates() else error


def _disagreement(
    samples: NDArray[np.float32], one: onnxruntime.InferenceSession, other: onnxruntime.InferenceSession
) -> float:
    given: dict[str, NDArray[Any]] = {one.get_inputs()[0].name: samples[:SAMPLES]}
    pairs = zip(run_session(one, given), run_session(other, given), strict=True)
    return max((_difference(*pair) for pair in pairs if pair[0].dtype.kind == "f"), default=0.0)


def _difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    import numpy as np

    one, other = one.astype(np.float64), other.astype(np.float64)
    size = float((np.abs(one) + np.abs(other)).sum())
    if not np.isfinite(size):
        return 0.0 if np.array_equal(one, other, equal_nan=True) else 1.0
    return float(np.abs(one - other).sum()) / size if size else 0.0
