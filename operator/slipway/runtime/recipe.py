"""Training by configuration alone: a classifier under DistributedDataParallel, on every rank."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from slipway.api.entrypoint import Recipe
from slipway.api.errors import SpecError
from slipway.api.tasks import DATA_ENV
from slipway.runtime.datasets import source_path
from slipway.runtime.determinism import make_deterministic
from slipway.runtime.modules import build, run
from slipway.runtime.saving import save_model
from slipway.runtime.training import (
    Epoch,
    Loss,
    Ranks,
    Samples,
    accuracy,
    local_device,
    make_optimizer,
    process_group,
    train_epoch,
)

FIELD = "spec.entrypoint.recipe"


def train(recipe: Recipe, environment: Mapping[str, str] = os.environ) -> None:
    """Train on the data source `train` and save the model in the output folder, with its metrics.

    metrics: loss and train_accuracy of the last epoch; accuracy on the data source `test` if there is one.
    Raises SpecError for errors in the recipe.
    """
    make_deterministic(recipe.seed, strict=False)
    ranks, device = Ranks.from_environment(environment), local_device(environment)
    samples = Samples.read(source_path("train", environment))
    module = build(recipe.model.factory, recipe.model.args, field=f"{FIELD}.model").to(device)
    example, _ = samples.batch(torch.arange(2), device)
    check_scores(module, example, samples.classes)
    optimizer = make_optimizer(recipe.optimizer.name, recipe.optimizer.args, module, f"{FIELD}.optimizer")
    loss = loss_of(recipe.loss)
    if ranks.rank == 0:
        parameters = sum(parameter.numel() for parameter in module.parameters())
        print(
            f"{parameters:,} parameters, {len(samples):,} samples, {ranks.world_size} ranks on {device.type}",
            flush=True,
        )
    with process_group(device):
        parallel = DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)
        torch.manual_seed(recipe.seed + 1 + ranks.rank)  # dropout differs between ranks, initial weights do not
        shuffling = torch.Generator().manual_seed(recipe.seed)
        epoch = Epoch(0.0, 0.0)
        for number in range(1, recipe.epochs + 1):
            started = time.monotonic()
            order = torch.randperm(len(samples), generator=shuffling)
            epoch = train_epoch(parallel, optimizer, loss, samples, order, recipe.batch_size, device, ranks)
            if ranks.rank == 0:
                print(progress(number, recipe.epochs, epoch, time.monotonic() - started), flush=True)
    if ranks.rank == 0:
        metrics = {"loss": epoch.loss, "train_accuracy": epoch.accuracy}
        if "test" in json.loads(environment[DATA_ENV]):
            metrics["accuracy"] = accuracy(module, Samples.read(source_path("test", environment)), device)
            print(f"accuracy on test: {metrics['accuracy']:.4f}", flush=True)
        save_model(module, example, environment, metrics=metrics, factory=recipe.model.factory, args=recipe.model.args)


def progress(number: int, epochs: int, epoch: Epoch, seconds: float) -> str:
    """Return a line of the log: `epoch 3/10  loss 0.2134  accuracy 0.9548  1.2 s`."""
    return f"epoch {number}/{epochs}  loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.4f}  {seconds:.1f} s"


def loss_of(name: str) -> Loss:
    """Return the loss function of that name in torch.nn.functional, summed over samples."""
    function: Any = getattr(functional, name)

    def summed(_inputs: torch.Tensor, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = function(outputs, targets, reduction="sum")
        return result

    return summed


def check_scores(module: nn.Module, example: torch.Tensor, classes: int) -> None:
    """Raise SpecError if the model does not take the data, or has not one score for each class."""
    field = f"{FIELD}.model.args"
    try:
        scores = run(module, (example,))[0]
    except (RuntimeError, ValueError, TypeError) as error:
        shape = ", ".join(str(size) for size in example.shape[1:])
        raise SpecError(field, f"the model does not take samples of shape [{shape}]: {error}", "change them") from error
    if scores.dim() != 2 or scores.shape[1] != classes:
        raise SpecError(
            field,
            f"the model returns outputs of shape {list(scores.shape[1:])}, the data has {classes} classes",
            f"give the last layer {classes} outputs",
        )
