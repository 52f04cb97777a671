"""Samples rotate: successive seeds try every item, and a whole run needs no seed."""

from __future__ import annotations

import pytest

from support.seed import sample


@pytest.mark.parametrize("number", [1, 5, 8, 43])
def test_as_many_seeds_as_the_step_try_every_item(number: int) -> None:
    samples = [sample(range(number), seed=seed, every=8) for seed in range(100, 108)]
    assert set().union(*samples) == set(range(number))
    assert all(0 < len(one) <= -(-number // 8) for one in samples)


def test_one_in_one_is_everything_whatever_the_seed() -> None:
    assert list(sample(range(43), seed=7, every=1)) == list(range(43))
    assert list(sample([], seed=7)) == []
