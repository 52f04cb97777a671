"""prune-structured: remove whole channels of linear and convolution layers, so the module itself becomes smaller.

A dependency graph finds the layers that must lose the same channels (Fang et al., "DepGraph: Towards Any Structural
Pruning", CVPR 2023); in each such group the channels of least L2 norm are removed.
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
    """Fine-tuning after the pruning."""

    model_config = ConfigDict(extra="forbid")

    epochs: int = Field(default=10, ge=0, le=10_000, description="Passes over the training data; 0 for no fine-tuning.")
    lr: float = Field(default=1e-3, gt=0, le=10, description="Learning rate of Adam.")
    batch_size: int = Field(default=32, ge=1, le=100_000, description="Number of samples in one optimizer step.")
    teacher: bool = Field(
        default=False,
        description="If true, also learn from the unpruned model's outputs. It did not beat labels alone in tests.",
    )
    temperature: float = Field(default=2.0, gt=0, le=100, description="Temperature that softens the teacher's outputs.")


class PruneParams(BaseModel):
    """Amount of pruning, and fine-tuning after it."""

    model_config = ConfigDict(extra="forbid")

    ratio: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="Fraction of channels that is removed from every layer except those that make the output.",
    )
    round_to: int = Field(
        default=8,
        ge=1,
        le=1024,
        description="Layers keep a multiple of this number of channels, if they have that many.",
    )
    recover: Recovery = Field(default_factory=Recovery, description="Fine-tuning of the channels that stay.")


class PruneStructured:
    """Pruning of a module. Only weights are stored: its factory builds it, and its layers take the weights' widths."""

    name = "prune-structured"
    version = "1.0.0"
    description = "Remove whole channels of linear and convolution layers by their norm, then fine-tune."
    consumes = State.MODULE
    produces = State.MODULE
    conversion = False
    needs_data = True
    params = PruneParams

    def run(self, model: Artifact, params: PruneParams, context: Context) -> Artifact:
        """Prune and fine-tune. Raises PluginError for a module without removable channels, or that fails without
        them."""
        module = context.load_module(model)
        before = parameter_count(module)
        try:
            prune(module, examples(model, context), params.ratio, params.round_to)
        except PluginError:
            raise
        except Exception as error:
            raise PluginError(f"{self.name}: the module cannot be pruned: {error}") from error
        after = parameter_count(module)
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
    """Remove the fraction of channels in place. Raises PluginError if none can go, or the outputs change shape."""
    import torch_pruning

    refuse_unsupported(module)
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
        count = len(scores) - channels_to_keep(len(scores), ratio, round_to, parts)
        lost = [int(i) for i in scores.argsort(stable=True)[:count]]
        indices = sorted(i + part * len(scores) for part in range(parts) for i in lost)
        if len(joined_channels(graph, group, indices)) > len(indices):
            indices = least_joined_channels(graph, group, importance(group).tolist(), len(indices))
        if indices:
            cuts.append((group[0].dep.target.module, group[0].dep.handler, indices))
    if not cuts:
        raise PluginError("prune-structured: no layer has channels to remove; lower round_to, or remove this step")
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


def joined_channels(graph: Any, group: Any, indices: list[int]) -> list[int]:
    """Return these channels of the group's first layer, and those that go with them: a gate of a chunk has a
    partner."""
    first = group[0].dep
    whole = graph.get_pruning_group(first.target.module, first.handler, indices)
    same = [found for dep, found in whole if dep.target is first.target and dep.handler == first.handler]
    return sorted({int(i) for found in same for i in found})


def least_joined_channels(graph: Any, group: Any, scores: list[float], count: int) -> list[int]:
    """Return at most `count` channels of least score; channels that can only go together are counted together."""
    joined = {tuple(joined_channels(graph, group, [i])) for i in range(len(scores))}
    lost: list[int] = []
    for channels in sorted(joined, key=lambda each: (sum(scores[i] for i in each) / len(each), each)):
        if len(lost) + len(channels) <= count:
            lost += channels
    return sorted(lost)


def channels_to_keep(channels: int, ratio: float, round_to: int, parts: int = 1) -> int:
    """Return the number of channels that stay (in each of the groups): rounded up, at least one and at most all.

    The layer as a whole keeps a multiple of round_to if it has that many channels.
    """
    unit = math.lcm(round_to, parts) // parts
    target = max(1, math.ceil(channels * (1 - ratio) - 1e-9))
    return min(channels, math.ceil(target / unit) * unit)


def refuse_unsupported(module: nn.Module) -> None:
    """Raise PluginError for layers whose channels cannot be removed one by one, such as attention heads and gates."""
    from torch import nn

    for name, layer in module.named_modules():
        if isinstance(layer, nn.MultiheadAttention | nn.RNNBase):
            raise PluginError(
                f"prune-structured: {name or 'the module'} is a {type(layer).__name__}, whose channels must stay;"
                " it takes modules of linear, convolution and normalisation layers"
            )


def output_layers(graph: Any) -> list[nn.Module]:
    """Return the layers whose channels are the module's outputs: the last linear or convolution on every path to
    them."""
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
    """Return the number of groups into which the layers divide their channels: 1, or a common multiple."""
    parts = 1
    for dependency, _ in group:
        layer = dependency.target.module
        divided = getattr(layer, "groups", getattr(layer, "num_groups", 1)) if hasattr(layer, "weight") else 1
        if divided not in (1, getattr(layer, "out_channels", 1)):
            parts = math.lcm(parts, divided)
    return parts


def examples(model: Artifact, context: Context) -> tuple[torch.Tensor, ...]:
    """Return two samples of the training data if the model has one input, else tensors of ones by the manifest."""
    import torch

    inputs = model.content.inputs
    if len(inputs) == 1:
        return (torch.from_numpy(context.data().inputs[:2]).to(context.device),)
    return tuple(
        torch.ones(2, *(8 if n < 0 else n for n in spec.shape), dtype=getattr(torch, spec.dtype)).to(context.device)
        for spec in inputs
    )


def output_shapes(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[tuple[int, ...]]:
    """Return the shapes of all outputs."""
    import torch

    with torch.no_grad():
        outputs = module(*inputs)
    return [tuple(t.shape) for t in ([outputs] if isinstance(outputs, torch.Tensor) else outputs)]


def parameter_count(module: nn.Module) -> int:
    """Return the number of parameters of the module."""
    return sum(parameter.numel() for parameter in module.parameters())
