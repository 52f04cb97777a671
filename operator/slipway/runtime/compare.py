"""Count on which samples two classifiers differ. What the counts mean is decided in the operator, by the gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipway.api.artifacts import State
from slipway.api.errors import ArtifactError
from slipway.api.reports import PairedCounts, Report, Slice
from slipway.api.tasks import CompareTask
from slipway.runtime.pod import Pod
from slipway.runtime.predictions import Predictions, read_predictions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_SLICES = 16


def run(task: CompareTask, pod: Pod) -> Report:
    """Raises ArtifactError where the two were not made on the same samples."""
    baseline = read_predictions(pod.copy(task.baseline, State.PREDICTIONS, held_out=True))
    candidate = read_predictions(pod.copy(task.candidate, State.PREDICTIONS, held_out=True))
    return pod.succeeded(counts=count(baseline, candidate))


def count(baseline: Predictions, candidate: Predictions) -> PairedCounts:
    """The paired counts over all samples and by true class, the classes that lost most first."""
    if baseline.data != candidate.data or baseline.targets.tolist() != candidate.targets.tolist():
        raise ArtifactError(
            f"the predictions are of different samples: {len(baseline.targets)} of {baseline.data}"
            f" and {len(candidate.targets)} of {candidate.data}; evaluate both on the same data"
        )
    right = baseline.predicted == baseline.targets
    lost = right & (candidate.predicted != candidate.targets)
    gained = ~right & (candidate.predicted == candidate.targets)
    return PairedCounts(
        n=len(right),
        baseline_right=int(right.sum()),
        lost=int(lost.sum()),
        gained=int(gained.sum()),
        slices=_slices(baseline.targets, lost, gained),
    )


def _slices(targets: NDArray[np.int64], lost: NDArray[np.bool_], gained: NDArray[np.bool_]) -> tuple[Slice, ...]:
    slices = [
        Slice(
            name=f"class-{target}",
            n=int((targets == target).sum()),
            lost=int(lost[targets == target].sum()),
            gained=int(gained[targets == target].sum()),
        )
        for target in sorted(set(targets.tolist()))
    ]
    return tuple(sorted(slices, key=lambda s: (s.gained - s.lost) / s.n)[:MAX_SLICES])
