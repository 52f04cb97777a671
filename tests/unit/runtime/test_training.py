"""Batches over ranks, optimizers by name, and fine-tuning: in one process."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from slipway.api.errors import SlipwayError, SpecError
from slipway.runtime.determinism import make_deterministic
from slipway.runtime.models import convnet, mlp
from slipway.runtime.training import (
    Epoch,
    Ranks,
    Samples,
    accuracy,
    cross_entropy,
    distillation,
    fit,
    make_optimizer,
    rank_batches,
    step,
    train_epoch,
)

CPU = torch.device("cpu")


def blobs(count: int = 90, classes: int = 3) -> Samples:
    """Points around the corners of a simplex, stored as bytes as images are."""
    generator = torch.Generator().manual_seed(1)
    targets = torch.arange(count) % classes
    points = torch.eye(classes)[targets] * 200 + torch.rand((count, classes), generator=generator) * 50
    return Samples(points.to(torch.uint8), targets, 1 / 255, classes)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 20), st.integers(1, 6))
def test_every_sample_counts_once_an_epoch_for_any_number_of_ranks(samples: int, batch: int, world: int):
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(0))
    ranks = [list(rank_batches(order, batch, Ranks(rank, world))) for rank in range(world)]
    assert len({len(steps) for steps in ranks}) == 1
    counted = torch.cat([part.indices[: part.num_valid] for steps in ranks for part in steps])
    assert sorted(counted.tolist()) == list(range(samples))
    for together in zip(*ranks, strict=True):
        assert all(len(part.indices) for part in together)
        assert {part.total for part in together} == {sum(part.num_valid for part in together)}
        if samples > 1 and batch >= 2 * world:
            assert all(len(part.indices) > 1 for part in together)  # batch normalisation needs two


def test_batch_normalisation_trains_on_a_rest_of_one_sample():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = make_optimizer("sgd", {"lr": 0.1}, module)
    epoch = train_epoch(module, optimizer, cross_entropy, blobs(91), torch.arange(91), 30, CPU, Ranks())
    assert 0 < epoch.accuracy < 1


def test_padding_of_a_rank_batch_changes_no_weight():
    module, samples = mlp([3, 3]), blobs()
    before = [parameter.detach().clone() for parameter in module.parameters()]
    optimizer = make_optimizer("sgd", {"lr": 0.1}, module)
    *_, rest = rank_batches(torch.arange(5), 4, Ranks())
    assert (rest.indices.tolist(), rest.num_valid) == ([4, 0], 1)
    train_epoch(module, optimizer, cross_entropy, samples, torch.tensor([4]), 1, CPU, Ranks())
    alone = [parameter.detach().clone() for parameter in module.parameters()]
    for parameter, old in zip(module.parameters(), before, strict=True):
        parameter.data = old
    step(module, optimizer, cross_entropy, *samples.batch(rest.indices, CPU), rest, Ranks())
    for parameter, new in zip(module.parameters(), alone, strict=True):
        assert torch.allclose(parameter, new)


def test_of_several_outputs_the_first_is_trained_and_evaluated():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores = mlp([3, 8, 3])

        def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            scores = self.scores(inputs)
            return scores, scores.argmax(dim=1)

    module, samples = Two(), blobs()
    optimizer = make_optimizer("adam", {"lr": 0.05}, module)
    for loss in (cross_entropy, distillation(Two(), 2.0, 0.0)):
        for _ in range(10):
            train_epoch(module, optimizer, loss, samples, torch.arange(90), 30, CPU, Ranks())
    assert accuracy(module, samples, CPU) > 0.9


@pytest.mark.parametrize("name", ["adam", "SGD", "AdamW", "rmsprop", "LBFGS"])
def test_any_optimizer_of_torch_learns_under_its_name_in_any_case(name: str):
    torch.manual_seed(0)
    module, samples = mlp([3, 8, 3]), blobs()
    optimizer = make_optimizer(name, {"lr": 0.05}, module)
    assert type(optimizer).__name__.lower() == name.lower()
    for _ in range(10):
        train_epoch(module, optimizer, cross_entropy, samples, torch.arange(90), 30, CPU, Ranks())
    assert accuracy(module, samples, CPU) > 0.9


@pytest.mark.parametrize(
    ("name", "args", "complaint"),
    [
        ("adamm", {}, r"optimizer\.name: torch\.optim has no 'adamm'; did you mean adam"),
        ("zzz", {}, "did you mean adadelta, adafactor, adagrad"),
        ("adam", {"learning_rate": 1}, r"optimizer\.args: .*'learning_rate'.* its arguments are: lr, betas"),
        ("adam", {"lr": -1}, r"optimizer\.args: torch\.optim\.Adam refuses them \(Invalid learning rate: -1\)"),
    ],
)
def test_an_optimizer_that_cannot_be_is_refused_by_field_and_cure(name: str, args: dict[str, object], complaint: str):
    with pytest.raises(SpecError, match=complaint):
        make_optimizer(name, args, mlp([3, 3]))


def test_lists_from_yaml_are_taken_for_tuples():
    assert make_optimizer("adam", {"betas": [0.8, 0.9]}, mlp([3, 3])).defaults["betas"] == (0.8, 0.9)


def test_a_loss_that_is_no_number_ends_the_training():
    module = mlp([3, 3, 3])
    optimizer = make_optimizer("sgd", {"lr": 1e38}, module)
    with pytest.raises(SlipwayError, match="the loss is nan: lower the learning rate"):
        train_epoch(module, optimizer, cross_entropy, blobs(), torch.arange(90), 8, CPU, Ranks())


def fitted(seed: int, teacher: nn.Module | None = None) -> tuple[nn.Module, list[Epoch]]:
    make_deterministic(seed, strict=False)
    module, epochs = mlp([3, 8, 3], dropout=0.2), []
    fit(
        module,
        blobs(),
        CPU,
        epochs=3,
        learning_rate=0.01,
        batch_size=16,
        optimizer="adam",
        seed=seed,
        loss=cross_entropy if teacher is None else distillation(teacher, 2.0, 1.0),
        progress=lambda _, epoch: epochs.append(epoch),
    )
    return module, epochs


def test_a_seed_decides_what_is_learned():
    one, again, other = fitted(1)[0], fitted(1)[0], fitted(2)[0]
    same = [torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True)]
    assert all(same)
    assert not any(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert not one.training


def test_a_student_learns_the_teachers_view_and_leaves_the_teacher_as_it_was():
    class Contrary(nn.Module):
        """Always sure of the next class."""

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.roll(inputs, 1, dims=1) * 20

    student, epochs = fitted(0, teacher=Contrary())
    points = torch.eye(3) * 0.9
    assert student(points).argmax(1).tolist() == [1, 2, 0]
    assert epochs[-1].loss < epochs[0].loss


@pytest.mark.parametrize("images", [torch.rand(2, 28, 28), torch.rand(2, 1, 28, 28)])
def test_the_convnet_takes_grey_images_with_or_without_a_channel(images: torch.Tensor):
    assert convnet(classes=10).eval()(images).shape == (2, 10)


def test_an_mlp_of_one_layer_width_is_refused():
    with pytest.raises(ValueError, match="layers"):
        mlp([3])
