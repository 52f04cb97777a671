"""Fine-tuning in one process: what `context.fit` does for a plugin."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from slipway.runtime.distributed import Ranks
from slipway.runtime.training import Epoch, Loss, Samples, make_optimizer, scores, train_epoch


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
    moved = make_optimizer(optimizer, {"lr": learning_rate}, module)
    torch.manual_seed(seed)
    shuffling = torch.Generator().manual_seed(seed)
    epoch = Epoch(0.0, 0.0)
    for number in range(1, epochs + 1):
        order = torch.randperm(len(samples), generator=shuffling)
        epoch = train_epoch(module, moved, loss, samples, order, batch_size, device, Ranks())
        progress(number, epoch)
    module.eval()
    return epoch


def cross_entropy(_inputs: torch.Tensor, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sparse categorical cross-entropy, summed over samples."""
    return functional.cross_entropy(outputs, targets, reduction="sum")


def distillation(teacher: nn.Module, temperature: float, soft_share: float) -> Loss:
    """Cross-entropy with the targets, and Kullback-Leibler divergence from the teacher's softened scores.

    Source: Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015; the divergence is multiplied by
    the squared temperature, so that gradients keep their size. soft_share: 0..1, of the divergence in the loss.
    """
    teacher.eval().requires_grad_(False)

    def summed(inputs: torch.Tensor, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = functional.softmax(scores(teacher(inputs)) / temperature, dim=1)
        soft = functional.kl_div(functional.log_softmax(outputs / temperature, dim=1), wanted, reduction="sum")
        hard = functional.cross_entropy(outputs, targets, reduction="sum")
        return soft_share * temperature**2 * soft + (1 - soft_share) * hard

    return summed
