"""svd-linear: each fully connected layer whose two factors are smaller than itself becomes these two."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from slipway.sdk import Artifact, Context, PluginError, State


class SvdParams(BaseModel):
    model_config = ConfigDict(extra="forbid")

    energy: float = Field(default=0.9, gt=0, lt=1, description="Share of a weight's squared norm that must stay.")


class SvdLinear:
    name = "svd-linear"
    version = "1.0.0"
    description = "Replace fully connected layers by two thinner ones, by truncated singular value decomposition."
    consumes = State.ONNX
    produces = State.ONNX
    conversion = False
    needs_data = False
    params = SvdParams

    def run(self, model: Artifact, params: SvdParams, context: Context) -> Artifact:
        """Raises PluginError where no layer gets smaller."""
        import numpy as np
        import onnx
        from onnx import helper, numpy_helper

        proto = onnx.load(str(model.file("model.onnx")))
        graph = proto.graph
        weights = {tensor.name: tensor for tensor in graph.initializer}
        nodes, factors, ranks = [], [], []
        for node in graph.node:
            gemm = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            nodes.append(node)
            if node.op_type != "Gemm" or node.input[1] not in weights or gemm != {**gemm, "transB": 1}:
                continue
            weight = numpy_helper.to_array(weights[node.input[1]])  # [out, in]
            left, values, right = np.linalg.svd(weight, full_matrices=False)
            rank = int(np.searchsorted(np.cumsum(values**2) / np.sum(values**2), params.energy)) + 1
            if rank * sum(weight.shape) >= weight.size:
                continue
            ranks.append(rank)
            thin, hidden, wide = (f"{node.output[0]}.{part}" for part in ("thin", "hidden", "wide"))
            factors.append(numpy_helper.from_array(np.ascontiguousarray(right[:rank].T), thin))
            factors.append(numpy_helper.from_array(left[:, :rank] * values[:rank], wide))
            nodes.insert(-1, helper.make_node("MatMul", [node.input[0], thin], [hidden]))
            node.input[0], node.input[1] = hidden, wide
        if not ranks:
            raise PluginError(f"{self.name}: no fully connected layer gets smaller at energy {params.energy}")
        context.progress(f"{len(ranks)} layers now have the ranks {ranks}")
        used = {name for node in nodes for name in node.input}
        kept = [tensor for tensor in (*graph.initializer, *factors) if tensor.name in used]
        graph.CopyFrom(helper.make_graph(nodes, graph.name, graph.input, graph.output, kept))
        return context.write_onnx(proto.SerializeToString(deterministic=True), {"layers_factored": len(ranks)})
