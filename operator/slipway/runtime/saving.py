"""Saving of a trained model (`slipway.runtime.save`) to the output folder, from which `seal` makes an artifact."""

from __future__ import annotations

import copy
import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError, SlipwayError
from slipway.api.tasks import OUTPUT_ENV
from slipway.runtime.codefiles import NotPortable, Source, modules_restored, source_of
from slipway.runtime.modules import export, read_weights, rebuild, same_outputs, specs, weights_of
from slipway.sdk.manifest import (
    CODE_DIR,
    MANIFEST,
    MODEL_FILE,
    ONNX_FILE,
    Content,
    Manifest,
    ModuleSource,
    Provenance,
    TensorSpec,
)

MAX_METRICS = 12


def save_model(
    model: nn.Module,
    example_inputs: torch.Tensor | Sequence[torch.Tensor],
    environment: Mapping[str, str],
    *,
    metrics: Mapping[str, float] | None = None,
    factory: str | None = None,
    args: Mapping[str, Any] | None = None,
) -> None:
    """See `slipway.runtime.save`."""
    checked = checked_metrics(metrics or {})
    _refuse_sharded(model)
    if int(environment.get("RANK", "0")) != 0:
        return
    if OUTPUT_ENV not in environment:
        raise ArtifactError(f"{OUTPUT_ENV} is not set; a TrainingJob sets it to the output folder")
    output = Path(environment[OUTPUT_ENV])
    module = _unwrap(model)
    examples = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else tuple(example_inputs)
    if any(len(tensor) < 2 for tensor in examples):
        raise ArtifactError("example_inputs: give 2 samples or more, so that the batch dimension is dynamic")
    _check_types(module, examples)
    _check_numbers(module)
    inputs, outputs = specs(module, examples)
    _clear(output)
    try:
        source = _save_module(module, examples, output, factory, args)
    except SlipwayError as error:
        if factory is not None or args is not None:
            raise ArtifactError(f"the given factory and args do not build the model: {error}") from error
        print(f"saving the model as ONNX, because it cannot be built again: {error}", flush=True)
        _clear(output)
        frozen = copy.deepcopy(module).eval().cpu()  # the caller may continue to train
        export(frozen, [tensor.cpu() for tensor in examples], output / ONNX_FILE)
        content = Content(state=State.ONNX)
    else:
        content = _content(source, inputs, outputs)
    manifest = Manifest(content=content, provenance=Provenance(metrics=checked))
    (output / MANIFEST).write_text(json.dumps(manifest.to_wire(), indent=1))  # last: it marks the rest as complete


def checked_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics as plain numbers. Raises ValueError with the name of one that is not finite."""
    if len(metrics) > MAX_METRICS:
        raise ValueError(f"metrics: {len(metrics)} are more than {MAX_METRICS}")
    plain = {str(name): float(value) for name, value in metrics.items()}
    if bad := [name for name, value in plain.items() if not math.isfinite(value) or len(name) > 48]:
        raise ValueError(f"metrics[{bad[0]!r}] is not a finite number with a name of at most 48 characters")
    return plain


def _refuse_sharded(model: nn.Module) -> None:
    """Raise ArtifactError for a sharded model, on every rank: rank 0 alone would wait for shards until it times out."""
    wrapped = any(type(part).__name__ == "FullyShardedDataParallel" for part in model.modules())
    if wrapped or any(hasattr(parameter, "device_mesh") for parameter in model.parameters()):
        raise ArtifactError(
            "the model is sharded over the ranks; gather its weights on all of them"
            " (torch.distributed.checkpoint.state_dict.get_model_state_dict with full_state_dict), load them into a"
            " model that is not sharded, and save that"
        )


def _unwrap(model: nn.Module) -> nn.Module:
    """Return the module inside DistributedDataParallel and torch.compile, in any order."""
    while True:
        if isinstance(model, DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):  # torch.compile's name for it
            model = inner
        else:
            return model


def _check_types(module: nn.Module, examples: Sequence[torch.Tensor]) -> None:
    named = [*module.named_parameters(), *(("example_inputs", tensor) for tensor in examples)]
    for name, tensor in named:
        if tensor.is_floating_point() and tensor.dtype is not torch.float32:
            raise ArtifactError(
                f"{name} is {tensor.dtype}: data sets, steps and factories are float32;"
                " save model.float() with float32 example_inputs"
            )


def _check_numbers(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if not parameter.isfinite().all():
            raise ArtifactError(f"{name} has NaN or infinity: the training diverged; lower the learning rate")


def _save_module(
    module: nn.Module,
    examples: Sequence[torch.Tensor],
    output: Path,
    factory: str | None,
    args: Mapping[str, Any] | None,
) -> ModuleSource:
    """Write weights and code, and check that they build the same model. Raises SlipwayError if they do not."""
    builder = type(module) if factory is None else _import_factory(factory)
    code = source_of(builder)
    name = code.module if code else builder.__module__
    source = ModuleSource(factory=f"{name}:{builder.__qualname__}", args=_plain(args or {}), code=code is not None)
    data = weights_of(module)
    (output / MODEL_FILE).write_bytes(data)
    _copy(code, output / CODE_DIR)
    try:
        with modules_restored():
            again = rebuild(source, read_weights(data), output / CODE_DIR).to(examples[0].device)
            same = same_outputs(module, again, examples)
    except SlipwayError:
        raise
    except Exception as error:
        raise NotPortable(f"{source.factory} fails with {type(error).__name__}: {error}") from error
    if not same:
        raise NotPortable(f"{source.factory} builds a model with other outputs; pass args or factory")
    return source


def _plain(args: Mapping[str, Any]) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(args), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise NotPortable(f"args: not JSON ({error}); use numbers, strings, lists and maps") from error
    return plain


def _import_factory(factory: str) -> Any:
    module, _, attribute = factory.partition(":")
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    script = Path(getattr(main, "__file__", None) or "").stem
    try:
        return getattr(main if module in (script, getattr(spec, "name", None)) else import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise NotPortable(f"{factory} cannot be imported ({error})") from error


def _content(source: ModuleSource, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Content:
    return Content(state=State.MODULE, module=source, inputs=inputs, outputs=outputs)


def _copy(code: Source | None, target: Path) -> None:
    for name, path in code.files.items() if code else ():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)


def _clear(output: Path) -> None:
    """Remove the files of an earlier call; other files are the user's."""
    output.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST, MODEL_FILE, ONNX_FILE):
        (output / name).unlink(missing_ok=True)
    shutil.rmtree(output / CODE_DIR, ignore_errors=True)
