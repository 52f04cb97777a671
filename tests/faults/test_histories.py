"""Whatever refusals, foreign edits and lost nodes come together, the status tells what serves, within one round."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from support.histories import History
from support.hostile import HostileWorld
from support.laws import LawBroken
from support.seed import SAMPLE_EVERY, SEED

HISTORIES = 400 // SAMPLE_EVERY
AT_ONCE = 10
"""Histories of one test."""


@pytest.fixture(scope="module")
def _quiet() -> Iterator[None]:
    with capture_logs():
        yield


async def serving() -> HostileWorld:
    world = await HostileWorld().start()
    world.edits(serving={"replicas": 2})
    await world.lives()
    assert (await world.status())["phase"] == "Ready"
    world.operator.stop()
    return world


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("first", range(SEED, SEED + HISTORIES, AT_ONCE), ids=lambda seed: f"from seed {seed}")
async def test_a_status_tells_what_serves_after_every_event_and_the_world_recovers(first: int) -> None:
    past = await serving()
    found = []
    for seed in range(first, first + AT_ONCE):
        history = History(past, seed)
        try:
            await history.operator.start()
            await history.goes_on()
            await history.recovers()
            status = await history.status()
            if (status["phase"], status["readyReplicas"], await history.available()) != ("Ready", 2, True):
                conditions = {one["type"]: (one["reason"], one["message"]) for one in status["conditions"]}
                found.append(f"seed {seed}: {status['phase']} in the end: {conditions}; {history.told}")
        except (LawBroken, AssertionError) as broken:
            found.append(f"seed {seed}: {broken}; {history.told}")
    assert found == []
