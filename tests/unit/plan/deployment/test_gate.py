"""The score bound against published and independently computed values, and what the gate makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm

from slipway.api.modeldeployment import Gate
from slipway.api.reports import PairedCounts
from slipway.plan.deployment.gate import decide_gate, decide_gate_again, describe_refusal, drop_bound
from support.builders import DIGEST


def test_the_bound_is_that_of_the_published_example():
    """Bentur et al. 2009 (n=21, 1 and 7 discordant) in Fagerland, Lydersen & Laake, Stat Med 33 (2014), Table V."""
    assert drop_bound(21, 1, 7, 0.975) == pytest.approx(-0.026, abs=5e-4)
    assert -drop_bound(21, 7, 1, 0.975) == pytest.approx(-0.517, abs=5e-4)


def independent_bound(n: int, lost: int, gained: int, confidence: float) -> float:
    """The same by maximising the trinomial likelihood numerically, instead of by Tango's quadratic."""

    def log_likelihood(p_gained: float, drop: float) -> float:
        cells = np.array([p_gained + drop, p_gained, 1 - 2 * p_gained - drop])
        counts = np.array([lost, gained, n - lost - gained])
        return float(np.sum(np.where(counts > 0, counts * np.log(np.maximum(cells, 1e-300)), 0.0)))

    def statistic(drop: float) -> float:
        low, high = max(0.0, -drop), (1 - drop) / 2
        best = minimize_scalar(
            lambda p: -log_likelihood(p, drop), bounds=(low, high), method="bounded", options={"xatol": 1e-12}
        ).x
        variance = n * (2 * best + drop - drop * drop)
        return float((lost - gained - n * drop) / np.sqrt(variance) + norm.ppf(confidence))

    return float(brentq(statistic, (lost - gained) / n + 1e-9, 1 - 1e-6, xtol=1e-9))


@pytest.mark.parametrize(
    ("n", "lost", "gained", "confidence"),
    [
        (540, 5, 5, 0.95),
        (540, 10, 5, 0.95),
        (540, 20, 10, 0.99),
        (540, 3, 12, 0.95),
        (160, 40, 20, 0.975),
        (44, 3, 1, 0.9),
        (30, 10, 15, 0.95),
    ],
)
def test_the_bound_agrees_with_a_numerical_maximum_of_the_likelihood(n, lost, gained, confidence):
    expected = independent_bound(n, lost, gained, confidence)
    assert drop_bound(n, lost, gained, confidence) == pytest.approx(expected, abs=1e-5)


def test_without_a_difference_the_bound_has_a_closed_form():
    z = norm.ppf(0.95)
    assert drop_bound(540, 0, 0, 0.95) == pytest.approx(z * z / (540 + z * z), abs=1e-12)


@pytest.mark.parametrize(
    ("n", "lost", "gained", "bound"),
    [(0, 0, 0, 1.0), (1, 1, 0, 1.0), (540, 540, 0, 1.0)],
)
def test_no_sample_and_nothing_but_losses_allow_any_drop(n, lost, gained, bound):
    assert drop_bound(n, lost, gained, 0.95) == bound


def test_at_even_odds_the_bound_is_the_estimate_itself():
    assert drop_bound(540, 10, 4, 0.5) == pytest.approx(6 / 540, abs=1e-12)


COUNTS = PairedCounts(n=540, baseline_right=520, lost=5, gained=5)


@pytest.mark.parametrize(
    ("lost", "gained", "max_drop", "passes"),
    [
        (0, 0, 0.005, True),
        (0, 0, 0.004, False),  # 540 samples cannot show so little
        (5, 5, 0.02, True),
        (5, 5, 0.01, False),
        (10, 5, 0.02, False),  # estimated at 0.009, and yet it may be 0.0226
        (10, 5, 0.023, True),
        (0, 20, 0.0, True),
        (20, 0, 1.0, True),
    ],
)
def test_the_gate_passes_what_is_shown_to_lose_at_most_max_drop(lost, gained, max_drop, passes):
    counts = PairedCounts(n=540, baseline_right=500, lost=lost, gained=gained)
    assert decide_gate(counts, Gate(max_drop=max_drop), same_model=False, data=DIGEST).passed is passes


def test_accuracies_come_from_the_counts():
    result = decide_gate(
        PairedCounts(n=540, baseline_right=524, lost=16, gained=0), Gate(), same_model=False, data=DIGEST
    )
    assert (round(result.accuracy_baseline, 4), round(result.accuracy_candidate, 4)) == (0.9704, 0.9407)


def test_a_model_that_is_its_own_baseline_passes_even_where_no_drop_is_allowed():
    counts = PairedCounts(n=12, baseline_right=11, lost=0, gained=0)
    assert decide_gate(counts, Gate(max_drop=0), same_model=True, data=DIGEST).passed
    assert not decide_gate(counts, Gate(max_drop=0), same_model=False, data=DIGEST).passed


def test_a_gate_without_samples_refuses_even_where_any_drop_is_allowed():
    nothing = PairedCounts(n=0, baseline_right=0, lost=0, gained=0)
    assert not decide_gate(nothing, Gate(max_drop=1), same_model=False, data=DIGEST).passed


def test_a_changed_gate_is_recomputed_from_the_counts():
    strict = decide_gate(COUNTS, Gate(max_drop=0.01), same_model=False, data=DIGEST)
    mild = decide_gate_again(strict, Gate(max_drop=0.02))
    assert (strict.passed, mild.passed) == (False, True)
    assert decide_gate_again(mild, Gate(max_drop=0.01)) == strict


@pytest.mark.parametrize(("measured", "kept"), [(0.25, 0.25), (-1.0, 0.0), (2.0**70, 1.0), (None, None)])
def test_the_saturation_that_was_measured_is_kept_in_bounds_and_by_a_changed_gate(measured, kept):
    result = decide_gate(COUNTS, Gate(), same_model=False, data=DIGEST, saturation=measured)
    assert (result.saturation, decide_gate_again(result, Gate(max_drop=0.5)).saturation) == (kept, kept)


def test_a_refusal_names_saturation_where_it_was_seen_and_nowhere_else():
    counts = PairedCounts(n=540, baseline_right=527, lost=184, gained=0)
    cause = (
        "8-bit sums saturate on the processor that evaluated it (x86 without VNNI) and change its scores by 35.4%: use"
        " 7-bit weights (params.reduce_range: true of quantize-int8)"
    )
    for measured, told in ((0.354, True), (0.009, False), (0.0, False), (None, False)):
        message = describe_refusal(decide_gate(counts, Gate(), same_model=False, data=DIGEST, saturation=measured))
        assert message.endswith(cause if told else "; compress less, or evaluate on more samples")


def test_a_refusal_tells_every_figure_it_was_decided_on():
    result = decide_gate(
        PairedCounts(n=540, baseline_right=524, lost=18, gained=2), Gate(max_drop=0.02), same_model=False, data=DIGEST
    )
    assert describe_refusal(result) == (
        "accuracy 0.9407 against 0.9704 of the uncompressed model on n=540 held-out samples (18 lost, 2 gained): with"
        " confidence 0.95 the drop may be as large as 0.0453, and spec.evaluation.gate.maxDrop is 0.02; compress less,"
        " or evaluate on more samples"
    )
