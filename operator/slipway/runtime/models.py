"""Small models for recipes. Their factories take arguments as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn


def mlp(layers: Sequence[int], dropout: float = 0.0) -> nn.Module:
    """Return linear layers of these widths, input and classes included, with ReLU between; inputs are flattened.

    Initial weights by He et al. 2015 (Delving Deep into Rectifiers): torch's own are smaller and learn slower.
    The module takes [N, ...] of layers[0] values each and returns scores [N, layers[-1]]. Raises ValueError below two
    widths.
    """
    if len(layers) < 2 or min(layers) < 1:
        raise ValueError(f"layers: {list(layers)} needs at least an input and an output width, each 1 or more")
    parts: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(layers):
        if len(parts) > 1:
            parts.append(nn.ReLU())
            if dropout:
                parts.append(nn.Dropout(dropout))
        linear = nn.Linear(before, after)
        nn.init.kaiming_uniform_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        parts.append(linear)
    return nn.Sequential(*parts)


class ConvNet(nn.Module):
    """3x3 convolutions with batch normalisation, ReLU and 2x2 pooling, then one linear layer over the mean.

    It takes images [N, H, W] or [N, channels_in, H, W] and returns scores [N, classes].
    """

    def __init__(self, classes: int, widths: Sequence[int], channels_in: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for before, after in pairwise((channels_in, *widths)):
            blocks += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return scores."""
        if images.dim() == 3:
            images = images.unsqueeze(1)
        scores: torch.Tensor = self.head(self.features(images).mean(dim=(2, 3)))
        return scores


def convnet(classes: int = 10, widths: Sequence[int] = (16, 32, 64), channels_in: int = 1) -> nn.Module:
    """Return a ConvNet; images must be at least 2 ** len(widths) pixels wide."""
    return ConvNet(classes, tuple(widths), channels_in)
