"""Export to ONNX: differences that are rounding, and models that do not fit one file."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from slipway.sdk import PluginError, TensorSpec
from slipway_plugins.export_onnx import differences, export_module

POINTS = (TensorSpec(name="x", shape=(64,)),)
SCORES = (TensorSpec(name="scores", shape=(3,)),)


class Loud(nn.Module):
    """Scores of some thousands, and whether each is positive."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.scores = nn.Linear(64, 256), nn.Linear(256, 3)
        for layer in (self.hidden, self.scores):
            layer.weight.data *= 100

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.scores(self.hidden(x).relu())
        return scores, scores > 0


@pytest.fixture(scope="module")
def graph() -> bytes:
    return export_module(Loud().eval(), POINTS, (*SCORES, TensorSpec(name="positive", shape=(3,), dtype="bool")))


def test_large_scores_differ_by_rounding_alone(graph: bytes):
    absolute, relative = differences(Loud().eval(), graph, POINTS, 64)
    assert absolute > 1e-4
    assert relative < 1e-5


def test_other_answers_are_no_rounding(graph: bytes):
    other = Loud().eval()
    other.scores.bias.data[0] += 5
    assert differences(other, graph, POINTS, 2)[1] > 1e-4
    other.scores.bias.data[0] = math.nan
    assert not differences(other, graph, POINTS, 2)[1] <= 1e-4


def test_a_model_that_no_single_file_holds_is_refused_before_it_is_exported():
    with torch.device("meta"):
        huge = nn.Linear(64, 10_000_000)
    with pytest.raises(PluginError, match=r"weights take 2\.6 GB, and an ONNX file has less than 2\.1 GB"):
        export_module(huge, POINTS, SCORES)
