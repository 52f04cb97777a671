"""quantize-int8: turn weights and activations of an ONNX graph into 8-bit integers, calibrated on data.

Static quantization in QDQ format by onnxruntime.quantization; the arithmetic is that of Jacob et al., "Quantization
and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (CVPR 2018).
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from slipway.sdk import Artifact, Context, PluginError, State
from slipway.sdk.manifest import ONNX_FILE

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

QUANTIZABLE = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that have the weights."""
QUANTIZED = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "DequantizeLinear"})
REMOVABLE = frozenset({"Relu", "Clip"})
"""Operators that onnxruntime drops if the zero point of the quantizer after them clips as they do."""
X86 = frozenset({"x86_64", "amd64", "i386", "i686"})
BATCH = 32
KERNEL_ERROR = 0.01
"""Fraction of the outputs' size that rounding does not explain: fused kernels round differently, by less than a
step."""


class QuantizeParams(BaseModel):
    """Calibration of the graph, and types of its integers."""

    model_config = ConfigDict(extra="forbid")

    activation_type: Literal["auto", "int8", "uint8"] = Field(
        default="auto",
        description="Type of activations. auto: uint8 on x86, where int8 is slow if a tensor is read twice, otherwise "
        "int8. Set it if the Nodes that serve have another architecture than the one that quantizes.",
    )
    calibration_samples: int = Field(
        default=256, ge=1, le=100_000, description="Number of samples, evenly over the data, that set the ranges."
    )
    reduce_range: bool | Literal["auto"] = Field(
        default="auto",
        description="Use weights of 7 bits instead of 8, for x86 processors without VNNI, whose 8-bit sums saturate. "
        "auto: true if they saturate on the Node of the step. Set it to true if only some Nodes that serve have VNNI.",
    )


class QuantizeInt8:
    """Quantization with symmetric weights per channel; ranges of activations are the extremes on the calibration
    data."""

    name = "quantize-int8"
    version = "1.1.0"
    description = "Quantize weights and activations of an ONNX graph to 8 bits (static, per channel, QDQ)."
    consumes = State.ONNX
    produces = State.ONNX
    conversion = False
    needs_data = True
    params = QuantizeParams

    def run(self, model: Artifact, params: QuantizeParams, context: Context) -> Artifact:
        """Quantize the graph. Raises PluginError for one without weights to quantize, or that is quantized already."""
        import onnx

        source = model.file(ONNX_FILE)
        graph = onnx.load(str(source)).graph
        if reason := refusal_reason(graph):
            raise PluginError(f"{self.name}: {reason}")
        samples = evenly_spaced(context.data().inputs, params.calibration_samples)
        context.progress(f"calibrating on {len(samples)} samples")
        kind = params.activation_type if params.activation_type != "auto" else activation_type(platform.machine())
        saturates = context.int8_saturates
        reduce_range = saturates if params.reduce_range == "auto" else params.reduce_range
        context.progress(
            f"activations {kind}, weights of {7 if reduce_range else 8} bits:"
            f" 8-bit sums {'saturate' if saturates else 'are exact'} on this processor ({platform.machine()})"
        )
        try:
            small = quantize_graph(source, inputs_of(graph)[0], samples, kind, reduce_range, context.scratch)
        except Exception as error:
            raise PluginError(f"{self.name}: onnxruntime cannot quantize the graph: {error}") from error
        simplify(small)
        integer, total = weight_bytes(small.graph)
        if not integer:
            raise PluginError(f"{self.name}: onnxruntime left every weight in floating point")
        data = small.SerializeToString(deterministic=True)
        if (off := context.kernel_error(data, samples)) > KERNEL_ERROR:
            context.progress(f"warning: {difference_message(off, saturates=saturates and not reduce_range)}")
        chosen = {"reduce_range": float(reduce_range), "signed_activations": float(kind == "int8")}
        found = {"int8_saturates": float(saturates), "kernel_error": round(off, 6)}
        return context.write_onnx(data, {"int8_share": integer / total, **chosen, **found})


def refusal_reason(graph: onnx.GraphProto) -> str | None:
    """Return the reason why the graph cannot be quantized; None if it can."""
    weights = {tensor.name for tensor in graph.initializer}
    if any(node.op_type in QUANTIZED for node in graph.node):
        return "the graph is quantized already"
    if not any(node.op_type in QUANTIZABLE and weights.intersection(node.input) for node in graph.node):
        return f"the graph has no weights of {', '.join(sorted(QUANTIZABLE))}"
    if len(inputs := inputs_of(graph)) != 1:
        return f"the graph has {len(inputs)} inputs ({', '.join(inputs)}), and calibration data has one"
    return None


def inputs_of(graph: onnx.GraphProto) -> list[str]:
    """Return the names of the inputs: older exporters list the weights as inputs, too."""
    weights = {tensor.name for tensor in graph.initializer}
    return [tensor.name for tensor in graph.input if tensor.name not in weights]


def activation_type(machine: str) -> Literal["int8", "uint8"]:
    """Return uint8 on x86, whose kernels take unsigned activations: signed ones are rewritten, except those read twice.

    A residual network was 1.5 times slower than float32 with int8 and 1.5 times faster with uint8; a small encoder took
    1,070 us a sample with int8, 240 with uint8, 420 in float32. machine: the value of platform.machine().
    """
    return "uint8" if machine.lower() in X86 else "int8"


def difference_message(off: float, *, saturates: bool) -> str:
    """Return a message: the kernels of this processor differ from exact arithmetic, the cause, and what to do."""
    cause = (
        "8-bit sums saturate on this processor; set params.reduce_range to auto or true"
        if saturates
        else "not saturation; compare the Nodes, and report it to onnxruntime"
    )
    return f"outputs differ by {off:.1%} from those of exact arithmetic on {BATCH} calibration samples: {cause}"


def evenly_spaced(inputs: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return at most `count` samples, evenly over the data set, which may be sorted by class."""
    import numpy as np

    places = np.linspace(0, len(inputs) - 1, min(count, len(inputs))).round().astype(int)
    chosen: NDArray[np.float32] = inputs[places]
    return chosen


def quantize_graph(
    source: Path, name: str, samples: NDArray[np.float32], kind: str, reduce_range: bool, scratch: Path
) -> onnx.ModelProto:
    """Return the graph in QDQ format. name: that of its input. Raises the errors of onnxruntime."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types
        def __init__(self) -> None:
            self.batches: Iterator[dict[str, Any]] = (
                {name: samples[start : start + BATCH]} for start in range(0, len(samples), BATCH)
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    prepared, result = scratch / "prepared.onnx", scratch / "quantized.onnx"
    quant_pre_process(str(source), str(prepared))
    quantize_static(
        str(prepared),
        str(result),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=reduce_range,
        activation_type=QuantType.QUInt8 if kind == "uint8" else QuantType.QInt8,
        weight_type=QuantType.QInt8,
    )
    small = onnx.load(str(result))
    keep_last_activations(onnx.load(str(prepared)).graph, small.graph)
    return small


def keep_last_activations(before: onnx.GraphProto, graph: onnx.GraphProto) -> None:
    """Restore a Relu or Clip that makes an output: without the quantizer after it, nothing would clip.

    All others are dropped, and their quantizers clip: keeping them costs a residual network 9 to 12 % (onnxruntime's
    own option QDQKeepRemovableActivations).
    """
    last = {node.output[0]: node for node in before.node if node.op_type in REMOVABLE}
    weights = {tensor.name: tensor for tensor in before.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    for tensor in graph.output:
        lost, restored = last.get(tensor.name), makers.get(tensor.name)
        rounding = makers.get(restored.input[0]) if restored and restored.op_type == "DequantizeLinear" else None
        if lost is None or rounding is None or rounding.op_type != "QuantizeLinear":
            continue
        if (maker := makers.get(rounding.input[0])) is not None and maker.op_type == lost.op_type:
            continue
        node = type(lost)()
        node.CopyFrom(lost)
        node.input[0], node.output[0] = rounding.input[0], f"{tensor.name}_unrounded"
        rounding.input[0] = node.output[0]
        graph.node.insert(list(graph.node).index(rounding), node)
        known = {each.name for each in graph.initializer}
        graph.initializer.extend(weights[name] for name in node.input[1:] if name in weights and name not in known)


def simplify(model: onnx.ModelProto) -> None:
    """Keep outputs in float (rounded scores tie), and drop unused values that onnxruntime adds."""
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    for tensor in graph.output:
        last = makers.get(tensor.name)
        if last is None or last.op_type != "DequantizeLinear":
            continue
        rounding = makers.get(last.input[0])
        if rounding is None or rounding.op_type != "QuantizeLinear":
            continue
        maker = makers.get(rounding.input[0])
        readers = [node for node in graph.node if set(node.input) & {rounding.input[0], rounding.output[0]}]
        if maker is None or readers != [rounding, last]:
            continue
        maker.output[list(maker.output).index(rounding.input[0])] = tensor.name
        graph.node.remove(rounding)
        graph.node.remove(last)
    read = {name for node in graph.node for name in node.input}
    for initializer in [each for each in graph.initializer if each.name not in read]:
        graph.initializer.remove(initializer)
    del graph.value_info[:]
    used = {node.domain for node in graph.node} | {""}
    for opset in [each for each in model.opset_import if each.domain not in used]:
        model.opset_import.remove(opset)


def weight_bytes(graph: onnx.GraphProto) -> tuple[int, int]:
    """Return the bytes of 8-bit initializers, and of all."""
    import onnx

    eight_bits = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
    sizes = [(t.data_type in eight_bits, onnx.numpy_helper.to_array(t).nbytes) for t in graph.initializer]
    return sum(size for small, size in sizes if small), sum(size for _, size in sizes)
