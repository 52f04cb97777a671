"""The gate: a paired non-inferiority test of candidate and baseline on the same held-out samples.

The loss of accuracy is a difference of two proportions of one sample: with `lost` samples that only the baseline has
right and `gained` that only the candidate has right, its estimate is (lost - gained) / n. The gate uses its one-sided
upper confidence bound by the score test (T. Tango, "Equivalence test and confidence interval for the difference in
proportions for the paired-sample design", Statistics in Medicine 17, 1998, 891-908). A test of equality (McNemar) is
not suitable: with few samples it never rejects.
"""

from __future__ import annotations

from functools import lru_cache
from math import inf, sqrt
from statistics import NormalDist

from slipway.api.modeldeployment import Gate, GateResult
from slipway.api.reports import PairedCounts

_HALVINGS = 60
"""Steps of the bisection: an interval of length 2 becomes smaller than the resolution of a double."""

SATURATED = 0.01
"""Relative change of the scores above which saturation, not the rounding of fused kernels, explains a loss."""


@lru_cache(maxsize=1024)  # every round evaluates it again on the same counts
def drop_bound(n: int, lost: int, gained: int, confidence: float) -> float:
    """Return the upper confidence bound, in [-1, 1], of P(lost) - P(gained); 1 if n is 0.

    confidence: one-sided, in [0.5, 1). The bound is the drop at which the score statistic is as far below zero as
    the normal quantile allows; the statistic falls as the drop grows.
    """
    if n == 0:
        return 1.0
    quantile = NormalDist().inv_cdf(confidence)
    low, high = (lost - gained) / n, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _score(n, lost, gained, middle) > -quantile:
            low = middle
        else:
            high = middle
    return high


def _score(n: int, lost: int, gained: int, drop: float) -> float:
    """Return Tango's statistic for the hypothesis that the true difference is `drop`, above the observed one.

    Its variance has P(gained) at its maximum-likelihood estimate under that hypothesis: the larger root of
    2n q^2 + b q + c = 0.
    """
    b = (2 * n - lost + gained) * drop - lost - gained
    c = -gained * drop * (1 - drop)
    q = (sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * q + drop * (1 - drop))
    distance = lost - gained - n * drop
    return distance / sqrt(variance) if variance > 0 else (0.0 if distance == 0 else -inf)


def decide_gate(
    counts: PairedCounts,
    gate: Gate,
    *,
    same_model: bool,
    data: str,
    saturation: float | None = None,
    image_id: str | None = None,
    held_out_readable: bool = False,
) -> GateResult:
    """Return the decision of the gate on these counts.

    same_model: baseline and candidate are one artifact, so the drop is zero, not merely estimated as zero.
    data: digest of the evaluation data.
    saturation: the saturation that the candidate's evaluation measured; None if the kernels are exact.
    image_id: the image ID of the pod that compared, as the kubelet reports it.
    held_out_readable: True if plugins could read the evaluation data.
    """
    bound = 0.0 if same_model else drop_bound(counts.n, counts.lost, counts.gained, gate.confidence)
    of = max(counts.n, 1)
    return GateResult(
        passed=counts.n > 0 and bound <= gate.max_drop,
        accuracy_baseline=counts.baseline_right / of,
        accuracy_candidate=(counts.baseline_right - counts.lost + counts.gained) / of,
        max_drop=gate.max_drop,
        drop_bound=round(bound, 6),
        confidence=gate.confidence,
        counts=counts,
        same_model=same_model,
        data=data,
        saturation=None if saturation is None else min(max(saturation, 0.0), 1.0),
        image_id=image_id,
        held_out_readable=held_out_readable,
    )


def decide_gate_again(result: GateResult, gate: Gate) -> GateResult:
    """Return the decision on the same counts with the gate of the present spec."""
    return decide_gate(
        result.counts,
        gate,
        same_model=result.same_model,
        data=result.data,
        saturation=result.saturation,
        image_id=result.image_id,
        held_out_readable=result.held_out_readable,
    )


def describe_refusal(result: GateResult) -> str:
    """Describe why the gate refuses the candidate, with all figures of the decision."""
    counts = result.counts
    cure = "compress less, or evaluate on more samples"
    if result.saturation is not None and result.saturation >= SATURATED:
        cure = (
            f"8-bit sums saturate on the processor that evaluated it (x86 without VNNI) and change its scores by"
            f" {result.saturation:.1%}: use 7-bit weights (params.reduce_range: true of quantize-int8)"
        )
    return (
        f"accuracy {result.accuracy_candidate:.4f} against {result.accuracy_baseline:.4f} of the uncompressed model"
        f" on n={counts.n} held-out samples ({counts.lost} lost, {counts.gained} gained): with confidence"
        f" {result.confidence:g} the drop may be as large as {result.drop_bound:.4f}, and"
        f" spec.evaluation.gate.maxDrop is {result.max_drop:g}; {cure}"
    )
