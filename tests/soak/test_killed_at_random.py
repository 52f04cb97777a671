"""An operator process that is killed at random moments, again and again, on a real API server: for `make soak`."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from support.apiserver import ApiServer
from support.operator_process import running_operator
from support.seed import SEED
from support.stream import streams_to
from support.training_cluster import wait_for

MINUTES = float(os.environ.get("MINUTES", "1"))
LONGEST_LIFE_SECONDS = 12
"""A life begins with some seconds of start, so that some end before the first write and some after many."""
SETTLE_SECONDS = 300


@pytest.mark.timeout(MINUTES * 60 + 2 * SETTLE_SECONDS)
def test_whenever_the_operator_is_killed_every_training_runs_once_and_succeeds(
    apiserver: ApiServer, tmp_path: Path
) -> None:
    print(f"SEED={SEED} MINUTES={MINUTES:g}")
    moments = random.Random(SEED)
    flags = ("--no-leader-election", "--namespace", "soak")
    with streams_to(apiserver.kubeconfig, "soak") as (stream,):
        ends_at, lives = time.monotonic() + 60 * MINUTES, 0
        with stream.flowing():
            while time.monotonic() < ends_at:
                with running_operator(apiserver.kubeconfig, tmp_path / "log", *flags) as operator:
                    time.sleep(moments.uniform(0, LONGEST_LIFE_SECONDS))  # the moment of its death
                    assert operator.process.poll() is None, (tmp_path / "log").read_text()[-2000:]
                lives += 1
        with running_operator(apiserver.kubeconfig, tmp_path / "log", *flags):
            wait_for(lambda: not stream.work() and stream.succeeded() == stream.made, "all to succeed", SETTLE_SECONDS)
        jobs = stream.training_jobs()
        assert [len(job["status"]["attempts"]) for job in jobs] == [1] * stream.made
        recorded = {job["status"]["attempts"][0]["jobUID"] for job in jobs}
        assert {job["metadata"]["uid"] for job in stream.jobs()} == recorded
    print(f"{lives} lives, {stream.made} TrainingJobs")
