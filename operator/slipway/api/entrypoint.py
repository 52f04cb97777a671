"""Entry points of a training: a script, a module, or a recipe that needs no code."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.api.base import Model, Open, exactly_one

Argument = Annotated[str, Field(max_length=1024)]
Factory = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$", max_length=256)]
"""`package.module:callable`."""


class ModelFactory(Model):
    """Callable that builds a torch module before its weights are loaded."""

    factory: Factory = "slipway.runtime.models:mlp"
    """Callable that returns a torch.nn.Module, as `package.module:callable`. Default: a multi-layer perceptron. Set it
    to train another architecture; the module must be importable in the pod."""
    args: Open = Field(default_factory=dict)
    """Keyword arguments of the callable, as JSON. Default: none. The whole entry point may have at most 224 KiB."""


class OptimizerChoice(Model):
    """Optimizer of torch.optim."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z]+$", max_length=32)] = "adam"
    """Class name in torch.optim, in any case: sgd, adam, adamw, rmsprop, ... Default: adam."""
    args: Open = Field(default_factory=dict)
    """Keyword arguments of the class, such as `{lr: 0.001}`. Default: none, so torch's own defaults apply."""


class Recipe(Model):
    """Training of a classifier by configuration alone, with DistributedDataParallel. It needs a data source named
    train."""

    model: ModelFactory
    """Module to train."""
    optimizer: OptimizerChoice = Field(default_factory=OptimizerChoice)
    """Optimizer that updates the weights. Default: adam with torch's defaults."""
    loss: Literal["cross_entropy", "nll_loss", "multi_margin_loss"] = "cross_entropy"
    """Loss function of torch.nn.functional on model outputs and class indices. Default: cross_entropy. Set nll_loss for
    a model that returns log-probabilities."""
    epochs: int = Field(default=10, ge=1, le=100_000)
    """Number of passes over the training data. Default: 10."""
    batch_size: int = Field(default=32, ge=1, le=1_000_000)
    """Number of samples in one optimizer step, over all ranks together. Default: 32. It must be at least the number of
    ranks."""
    seed: int = Field(default=0, ge=0, le=2_147_483_647)
    """Seed of the initial weights and of shuffling. Default: 0. The same seed on the same hardware gives the same
    artifact."""


class Script(Model):
    """Python file that torchrun runs unchanged."""

    path: Annotated[str, Field(pattern=r"^/.+\.py$", max_length=512)]
    """Absolute path of the file in the pod: in the image, or on a volume that podTemplate mounts."""
    args: tuple[Argument, ...] = Field(default=(), max_length=64)
    """Arguments of the script, passed as they are: `$(NAME)` is not expanded. Default: none."""


class PythonModule(Model):
    """Python module that torchrun runs, as `python -m` does."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$", max_length=256)]
    """Dotted name of the module."""
    args: tuple[Argument, ...] = Field(default=(), max_length=64)
    """Arguments of the module, passed as they are: `$(NAME)` is not expanded. Default: none."""


class Entrypoint(Model):
    """Code that torchrun starts in every worker process. Set exactly one of script, module and recipe."""

    script: Script | None = None
    """Python file that torchrun runs unchanged."""
    module: PythonModule | None = None
    """Python module that torchrun runs, as `python -m` does."""
    recipe: Recipe | None = None
    """Training of a classifier by configuration alone; it needs no code."""

    rules = (exactly_one("script", "module", "recipe"),)
