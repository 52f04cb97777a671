"""prune-structured: whole channels of linear and convolution layers go, so the module itself becomes smaller.

Which layers must lose the same channels is found by dependency graph (Fang et al., "DepGraph: Towards Any Structural
Pruning", CVPR 2023); of each such group the channels of least L2 norm go.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from slipway.sdk import Artifact, Context, PluginError, State

if TYPE_CHECKING:
    import torch
    from torch import nn


class Recovery(BaseModel):
    """Training that follows the cut."""

    model_config = ConfigDict(extra="forbid")

    epochs: int = Field(default=10, ge=0, le=10_000, description="Passes over the training data; 0 for no recovery.")
    lr: float = Field(default=1e-3, gt=0, le=10, description="Learning rate of Adam.")
    batch_size: int = Field(default=32, ge=1, le=100_000, description="Samples a step.")
    teacher: bool = Field(
        default=False,
        description="Also learn from the dense model's outputs. It did not beat labels alone on small classifiers.",
    )
    temperature: float = Field(default=2.0, gt=0, le=100, description="Softens the teacher's outputs.")


class PruneParams(BaseModel):
    """How much goes, and how the rest recovers."""

    model_config = ConfigDict(extra="forbid")

    ratio: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="Share of channels removed from every layer but those that make the output.",
    )
    round_to: int = Field(
        default=8, ge=1, le=1024, description="Layers keep a multiple of so many channels, where they have that many."
    )
    recover: Recovery = Field(default_factory=Recovery, description="How the channels that stay are trained again.")


class PruneStructured:
    """The pruned module is stored as weights alone: its factory builds it, and its layers take the weights' widths."""

    name = "prune-structured"
    version = "1.0.0"
    description = "Remove whole channels of linear and convolution layers by their norm, then fine-tune."
    consumes = State.MODULE
    produces = State.MODULE
    conversion = False
    needs_data = True
    params = PruneParams

    def run(self, model: Artifact, params: PruneParams, context: Context) -> Artifact:
        """Raises PluginError for a module that has no channels to lose, or does not run without them."""
        module = context.load_module(model)
        before = size(module)
        try:
            prune(module, examples(model, context), params.ratio, params.round_to)
        except PluginError:
            raise
        except Exception as error:
            raise PluginError(f"{self.name}: the module cannot be pruned: {error}") from error
        after = size(module)
        context.progress(f"{before} parameters became {after}")
        recover = params.recover
        metrics: dict[str, float] = {}
        if recover.epochs:
            metrics |= context.fit(
                module,
                epochs=recover.epochs,
                learning_rate=recover.lr,
                batch_size=recover.batch_size,
                teacher=context.load_module(model) if recover.teacher else None,
                temperature=recover.temperature,
            )
        return context.save_module(
            module, model, {**metrics, "parameters": float(after), "parameters_before": float(before)}
        )


def prune(module: nn.Module, inputs: tuple[torch.Tensor, ...], ratio: float, round_to: int) -> None:
    """Remove the share of channels in place. Raises PluginError where none can go, or the outputs change shape."""
    import torch_pruning

    refuse(module)
    shapes = output_shapes(module, inputs)
    graph = torch_pruning.DependencyGraph().build_dependency(module, example_inputs=inputs)
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    roots = [torch_pruning.ops.TORCH_CONV, torch_pruning.ops.TORCH_LINEAR]
    cuts = []
    for group in graph.get_all_groups(ignored_layers=output_layers(graph), root_module_types=roots):
        scores, parts = importance(group), channel_groups(group)
        if scores is None:
            continue
        # A grouped convolution or normalisation loses the same channels of each of its groups.
        scores = scores.view(parts, -1).mean(dim=0)
        count = len(scores) - kept(len(scores), ratio, round_to, parts)
        lost = [int(i) for i in scores.argsort(stable=True)[:count]]
        indices = sorted(i + part * len(scores) for part in range(parts) for i in lost)
        if len(together(graph, group, indices)) > len(indices):
            indices = joined_least(graph, group, importance(group).tolist(), len(indices))
        if indices:
            cuts.append((group[0].dep.target.module, group[0].dep.handler, indices))
    if not cuts:
        raise PluginError("prune-structured: no layer has channels to lose; lower round_to or leave this step out")
    for layer, cut, indices in cuts:
        graph.get_pruning_group(layer, cut, indices).prune()
    try:
        left = output_shapes(module, inputs)
    except Exception as error:
        raise PluginError(f"prune-structured: the module does not run with fewer channels: {error}") from error
    if left != shapes:
        raise PluginError(f"prune-structured: the outputs' shapes changed from {shapes} to {left}")
    for parameter in module.parameters():
        parameter.grad = None


def together(graph: Any, group: Any, indices: list[int]) -> list[int]:
    """These channels of the group's first layer, and those of it that go with them: a gate of a chunk has a partner."""
    first = group[0].dep
    whole = graph.get_pruning_group(first.target.module, first.handler, indices)
    same = [found for dep, found in whole if dep.target is first.target and dep.handler == first.handler]
    return sorted({int(i) for found in same for i in found})


def joined_least(graph: Any, group: Any, scores: list[float], count: int) -> list[int]:
    """At most so many channels of least score, counting those that can only go together as such."""
    joined = {tuple(together(graph, group, [i])) for i in range(len(scores))}
    lost: list[int] = []
    for channels in sorted(joined, key=lambda each: (sum(scores[i] for i in each) / len(each), each)):
        if len(lost) + len(channels) <= count:
            lost += channels
    return sorted(lost)


def kept(channels: int, ratio: float, round_to: int, parts: int = 1) -> int:
    """Channels that stay of so many (in each of so many groups): rounded up, at least one and at most all.

    The layer as a whole keeps a multiple of round_to where it has that many channels.
    """
    unit = math.lcm(round_to, parts) // parts
    wanted = max(1, math.ceil(channels * (1 - ratio) - 1e-9))
    return min(channels, math.ceil(wanted / unit) * unit)


def refuse(module: nn.Module) -> None:
    """Raises PluginError for layers whose channels mean more than their number, such as heads and gates."""
    from torch import nn

    for name, layer in module.named_modules():
        if isinstance(layer, nn.MultiheadAttention | nn.RNNBase):
            raise PluginError(
                f"prune-structured: {name or 'the module'} is a {type(layer).__name__}, which cannot lose channels;"
                " it takes modules of linear, convolution and normalisation layers"
            )


def output_layers(graph: Any) -> list[nn.Module]:
    """The layers whose channels are the module's outputs: the last linear or convolution on every way to them."""
    from torch_pruning.ops import OPTYPE

    makers = {OPTYPE.CONV, OPTYPE.LINEAR, OPTYPE.EMBED, OPTYPE.PARAMETER, OPTYPE.LSTM, OPTYPE.MHA}
    waiting = [node for node in graph.module2node.values() if not node.outputs]
    seen, found = set(waiting), []
    while waiting:
        node = waiting.pop()
        if node.type in makers:
            found.append(node.module)
            continue
        fresh = [each for each in node.inputs if each not in seen]
        seen.update(fresh)
        waiting.extend(fresh)
    return found


def channel_groups(group: Any) -> int:
    """Into how many groups the layers of the group divide their channels: 1, or a common multiple."""
    parts = 1
    for dependency, _ in group:
        layer = dependency.target.module
        divided = getattr(layer, "groups", getattr(layer, "num_groups", 1)) if hasattr(layer, "weight") else 1
        if divided not in (1, getattr(layer, "out_channels", 1)):
            parts = math.lcm(parts, divided)
    return parts


def examples(model: Artifact, context: Context) -> tuple[torch.Tensor, ...]:
    """Two samples of the training data where the model takes one input, else made up by the manifest."""
    import torch

    inputs = model.content.inputs
    if len(inputs) == 1:
        return (torch.from_numpy(context.data().inputs[:2]).to(context.device),)
    return tuple(
        torch.ones(2, *(8 if n < 0 else n for n in spec.shape), dtype=getattr(torch, spec.dtype)).to(context.device)
        for spec in inputs
    )


def output_shapes(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[tuple[int, ...]]:
    """Shapes of all outputs."""
    import torch

    with torch.no_grad():
        outputs = module(*inputs)
    return [tuple(t.shape) for t in ([outputs] if isinstance(outputs, torch.Tensor) else outputs)]


def size(module: nn.Module) -> int:
    """Parameters of the module."""
    return sum(parameter.numel() for parameter in module.parameters())
