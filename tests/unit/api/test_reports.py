"""Reports as hostile or broken pods may write them: what is read of one always fits into a status."""

from __future__ import annotations

import json

import orjson
import pytest

from slipway.api.reports import parse_report
from support.builders import DIGEST, failed, succeeded

LARGEST = 2**53 - 1


def read(report):
    found = parse_report(json.dumps(report))
    if found is not None:
        assert orjson.loads(orjson.dumps(found.to_wire())) == found.to_wire()
    return found


@pytest.mark.parametrize("number", [-1, 2**31, 2**64, 2**70, -(2**70), 0.5, 1e308, float("nan"), "many", [], {}])
def test_an_impossible_rank_is_left_out_and_the_rest_is_reported(number):
    report = read(failed("boom", exception="ValueError", rank=number))
    assert (report.error.message, report.error.rank) == ("boom", None)


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 2**70, float("inf"), "1x"])
def test_an_exit_code_that_cannot_be_is_left_out(number):
    report = failed("boom")
    report["error"]["exitCode"] = number
    assert read(report).error.exit_code is None


@pytest.mark.parametrize("size", [-1, LARGEST + 1, 2**64, 1e308, float("nan")])
def test_a_size_that_cannot_be_is_left_out(size):
    artifact = {"uri": "store:///a", "digest": DIGEST, "sizeBytes": size}
    assert read(succeeded(artifact)).artifact.size_bytes is None


@pytest.mark.parametrize("field", ["n", "baselineRight", "lost", "gained"])
@pytest.mark.parametrize("number", [-1, LARGEST + 1, 2**64, 0.5, float("nan")])
def test_a_comparison_with_a_count_that_cannot_be_is_none(field, number):
    counts = {"n": 540, "baselineRight": 520, "lost": 2, "gained": 2, field: number}
    assert read(succeeded(counts=counts)) is None


def test_the_largest_counts_are_taken():
    counts = {"n": LARGEST, "baselineRight": LARGEST, "lost": 0, "gained": 0}
    assert read(succeeded(counts=counts)).counts.n == LARGEST


def test_measurements_that_are_not_finite_are_left_out():
    measured = {"accuracy": 0.9, "loss": float("nan"), "best": float("inf"), "worst": float("-inf")}
    assert read(succeeded(metrics=measured)).metrics == {"accuracy": 0.9}


def test_of_more_slices_and_metrics_than_a_status_holds_the_first_are_read():
    slices = [{"name": f"class {number}", "n": 1, "lost": 0, "gained": 0} for number in range(17)]
    counts = {"n": 100, "baselineRight": 50, "lost": 0, "gained": 0, "slices": slices}
    report = read(succeeded(counts=counts, metrics={f"m{number}": 1.0 for number in range(17)}))
    assert [one.name for one in report.counts.slices] == [f"class {number}" for number in range(16)]
    assert list(report.metrics) == [f"m{number}" for number in range(16)]
