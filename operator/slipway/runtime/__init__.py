"""Code that runs inside the pods. A training script of your own needs three functions of it:

    inputs = slipway.runtime.data("train").inputs     # the data source of that name, as numpy arrays
    device = slipway.runtime.device()                 # this rank's
    slipway.runtime.save(model, example_inputs)       # the trained model; rank 0 writes, the others return

Importing this package costs nothing: torch is imported when a function needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from slipway.sdk.plugin import Arrays

__all__ = ["data", "device", "save"]


def data(name: str = "train") -> Arrays:
    """Return the data source of the TrainingJob with this name: float32 inputs [N, ...], int64 targets [N], class
    count.

    Raises KeyError with the names that exist.
    """
    import os

    from slipway.runtime.datasets import read_arrays, source_path

    return read_arrays(source_path(name, os.environ))


def device() -> torch.device:
    """Return the device of this rank: the GPU of its LOCAL_RANK, or the CPU."""
    import os

    from slipway.runtime.training import local_device

    return local_device(os.environ)


def save(
    model: torch.nn.Module,
    example_inputs: torch.Tensor | Sequence[torch.Tensor],
    *,
    metrics: Mapping[str, float] | None = None,
    factory: str | None = None,
    args: Mapping[str, Any] | None = None,
) -> None:
    """Save the trained model; Slipway makes an artifact of it when the training has succeeded.

    model: float32; wrappers of DistributedDataParallel and torch.compile are removed.
    example_inputs: one tensor, or one for each argument of forward, each [N, ...] with N >= 2.
    metrics: at most 12 finite numbers for the TrainingJob's status.
    factory: `module:callable` that builds the model before its weights are loaded. Absent: the model's own class,
    whose code is saved with the model (the script, and the files that it imported from its folder).
    args: keyword arguments of factory or class, as JSON; not needed if all have defaults.

    Call it on every rank: only rank 0 writes. A model that cannot be built again in this way is exported to ONNX
    instead, and the log has the reason. Raises ArtifactError if factory or args are given and do not build the model,
    and for weights that are sharded, not float32, or have NaN.
    """
    import os

    from slipway.runtime.saving import save_model

    save_model(model, example_inputs, os.environ, metrics=metrics, factory=factory, args=args)
