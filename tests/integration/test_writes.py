"""How many writes a TrainingJob's life costs the API server, by its audit log."""

from __future__ import annotations

from benchmarks import writes
from benchmarks.figures import missed
from benchmarks.scale import QUICK


def test_a_job_of_any_size_costs_no_more_writes_than_its_bar():
    figures = writes.measure(QUICK, print)
    assert not missed(figures), figures
    assert figures["writes_per_job_200_nodes"] == figures["writes_per_job_2_nodes"]
