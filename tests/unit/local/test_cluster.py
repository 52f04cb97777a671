"""The loop and the stand-ins over one twin: what a run starts, what is inactive, and what is left for the next."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from slipway.api.kinds import Object, key_of
from slipway.api.status import not_yet_observed
from slipway.cluster.twin import Twin
from slipway.local import snapshot
from slipway.local.cluster import run_local_cluster
from slipway.local.environment import Sources
from slipway.local.images import Images
from slipway.local.state import StateFolder
from support.builders import training_job

IMAGES = Images("runtime", "serving")


def now() -> datetime:
    return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def a_job(name: str, status: Object | None = None) -> Object:
    """It waits for a store that nobody makes."""
    made = training_job()
    meta = {"name": name, "namespace": made["metadata"]["namespace"]}
    return {**made, "metadata": meta, "status": status or not_yet_observed()}


async def test_what_the_files_do_not_name_rests(tmp_path: Path):
    wanted, other = a_job("wanted"), a_job("other")
    twin = Twin(now)
    for job in (wanted, other):
        twin.add(job)
    async with run_local_cluster(twin, StateFolder(tmp_path), IMAGES, Sources({}), "127.64.0", {key_of(wanted)}):
        pass
    assert (await twin.get(key_of(wanted)))["status"]["phase"] == "Pending"
    assert (await twin.get(key_of(other)))["status"] == not_yet_observed()


async def test_what_an_earlier_run_said_is_looked_at_again_before_anything_is_told(tmp_path: Path):
    job = a_job("digits", {"observedGeneration": 1, "phase": "Running"})
    twin = Twin(now)
    twin.add(job)
    async with run_local_cluster(twin, StateFolder(tmp_path), IMAGES, Sources({}), "127.64.0", {key_of(job)}):
        assert (await twin.get(key_of(job)))["status"]["phase"] == "Pending"


async def test_what_it_came_to_is_there_for_the_next_run(tmp_path: Path):
    job = a_job("digits")
    twin = Twin(now)
    twin.add(job)
    async with run_local_cluster(twin, StateFolder(tmp_path), IMAGES, Sources({}), "127.64.0", {key_of(job)}):
        pass
    again = snapshot.load(StateFolder(tmp_path).objects, now)
    assert await again.get(key_of(job)) == await twin.get(key_of(job))
