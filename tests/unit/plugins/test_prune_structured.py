"""How many channels stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway_plugins.prune_structured import kept


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
    assert kept(channels, ratio, round_to) == stay


@given(st.integers(1, 4096), st.floats(0.001, 0.999), st.integers(1, 64), st.integers(1, 16))
def test_something_stays_never_more_than_there_was_and_in_whole_multiples(channels, ratio, round_to, parts):
    stay = kept(channels, ratio, round_to, parts)
    assert 1 <= stay <= channels
    assert stay == channels or stay * parts % round_to == 0
    assert stay >= min(channels, int(channels * (1 - ratio)))
