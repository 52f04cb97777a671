"""Training of a classifier, on one process or many, with the same batches for any number of ranks; and fine-tuning."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional

from slipway.api.errors import SlipwayError, SpecError
from slipway.runtime.datasets import read_stored
from slipway.runtime.modules import check_arguments
from slipway.sdk.artifact import Artifact

# A peer that hangs without closing its connection is detected after this time (the default is 30 minutes).
COLLECTIVE_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Ranks:
    """The rank of this process, and the world size; rank 0 of 1 outside torchrun."""

    rank: int = 0
    world_size: int = 1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Ranks:
        """Return the ranks by RANK and WORLD_SIZE."""
        return cls(int(environment.get("RANK", "0")), int(environment.get("WORLD_SIZE", "1")))


def local_device(environment: Mapping[str, str]) -> torch.device:
    """Return the GPU of LOCAL_RANK if there is one for each local rank, else the CPU."""
    local_rank = int(environment.get("LOCAL_RANK", "0"))
    local_size = int(environment.get("LOCAL_WORLD_SIZE", "1"))
    if torch.cuda.is_available() and torch.cuda.device_count() >= local_size:
        return torch.device("cuda", local_rank)
    return torch.device("cpu")


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Use a process group: NCCL on GPUs, gloo elsewhere. It is destroyed after success, and left to the end of the
    process after an error.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=COLLECTIVE_TIMEOUT)
    yield
    dist.barrier()
    dist.destroy_process_group()


Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""(inputs [n, ...], outputs [n, classes], targets [n]) -> the sum of the samples' losses, a scalar."""


@dataclass(frozen=True, slots=True)
class Samples:
    """A data set in memory as it is stored; only batches are scaled to float32."""

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
        """Return float32 inputs and int64 targets on the device."""
        inputs = self.inputs[indices].to(device).to(torch.float32) * self.scale
        return inputs, self.targets[indices].to(device)


@dataclass(frozen=True, slots=True)
class RankBatch:
    """One rank's part of a global batch.

    total: samples of the batch over all ranks. num_valid: number of indices, from the first, that are this rank's. The
    others are padding, samples of other batches that are not counted: in a batch with fewer samples than ranks, because
    collectives need every rank, and beside a single sample, because batch normalisation needs two.
    """

    indices: torch.Tensor
    total: int
    num_valid: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """Means over all samples of an epoch, each before its step of the optimizer."""

    loss: float
    accuracy: float


def rank_batches(order: torch.Tensor, batch_size: int, ranks: Ranks) -> Iterator[RankBatch]:
    """Yield this rank's part of each global batch. Over all ranks, every sample is counted once."""
    smallest = 2 if batch_size >= 2 * ranks.world_size else 1  # one sample for each rank is the user's choice
    for batch in torch.split(order, batch_size):
        own = batch[ranks.rank :: ranks.world_size]
        padded = own if len(own) >= smallest else torch.cat((own, order[: 2 - len(own)]))
        yield RankBatch(padded, len(batch), len(own))


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
    """Train on all samples once, in the given order; batch_size is that of all ranks together.

    The gradient is that of the mean loss over the global batch, an uneven last one included: DistributedDataParallel
    averages over ranks, so each rank's sum is divided by the batch's samples and multiplied by the ranks.
    Raises SlipwayError if the loss is not finite.
    """
    module.train()
    totals = torch.zeros(2, dtype=torch.float64, device=device)
    for batch in rank_batches(order, batch_size, ranks):
        inputs, targets = samples.batch(batch.indices, device)
        totals += step(module, optimizer, loss, inputs, targets, batch, ranks)
    if ranks.world_size > 1:
        dist.all_reduce(totals)
    summed, correct = (totals / len(order)).tolist()
    if not math.isfinite(summed):
        raise SlipwayError(f"the loss is {summed}: lower the learning rate")
    return Epoch(summed, correct)


def accuracy(module: nn.Module, samples: Samples, device: torch.device, batch_size: int = 1024) -> float:
    """Return the fraction of samples whose highest score is their class. Leaves the module in evaluation mode."""
    module.eval()
    right = 0
    with torch.no_grad():
        for indices in torch.split(torch.arange(len(samples)), batch_size):
            inputs, targets = samples.batch(indices, device)
            right += int((scores(module(inputs)).argmax(dim=1) == targets).sum())
    return right / len(samples)


def scores(outputs: Any) -> torch.Tensor:
    """Return one score for each class and sample: the only output of a classifier, or its first."""
    found: torch.Tensor = outputs[0] if isinstance(outputs, tuple | list) else outputs
    return found


def make_optimizer(
    name: str, args: Mapping[str, Any], module: nn.Module, field: str = "optimizer"
) -> torch.optim.Optimizer:
    """Return a torch.optim optimizer by its name in any case. Raises SpecError with similar names, or the arguments."""
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
    batch: RankBatch,
    ranks: Ranks,
) -> torch.Tensor:
    """Take one step of the optimizer. Returns this rank's summed loss and number of correct answers, before the
    step."""
    found: list[torch.Tensor] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        outputs = scores(module(inputs))
        kept = slice(batch.num_valid or None)  # an empty batch has the loss of all its padding, times 0
        summed = loss(inputs[kept], outputs[kept], targets[kept]) * min(batch.num_valid, 1)
        mean = summed * (ranks.world_size / batch.total)
        mean.backward()  # type: ignore[no-untyped-call]
        right = (outputs.detach().argmax(dim=1) == targets)[: batch.num_valid].sum()
        found.append(torch.stack((summed.detach().double(), right.double())))
        if (
            isinstance(optimizer, torch.optim.LBFGS) and ranks.world_size > 1
        ):  # it decides by the loss, so every rank needs the same one
            agreed = mean.detach().clone()
            dist.all_reduce(agreed)
            return agreed / ranks.world_size
        return mean

    optimizer.step(closure)  # type: ignore[arg-type]
    return found[0]


def fit(
    module: nn.Module,
    samples: Samples,
    device: torch.device,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    optimizer: str,
    seed: int,
    loss: Loss,
    progress: Callable[[int, Epoch], None],
) -> Epoch:
    """Train the module in place; leaves it in evaluation mode. progress: called after each epoch, from 1.

    Raises SpecError for an optimizer that torch.optim does not have.
    """
    module.to(device).requires_grad_(True)
    torch_optimizer = make_optimizer(optimizer, {"lr": learning_rate}, module)
    torch.manual_seed(seed)
    shuffling = torch.Generator().manual_seed(seed)
    epoch = Epoch(0.0, 0.0)
    for number in range(1, epochs + 1):
        order = torch.randperm(len(samples), generator=shuffling)
        epoch = train_epoch(module, torch_optimizer, loss, samples, order, batch_size, device, Ranks())
        progress(number, epoch)
    module.eval()
    return epoch


def cross_entropy(_inputs: torch.Tensor, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the sparse categorical cross-entropy, summed over samples."""
    return functional.cross_entropy(outputs, targets, reduction="sum")


def distillation(teacher: nn.Module, temperature: float, soft_share: float) -> Loss:
    """Return a loss: cross-entropy with the targets, and Kullback-Leibler divergence from the teacher's softened
    scores.

    Source: Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015; the divergence is multiplied by
    the squared temperature, so that gradients keep their size. soft_share: 0..1, weight of the divergence in the loss.
    """
    teacher.eval().requires_grad_(False)

    def summed(inputs: torch.Tensor, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            soft_targets = functional.softmax(scores(teacher(inputs)) / temperature, dim=1)
        soft = functional.kl_div(functional.log_softmax(outputs / temperature, dim=1), soft_targets, reduction="sum")
        hard = functional.cross_entropy(outputs, targets, reduction="sum")
        return soft_share * temperature**2 * soft + (1 - soft_share) * hard

    return summed
