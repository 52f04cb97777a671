"""Paired counts of two sets of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from slipway.api.errors import ArtifactError
from slipway.api.reports import PairedCounts
from slipway.api.tasks import CompareTask
from slipway.runtime.evaluation import Predictions, count, read_predictions, write_predictions
from slipway.runtime.pod import ARTIFACT
from slipway.sdk.artifact import Artifact
from slipway.sdk.manifest import Provenance
from support.stores import do, pod_in, ref

DATA = "sha256:" + "0" * 64


def predictions(predicted: Sequence[int], targets: Sequence[int], data: str = DATA) -> Predictions:
    return Predictions(np.array(predicted, np.int64), np.array(targets, np.int64), data)


def kept(store: Path, name: str, given: Predictions) -> Artifact:
    """Return the predictions as a task of that folder writes them."""
    return write_predictions(pod_in(store, name).store, ARTIFACT, given, Provenance())


def test_samples_that_only_one_has_right_are_counted_apart():
    baseline = predictions([0, 0, 1, 1, 2], [0, 0, 1, 2, 0])
    candidate = predictions([0, 1, 1, 2, 1], [0, 0, 1, 2, 0])
    counts = count(baseline, candidate)
    assert (counts.n, counts.baseline_right, counts.lost, counts.gained) == (5, 3, 1, 1)


def test_equal_predictions_lose_and_gain_nothing():
    same = predictions([0, 1, 2], [0, 1, 1])
    assert count(same, same) == PairedCounts(n=3, baseline_right=2, lost=0, gained=0, slices=count(same, same).slices)


def test_the_class_that_lost_the_largest_share_comes_first():
    targets = [0, 0, 0, 0, 1, 1, 2]
    counts = count(predictions(targets, targets), predictions([0, 0, 9, 9, 1, 9, 2], targets))
    assert [(s.name, s.n, s.lost) for s in counts.slices] == [("class-0", 4, 2), ("class-1", 2, 1), ("class-2", 1, 0)]


def test_of_many_classes_the_sixteen_worst_are_reported():
    targets = list(range(30))
    counts = count(predictions(targets, targets), predictions([*targets[:-1], 0], targets))
    assert len(counts.slices) == 16
    assert counts.slices[0].name == "class-29"


@pytest.mark.parametrize(
    "candidate",
    [predictions([0, 1], [0, 0]), predictions([0], [0]), predictions([0, 1], [0, 1], "sha256:" + "1" * 64)],
    ids=["other targets", "fewer samples", "another data set"],
)
def test_predictions_of_different_samples_are_refused(candidate: Predictions):
    with pytest.raises(ArtifactError, match="evaluate both on the same data"):
        count(predictions([0, 1], [0, 1]), candidate)


def test_the_task_reports_counts_and_leaves_nothing(tmp_path: Path):
    refs = [
        ref(kept(tmp_path, name, predictions(said, [0, 1])), name)
        for name, said in (("baseline", [0, 1]), ("candidate", [0, 0]))
    ]
    report = do(tmp_path, "compare", CompareTask(baseline=refs[0], candidate=refs[1]))
    assert report.counts is not None
    assert (report.counts.lost, report.counts.gained) == (1, 0)
    assert report.artifact is None


def test_predictions_are_read_as_they_were_written(tmp_path: Path):
    found = read_predictions(kept(tmp_path, "p", predictions([3, 1], [3, 2])))
    assert (found.predicted.tolist(), found.targets.tolist(), found.data) == ([3, 1], [3, 2], DATA)
    assert found.accuracy == 0.5
