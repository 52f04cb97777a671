"""What runs inside the pods. A training script of one's own needs three functions of it:

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
    """The data source of the TrainingJob with this name: float32 inputs [N, ...], int64 targets [N], class count.

    Raises KeyError naming the sources that there are.
    """
    import os

    from slipway.runtime.datasets import read_arrays, source_path

    return read_arrays(source_path(name, os.environ))


def device() -> torch.device:
    """The device of this rank: the GPU of its LOCAL_RANK, or the CPU."""
    import os

    from slipway.runtime.distributed import local_device

    return local_device(os.environ)


def save(
    model: torch.nn.Module,
    example_inputs: torch.Tensor | Sequence[torch.Tensor],
    *,
    metrics: Mapping[str, float] | None = None,
    factory: str | None = None,
    args: Mapping[str, Any] | None = None,
) -> None:
    """Leave the trained model; Slipway makes an artifact of it when the training has ended well.

    model: float32; what DistributedDataParallel and torch.compile put around it is taken off.
    example_inputs: one tensor, or one for each argument of forward, each [N, ...] with N of 2 or more.
    metrics: at most 12 finite numbers for the TrainingJob's status.
    factory: `module:callable` that builds the model before its weights are loaded. Absent: the model's own class,
    whose code travels with the model (the script and what it imported from beside itself).
    args: keyword arguments of factory or class, as JSON; not needed where all have defaults.

    Call it on every rank: only rank 0 writes. A model that cannot be built anew that way is exported to ONNX instead,
    and a line in the log says why. Raises ArtifactError where factory or args were given and do not build the model,
    and for weights that are sharded, not float32, or hold NaN.
    """
    import os

    from slipway.runtime.saving import save_model

    save_model(model, example_inputs, os.environ, metrics=metrics, factory=factory, args=args)
