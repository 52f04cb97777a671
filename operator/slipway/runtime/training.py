"""One epoch of training a classifier, on one process or many: the same batches, whatever the number of ranks."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from slipway.api.errors import SlipwayError, SpecError
from slipway.runtime.datasets import read_stored
from slipway.runtime.distributed import Ranks
from slipway.runtime.modules import check_arguments
from slipway.sdk.artifact import Artifact

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(inputs [n, ...], outputs [n, classes], targets [n]) -> the sum of the samples' losses, a scalar."""


@dataclass(frozen=True, slots=True)
class Samples:
    """A data set in memory as it is stored; only a batch is ever scaled to float32."""

    inputs: torch.Tensor
    targets: torch.Tensor
    scale: float
    classes: int

    @classmethod
    def read(cls, dataset: Artifact | Path) -> Samples:
        """See `slipway.runtime.datasets.read_stored`."""
        inputs, targets, info = read_stored(dataset)
        return cls(torch.from_numpy(inputs), torch.from_numpy(targets), info.scale, info.classes)

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, indices: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Float32 inputs and int64 targets on the device."""
        inputs = self.inputs[indices].to(device).to(torch.float32) * self.scale
        return inputs, self.targets[indices].to(device)


@dataclass(frozen=True, slots=True)
class Share:
    """One rank's part of a global batch.

    total: samples of the batch over all ranks. counted: how many of the indices are this rank's. Those behind them are
    samples of other batches, computed for nothing: where the batch has fewer samples than there are ranks, because
    collectives need every rank, and beside a single one, because batch normalisation needs two.
    """

    indices: torch.Tensor
    total: int
    counted: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """Means over all samples of an epoch, as the weights moved."""

    loss: float
    accuracy: float


def shares(order: torch.Tensor, batch_size: int, ranks: Ranks) -> Iterator[Share]:
    """This rank's part of each global batch. Over all ranks, every sample is counted once."""
    wanted = 2 if batch_size >= 2 * ranks.world_size else 1  # whole batches of one sample a rank are the user's choice
    for batch in torch.split(order, batch_size):
        own = batch[ranks.rank :: ranks.world_size]
        filled = own if len(own) >= wanted else torch.cat((own, order[: 2 - len(own)]))
        yield Share(filled, len(batch), len(own))


def train_epoch(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    samples: Samples,
    order: torch.Tensor,
    batch_size: int,
    device: torch.device,
    ranks: Ranks,
) -> Epoch:
    """Move the weights once over all samples in the given order; batch_size is that of all ranks together.

    The gradient is that of the mean loss over the global batch, an uneven last one included: DistributedDataParallel
    averages over ranks, so each rank's sum is divided by the batch's samples and multiplied by the ranks.
    Raises SlipwayError where the loss is no longer a number.
    """
    module.train()
    totals = torch.zeros(2, dtype=torch.float64, device=device)
    for share in shares(order, batch_size, ranks):
        inputs, targets = samples.batch(share.indices, device)
        totals += step(module, optimizer, loss, inputs, targets, share, ranks)
    if ranks.world_size > 1:
        dist.all_reduce(totals)
    summed, right = (totals / len(order)).tolist()
    if not math.isfinite(summed):
        raise SlipwayError(f"the loss is {summed}: lower the learning rate")
    return Epoch(summed, right)


def accuracy(module: nn.Module, samples: Samples, device: torch.device, batch_size: int = 1024) -> float:
    """Share of samples whose highest score is their class. Leaves the module in evaluation mode."""
    module.eval()
    right = 0
    with torch.no_grad():
        for indices in torch.split(torch.arange(len(samples)), batch_size):
            inputs, targets = samples.batch(indices, device)
            right += int((scores(module(inputs)).argmax(dim=1) == targets).sum())
    return right / len(samples)


def scores(outputs: Any) -> torch.Tensor:
    """One score a class and sample: the only output of a classifier, or its first."""
    found: torch.Tensor = outputs[0] if isinstance(outputs, tuple | list) else outputs
    return found


def make_optimizer(
    name: str, args: Mapping[str, Any], module: nn.Module, field: str = "optimizer"
) -> torch.optim.Optimizer:
    """A torch.optim optimizer by its name in any case. Raises SpecError naming what is close, or the arguments."""
    known = {
        key.lower(): value
        for key, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer) and value is not torch.optim.Optimizer
    }
    if (kind := known.get(name.lower())) is None:
        close = difflib.get_close_matches(name.lower(), known, n=3) or sorted(known)
        raise SpecError(f"{field}.name", f"torch.optim has no {name!r}", f"did you mean {', '.join(close)}?")
    check_arguments(kind, args, f"{field}.args", f"torch.optim.{kind.__name__}", given=1)
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in args.items()}
    try:
        return kind(module.parameters(), **plain)
    except (ValueError, TypeError) as error:
        raise SpecError(
            f"{field}.args", f"torch.optim.{kind.__name__} refuses them ({error})", "change them"
        ) from error


def step(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Loss,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    share: Share,
    ranks: Ranks,
) -> torch.Tensor:
    """One step of the optimizer. Returns this rank's summed loss and right answers, before the step."""
    found: list[torch.Tensor] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        outputs = scores(module(inputs))
        kept = slice(share.counted or None)  # no loss is asked of an empty batch: it counts nothing instead
        summed = loss(inputs[kept], outputs[kept], targets[kept]) * min(share.counted, 1)
        mean = summed * (ranks.world_size / share.total)
        mean.backward()  # type: ignore[no-untyped-call]
        right = (outputs.detach().argmax(dim=1) == targets)[: share.counted].sum()
        found.append(torch.stack((summed.detach().double(), right.double())))
        if isinstance(optimizer, torch.optim.LBFGS) and ranks.world_size > 1:  # it decides by the loss: all alike
            agreed = mean.detach().clone()
            dist.all_reduce(agreed)
            return agreed / ranks.world_size
        return mean

    optimizer.step(closure)  # type: ignore[arg-type]
    return found[0]
