"""Laws of the score bound, and how often it holds what it promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multinomial

from slipway.plan.deployment.gate import drop_bound

CONFIDENCES = st.floats(0.5, 0.9999)


@st.composite
def paired(draw: st.DrawFn) -> tuple[int, int, int]:
    n = draw(st.integers(1, 2000))
    lost = draw(st.integers(0, n))
    return n, lost, draw(st.integers(0, n - lost))


@given(paired(), CONFIDENCES)
def test_the_bound_lies_between_the_estimate_and_one(counts, confidence):
    n, lost, gained = counts
    assert (lost - gained) / n <= drop_bound(n, lost, gained, confidence) <= 1


@given(paired(), CONFIDENCES, CONFIDENCES)
def test_more_confidence_never_lowers_the_bound(counts, one, other):
    assert drop_bound(*counts, min(one, other)) <= drop_bound(*counts, max(one, other)) + 1e-12


@given(paired(), CONFIDENCES)
def test_one_more_lost_sample_never_lowers_the_bound(counts, confidence):
    n, lost, gained = counts
    if lost + gained < n:
        assert drop_bound(n, lost, gained, confidence) <= drop_bound(n, lost + 1, gained, confidence) + 1e-12
        assert drop_bound(n, lost, gained + 1, confidence) <= drop_bound(n, lost, gained, confidence) + 1e-12


@given(paired(), st.integers(2, 5), CONFIDENCES)
def test_more_samples_of_the_same_kind_never_raise_the_bound(counts, times, confidence):
    n, lost, gained = counts
    more = drop_bound(times * n, times * lost, times * gained, confidence)
    assert more <= drop_bound(n, lost, gained, confidence) + 1e-12


@pytest.mark.parametrize(
    ("n", "p_lost", "p_gained"),
    [(540, 0.03, 0.01), (540, 0.02, 0.02), (540, 0.01, 0.002), (100, 0.05, 0.05), (100, 0.1, 0.02)],
)
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_true_drop_lies_below_the_bound_as_often_as_promised(n, p_lost, p_gained, confidence):
    """Exact: the probability of every table whose bound holds. A score interval keeps its level nearly, not quite."""
    limit = int(n * (p_lost + p_gained) + 8 * np.sqrt(n * (p_lost + p_gained))) + 4
    tables = [(lost, gained) for lost in range(limit) for gained in range(limit) if lost + gained <= n]
    weights = multinomial.pmf(
        [(lo, ga, n - lo - ga) for lo, ga in tables], n, [p_lost, p_gained, 1 - p_lost - p_gained]
    )
    assert weights.sum() > 0.999999
    likely = weights > 1e-9
    covered = sum(
        weight
        for (lost, gained), weight in zip(np.array(tables)[likely], weights[likely], strict=True)
        if drop_bound(n, int(lost), int(gained), confidence) >= p_lost - p_gained
    )
    assert confidence - 0.015 <= covered <= confidence + 0.03


@given(st.integers(20, 400), st.integers(0, 2**32 - 1))
def test_the_bound_holds_in_simulated_comparisons(n, seed):
    """200 comparisons of two models of equal accuracy; at 0.95, fewer than 170 that hold are 6 standard errors."""
    draws = np.random.default_rng(seed).multinomial(n, [0.05, 0.05, 0.9], size=200)
    held = sum(drop_bound(n, int(lost), int(gained), 0.95) >= 0 for lost, gained, _ in draws)
    assert held >= 170
