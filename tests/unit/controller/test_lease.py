"""Leader election on the twin, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from slipway.api.errors import ClusterError
from slipway.api.kinds import JOB, LEASE, Key, Object
from slipway.cluster.twin import Twin
from slipway.controller.lease import Election, LeaderFenced, Terms
from support.calls import Interfered, fail

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TERMS = Terms(duration=12.0, renew_within=9.0, renew_every=2.0, look_every=1.0)
LEASE_KEY = Key(LEASE, "slipway", "operator")


class World:
    """One Lease, and candidates that share a clock; asyncio.sleep moves it."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.twin = Twin(lambda: START)
        self.calls = Interfered(self.twin)

    def candidate(self, identity: str) -> Election:
        now = lambda: START + timedelta(seconds=self.elapsed)  # noqa: E731
        return Election(self.calls, "slipway", "operator", identity, lambda: self.elapsed, now, TERMS)

    async def holder(self) -> str:
        holder: str = (await self.twin.get(LEASE_KEY))["spec"]["holderIdentity"]
        return holder

    async def transitions(self) -> int:
        count: int = (await self.twin.get(LEASE_KEY))["spec"]["leaseTransitions"]
        return count


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    yields = asyncio.sleep

    async def sleep(seconds: float) -> None:
        made.elapsed += seconds
        await yields(0)

    monkeypatch.setattr("slipway.controller.lease.asyncio.sleep", sleep)
    return made


async def test_the_first_candidate_leads_at_once(world: World) -> None:
    one = world.candidate("one")
    assert not one.holds
    await one.acquire()
    assert one.holds
    assert (await world.holder(), world.elapsed, await world.transitions()) == ("one", 0.0, 0)


@pytest.mark.parametrize("spec", [{}, {"spec": {}}], ids=["no spec", "an empty one"])
async def test_the_empty_lease_of_a_new_release_is_taken_at_once(world: World, spec: Object) -> None:
    meta = {"name": LEASE_KEY.name, "namespace": LEASE_KEY.namespace}
    await world.twin.create({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, **spec})
    one = world.candidate("one")
    await one.acquire()
    assert one.holds
    assert (await world.holder(), world.elapsed, await world.transitions()) == ("one", 0.0, 0)


async def test_another_candidate_waits_until_the_lease_was_not_renewed_for_its_whole_duration(world: World) -> None:
    await world.candidate("one").acquire()
    world.elapsed = 100.0  # whatever the Lease says of times: it is seen for the first time now
    two = world.candidate("two")
    await two.acquire()
    assert world.elapsed == 112.0
    assert (await world.holder(), await world.transitions()) == ("two", 1)


async def test_a_leader_that_dies_is_followed_within_fifteen_seconds(world: World) -> None:
    one, two = world.candidate("one"), world.candidate("two")
    await one.acquire()
    assert not await two._try_to_hold()
    world.elapsed += TERMS.look_every
    assert await one._try_to_hold()  # its last sign of life
    died_at = world.elapsed
    await two.acquire()
    assert world.elapsed - died_at <= 15.0


async def test_a_lease_that_was_given_back_is_taken_at_the_next_look(world: World) -> None:
    one, two = world.candidate("one"), world.candidate("two")
    await one.acquire()
    assert not await two._try_to_hold()
    await one.release()
    assert not one.holds
    await two.acquire()
    assert world.elapsed <= TERMS.look_every
    assert await world.holder() == "two"


async def test_a_leader_keeps_the_lease_by_renewing_it(world: World) -> None:
    one, two = world.candidate("one"), world.candidate("two")
    await one.acquire()
    for _ in range(100):
        world.elapsed += TERMS.renew_every
        assert await one._try_to_hold()
        assert not await two._try_to_hold()
    assert one.holds


async def test_a_leader_that_cannot_renew_stops_before_anybody_may_follow(world: World) -> None:
    one = world.candidate("one")
    await one.acquire()

    async def away(_number: int, _write: object, _call: object) -> None:
        raise ClusterError("503")

    world.calls.interfere = away
    await asyncio.wait_for(one.keep(), 10)
    assert not one.holds
    assert TERMS.renew_within <= world.elapsed < TERMS.duration


async def test_a_leader_survives_a_renewal_that_fails_or_whose_answer_is_lost(world: World) -> None:
    one = world.candidate("one")
    await one.acquire()
    for carried_out in (False, True):
        number = len(world.calls.writes) + 1
        world.calls.interfere = fail(number, ClusterError("no answer"), carried_out=carried_out)
        tries = 0
        while len(world.calls.writes) < number + 1:
            world.elapsed += TERMS.renew_every
            await one._try_to_hold()
            tries += 1
            assert tries < 5
        assert one.holds
    assert await world.holder() == "one"


async def test_a_leader_that_was_stopped_finds_the_lease_taken_and_writes_nothing(world: World) -> None:
    one, two = world.candidate("one"), world.candidate("two")
    fenced = LeaderFenced(world.twin, lambda: one.holds)
    await one.acquire()
    assert not await two._try_to_hold()
    world.elapsed += 60.0  # SIGSTOP
    await two.acquire()
    job = {"apiVersion": JOB.api_version, "kind": "Job", "metadata": {"name": "a", "namespace": "default"}}
    for write in (
        fenced.create(job),
        fenced.apply(job),
        fenced.patch_status(Key(JOB, "default", "a"), "1", {}),
        fenced.delete(Key(JOB, "default", "a"), uid="u", resource_version="1"),
    ):
        with pytest.raises(ClusterError, match="does not lead any more"):
            await write
    assert await fenced.list(JOB) == []
    await asyncio.wait_for(one.keep(), 10)
    assert await world.holder() == "two"


async def test_of_two_that_try_at_the_same_time_one_leads(world: World) -> None:
    candidates = [world.candidate(name) for name in ("one", "two", "three")]
    await asyncio.gather(*(candidate._try_to_hold() for candidate in candidates))
    assert sum(candidate.holds for candidate in candidates) == 1


async def test_who_never_led_gives_nothing_back(world: World) -> None:
    one, two = world.candidate("one"), world.candidate("two")
    await one.acquire()
    await two._try_to_hold()
    await two.release()
    assert await world.holder() == "one"
