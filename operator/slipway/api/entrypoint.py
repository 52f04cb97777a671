"""What a training run executes: a script, a module, or a recipe that needs no code."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from slipway.api.base import Model, Open, exactly_one

Argument = Annotated[str, Field(max_length=1024)]
Factory = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$", max_length=256)]
"""`package.module:callable`."""


class ModelFactory(Model):
    """How a torch module is built before its weights are loaded."""

    factory: Factory = "slipway.runtime.models:mlp"
    """`package.module:callable` that returns a torch.nn.Module."""
    args: Open = Field(default_factory=dict)
    """Keyword arguments of the callable, as JSON. The whole entry point has at most 224 KiB."""


class OptimizerChoice(Model):
    """Any optimizer of torch.optim."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z]+$", max_length=32)] = "adam"
    """Name of the class, in any case: sgd, adam, adamw, rmsprop, ..."""
    args: Open = Field(default_factory=dict)
    """Keyword arguments of the class, as `{lr: 0.001}`."""


class Recipe(Model):
    """A training run by configuration alone: a classifier, trained by DistributedDataParallel."""

    model: ModelFactory
    """The module to train."""
    optimizer: OptimizerChoice = Field(default_factory=OptimizerChoice)
    """How the weights move."""
    loss: Literal["cross_entropy", "nll_loss", "multi_margin_loss"] = "cross_entropy"
    """A function of torch.nn.functional on (outputs, class indices); cross_entropy is sparse categorical."""
    epochs: int = Field(default=10, ge=1, le=100_000)
    """Passes over the training data."""
    batch_size: int = Field(default=32, ge=1, le=1_000_000)
    """Samples a step over all ranks together. 1 is stochastic gradient descent, more is mini-batch."""
    seed: int = Field(default=0, ge=0, le=2_147_483_647)
    """Of initial weights and shuffling; the same seed on the same hardware gives the same artifact."""


class Script(Model):
    """A file that runs under torchrun, unchanged."""

    path: Annotated[str, Field(pattern=r"^/.+\.py$", max_length=512)]
    """Absolute path in the pod: in the image, or on a volume that podTemplate mounts."""
    args: tuple[Argument, ...] = Field(default=(), max_length=64)
    """Its arguments, as the script finds them: `$(NAME)` is not expanded."""


class PythonModule(Model):
    """A Python module that runs under torchrun, as `python -m` would run it."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$", max_length=256)]
    """Its dotted name."""
    args: tuple[Argument, ...] = Field(default=(), max_length=64)
    """Its arguments, as the module finds them: `$(NAME)` is not expanded."""


class Entrypoint(Model):
    """Exactly one of script, module or recipe."""

    script: Script | None = None
    """A file that runs under torchrun."""
    module: PythonModule | None = None
    """A module that runs under torchrun."""
    recipe: Recipe | None = None
    """A training run by configuration alone."""

    rules = (exactly_one("script", "module", "recipe"),)
