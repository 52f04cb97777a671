"""torch modules of artifacts: built by their factory, loaded with weights, written again, and exported to ONNX."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file, save
from torch import nn

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError, SpecError
from slipway.runtime.codefiles import import_code
from slipway.sdk.artifact import Artifact
from slipway.sdk.manifest import CODE_DIR, MODEL_FILE, ModuleSource, TensorSpec

_BATCH_NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)


def load_module(artifact: Artifact) -> nn.Module:
    """Return the module in evaluation mode on the CPU. It imports code in the artifact, so pods that train or compress
    may call it, and pods that decide may not.

    Raises ArtifactError if the artifact is not a module, or the weights do not match the module of its factory.
    """
    source = artifact.content.module
    if artifact.state is not State.MODULE:
        raise ArtifactError(f"{artifact.path} is of state {artifact.state}, not a module")
    if source is None:
        raise ArtifactError(f"the manifest of {artifact.path} has no factory for the module")
    try:
        weights = load_file(artifact.file(MODEL_FILE))
    except SafetensorError as error:
        raise ArtifactError(f"{artifact.path}/{MODEL_FILE}: {error}") from error
    return rebuild(source, weights, artifact.path / CODE_DIR)


def rebuild(source: ModuleSource, weights: Mapping[str, torch.Tensor], code: Path) -> nn.Module:
    """Build the module by its factory, resize it if the source says so, load the weights, set evaluation mode."""
    module = build(source.factory, source.args, code if source.code else None)
    if source.resized:
        resize(module, weights)
    try:
        module.load_state_dict(dict(weights), strict=True)
    except RuntimeError as error:
        raise ArtifactError(f"the weights do not fit what {source.factory} builds: {error}") from error
    return module.eval()


def build(factory: str, args: Mapping[str, Any], code: Path | None = None, field: str = "model") -> nn.Module:
    """Call the factory. Raises SpecError with the field if it does not exist, or does not take the arguments."""
    name, _, attribute = factory.partition(":")
    try:
        module = import_code(code, name) if code else import_module(name)
        call = getattr(module, attribute)
    except (ImportError, AttributeError) as error:
        raise SpecError(
            f"{field}.factory", f"{factory} cannot be imported ({error})", "name a module:callable of the image"
        ) from error
    check_arguments(call, args, f"{field}.args", factory)
    built = call(**args)
    if not isinstance(built, nn.Module):
        raise SpecError(
            f"{field}.factory", f"{factory} returned {type(built).__name__}", "name one that returns a torch.nn.Module"
        )
    return built


def check_arguments(call: Callable[..., Any], args: Mapping[str, Any], field: str, name: str, given: int = 0) -> None:
    """Raise SpecError if the callable does not take these keyword arguments. given: positional ones before them."""
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*([None] * given), **args)
    except TypeError as error:
        names = ", ".join(list(signature.parameters)[given:]) or "none"
        raise SpecError(field, f"{name} does not take them ({error})", f"its arguments are: {names}") from error


def weights_of(module: nn.Module) -> bytes:
    """Return the state as safetensors: equal weights give equal bytes. Tensors that share memory are written each."""
    return save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()})


def read_weights(data: bytes) -> dict[str, torch.Tensor]:
    """Return the weights of the safetensors: the inverse of weights_of."""
    return load(data)


def resize(module: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Give linear, convolution, normalisation and PReLU layers the widths of the pruned weights.

    Raises ArtifactError for a layer of another kind whose shape differs.
    """
    for name, layer in module.named_modules():
        own = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
        new = {key: weights[f"{name}.{key}" if name else key] for key, _ in own if _key(name, key) in weights}
        if all(tensor.shape == new[key].shape for key, tensor in own if key in new):
            continue
        for key, tensor in own:
            if key in new and tensor.shape != new[key].shape:
                resized = torch.empty(new[key].shape, dtype=tensor.dtype)
                if isinstance(tensor, nn.Parameter):
                    setattr(layer, key, nn.Parameter(resized, requires_grad=tensor.requires_grad))
                else:
                    layer.register_buffer(key, resized)
        _set_widths(layer, new, name)


def specs(module: nn.Module, inputs: Sequence[torch.Tensor]) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return names, shapes and types of inputs and outputs, by a run of the module on example inputs [N, ...].

    Raises ArtifactError if an output is not a tensor whose first dimension is the batch.
    """
    outputs = run(module, inputs)
    if any(not isinstance(tensor, torch.Tensor) or tensor.shape[:1] != inputs[0].shape[:1] for tensor in outputs):
        raise ArtifactError("every output of the model must be a tensor whose first dimension is the batch")
    return _named("input", inputs), _named("output", outputs)


def run(module: nn.Module, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return the outputs in evaluation mode, always as a tuple."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            result = module(*inputs)
    finally:
        module.train(training)
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def same_outputs(one: nn.Module, other: nn.Module, inputs: Sequence[torch.Tensor]) -> bool:
    """Return True if two modules give the same outputs, up to rounding."""
    pairs = zip(run(one, inputs), run(other, inputs), strict=False)
    return all(a.shape == b.shape and torch.allclose(a.float(), b.float(), rtol=1e-4, atol=1e-5) for a, b in pairs)


def example(inputs: Sequence[TensorSpec], batch: int = 2) -> tuple[torch.Tensor, ...]:
    """Return inputs of these shapes, from a seed of their own; integers are 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for spec in inputs:
        shape, dtype = (batch, *(abs(size) for size in spec.shape)), getattr(torch, spec.dtype)
        values = torch.rand(shape, generator=generator)
        made.append(values.to(dtype) if dtype.is_floating_point else values.round().to(dtype))
    return tuple(made)


def _key(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _named(name: str, tensors: Sequence[torch.Tensor]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=f"{name}_{place}" if place else name,
            shape=tuple(tensor.shape[1:]),
            dtype=str(tensor.dtype).removeprefix("torch."),
        )
        for place, tensor in enumerate(tensors)
    )


def _set_widths(layer: nn.Module, weights: Mapping[str, torch.Tensor], name: str) -> None:
    """Set the sizes that a layer has besides its tensors."""
    weight = weights.get("weight")
    if isinstance(layer, nn.Linear) and weight is not None:
        layer.out_features, layer.in_features = weight.shape
    elif isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and weight is not None:
        depthwise = layer.groups > 1 and layer.groups == layer.in_channels
        layer.groups = weight.shape[0] if depthwise else layer.groups
        layer.out_channels, layer.in_channels = weight.shape[0], weight.shape[1] * layer.groups
    elif isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d) and weight is not None:
        depthwise = layer.groups > 1 and layer.groups == layer.in_channels
        layer.groups = weight.shape[0] if depthwise else layer.groups
        layer.in_channels, layer.out_channels = weight.shape[0], weight.shape[1] * layer.groups
    elif isinstance(layer, nn.GroupNorm) and weight is not None:
        layer.num_channels = len(weight)
    elif isinstance(layer, nn.PReLU) and weight is not None:
        layer.num_parameters = len(weight)
    elif isinstance(layer, _BATCH_NORMS):
        layer.num_features = next(len(tensor) for tensor in weights.values() if tensor.dim() == 1)
    elif isinstance(layer, nn.LayerNorm) and weight is not None:
        layer.normalized_shape = tuple(weight.shape)
    elif isinstance(layer, nn.Embedding) and weight is not None:
        layer.num_embeddings, layer.embedding_dim = weight.shape
    else:
        raise ArtifactError(f"a layer of type {type(layer).__name__} ({name}) cannot be built in another width")


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
