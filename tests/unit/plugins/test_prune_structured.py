"""Pruning: the number of channels that stay, and those that go together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from slipway.runtime.modules import rebuild
from slipway.sdk import ModuleSource
from slipway_plugins.prune_structured import channels_to_keep, prune


@pytest.mark.parametrize(
    ("channels", "ratio", "round_to", "stay"),
    [
        (128, 0.5, 8, 64),
        (100, 0.5, 8, 56),  # 50, rounded up: fewer would cut more than was asked for
        (12, 0.5, 8, 8),
        (4, 0.5, 8, 4),  # fewer channels than the multiple: all stay
        (10, 0.7, 1, 3),  # not 4, although 10 * (1 - 0.7) is a little more than 3 in floating point
        (3, 0.99, 1, 1),
    ],
)
def test_what_stays_is_rounded_up_to_the_multiple(channels: int, ratio: float, round_to: int, stay: int):
    assert channels_to_keep(channels, ratio, round_to) == stay


@given(st.integers(1, 4096), st.floats(0.001, 0.999), st.integers(1, 64), st.integers(1, 16))
def test_something_stays_never_more_than_there_was_and_in_whole_multiples(channels, ratio, round_to, parts):
    stay = channels_to_keep(channels, ratio, round_to, parts)
    assert 1 <= stay <= channels
    assert stay == channels or stay * parts % round_to == 0
    assert stay >= min(channels, int(channels * (1 - ratio)))


class Gated(nn.Module):
    """Half of the channels are multiplied by the other half."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.head = nn.Linear(6, 32), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values, gates = self.both(x).chunk(2, dim=1)
        scores: torch.Tensor = self.head(values * gates.sigmoid())
        return scores


def test_channels_that_can_only_go_together_are_counted_together():
    module = Gated().eval()
    norms = torch.tensor([*range(1, 17), *range(32, 0, -2)])  # of the pairs, the last have the least together
    with torch.no_grad():
        module.both.weight.copy_(norms[:, None].expand(32, 6))
        module.head.weight.fill_(1)
    prune(module, (torch.rand(2, 6),), 0.5, 8)
    assert (module.both.out_features, module.head.in_features) == (16, 8)
    assert module.both.weight[:, 0].tolist() == [*range(1, 9), *range(32, 16, -2)]


class Normalised(nn.Module):
    """Every kind of normalisation, a transposed convolution and an activation with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.groups = nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16)
        self.second, self.each = nn.Conv2d(16, 16, 3, padding=1), nn.InstanceNorm2d(16, affine=True)
        self.up, self.bent = nn.ConvTranspose2d(16, 24, 2, stride=2), nn.PReLU(24)
        self.head = nn.Linear(24, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.each(self.second(self.groups(self.first(x)).relu()))
        scores: torch.Tensor = self.head(self.bent(self.up(x)).mean((2, 3)))
        return scores


def test_a_pruned_module_of_any_such_layers_is_built_again():
    torch.manual_seed(0)
    module, images = Normalised().eval(), torch.rand(2, 1, 8, 8)
    first = module.first.weight.detach().clone()
    prune(module, (images,), 0.5, 8)
    again = rebuild(ModuleSource(factory=f"{__name__}:Normalised", resized=True), module.state_dict(), Path())
    assert torch.equal(again(images), module(images))
    widths = (again.groups.num_channels, again.each.num_features, again.up.in_channels, again.bent.num_parameters)
    assert widths == (8, 8, 8, 16)
    stay = [int((first == kernel).flatten(1).all(dim=1).nonzero()[0]) for kernel in module.first.weight.detach()]
    assert [channel // 4 for channel in stay] == [0, 0, 1, 1, 2, 2, 3, 3]  # each group loses as many
