"""Which requests of kopf are lists of ours, by their paths."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from slipway.api.errors import ClusterError
from slipway.api.kinds import GPU_POOL, POD, SERVICE, TRAINING_JOB, WATCHED, Key, Kind, Object, key_of
from slipway.cluster.apiserver import ApiServer, collection_path
from slipway.cluster.twin import Twin
from slipway.controller.watches import Lists, Scope, _scope_of
from slipway.reconcile.cache import Cache
from slipway.reconcile.feed import Feed
from slipway.reconcile.queue import WorkQueue
from slipway.reconcile.references import MANAGED


@pytest.mark.parametrize("kind", WATCHED, ids=str)
def test_every_watched_kind_is_recognised(kind: Kind) -> None:
    assert _scope_of(collection_path(kind, None)) == Scope(kind, None)
    if kind.namespaced:
        assert _scope_of(collection_path(kind, "team")) == Scope(kind, "team")


@pytest.mark.parametrize(
    "path",
    [
        "/apis",
        "/api",
        "/api/v1",
        "/apis/slipway.dev/v1alpha1",
        "/apis/other.dev/v1/trainingjobs",
        "/api/v1/namespaces/team/pods/one",
        "/api/v1/namespaces",
        "/version",
    ],
)
def test_other_requests_are_no_lists_of_ours(path: str) -> None:
    assert _scope_of(path) is None


def test_paths_follow_the_api_conventions() -> None:
    assert collection_path(POD, "team") == "/api/v1/namespaces/team/pods"
    assert collection_path(TRAINING_JOB, None) == "/apis/slipway.dev/v1alpha1/trainingjobs"
    assert collection_path(GPU_POOL, "") == "/apis/slipway.dev/v1alpha1/gpupools"


JOBS, SERVICES = Scope(TRAINING_JOB, None), Scope(SERVICE, None)


class Pages:
    """The twin's objects in pages of two; the first answers may be errors."""

    def __init__(self, twin: Twin) -> None:
        self.twin = twin
        self.errors: list[ClusterError] = []
        self.full = 0

    async def pages(
        self, kind: Kind, namespace: str | None = None, selector: str = "", *, metadata_only: bool = False
    ) -> AsyncIterator[Sequence[Object]]:
        if self.errors:
            raise self.errors.pop()
        self.full += not metadata_only
        labels = dict([selector.split("=")]) if selector else None
        found = await self.twin.list(kind, namespace, labels)
        for start in range(0, len(found), 2):
            page = found[start : start + 2]
            yield [_metadata(obj) for obj in page] if metadata_only else page

    async def get(self, key: Key) -> Object:
        return await self.twin.get(key)


def _metadata(obj: Object) -> Object:
    return {field: obj[field] for field in ("apiVersion", "kind", "metadata")}


class World:
    def __init__(self) -> None:
        self.twin = Twin(lambda: datetime(2026, 1, 2, tzinfo=UTC))
        self.pages = Pages(self.twin)
        self.cache = Cache()
        self.queue = WorkQueue(lambda: 0.0)
        self.feed = Feed(self.cache, self.queue, [TRAINING_JOB])
        self.feed.lead()
        self.lists = Lists(cast(ApiServer, self.pages), self.cache, self.feed, [JOBS, SERVICES])

    def add(self, name: str, kind: Kind = TRAINING_JOB, **metadata: Any) -> Object:
        meta = {"name": name, "namespace": "default", **metadata}
        return self.twin.add({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, "spec": {}})

    def woken(self) -> set[str]:
        names = set()
        while (key := self.queue.take()) is not None:
            self.queue.done(key)
            names.add(key.name)
        return names


@pytest.fixture
def world() -> World:
    return World()


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_the_caches_are_filled_when_every_scope_was_listed_once(world: World) -> None:
    for name in ("a", "b", "c"):
        world.add(name)
    running = asyncio.create_task(world.lists.run())
    world.lists.want(JOBS)
    await until(lambda: world.cache.get(TRAINING_JOB, "default", "c"))
    assert not world.lists.filled
    world.lists.want(SERVICES)
    await asyncio.wait_for(world.lists.wait_until_filled(), 5)
    running.cancel()
    assert world.woken() == {"a", "b", "c"}


async def test_a_list_that_fails_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.controller.watches.RETRY_SECONDS", 0.0)
    world.add("a")
    world.pages.errors = [ClusterError("503"), ClusterError("no answer")]
    running = asyncio.create_task(world.lists.run())
    for scope in world.lists.scopes:
        world.lists.want(scope)
    await asyncio.wait_for(world.lists.wait_until_filled(), 5)
    running.cancel()
    assert world.woken() == {"a"}


async def test_a_new_list_shows_what_vanished_while_no_watch_ran(world: World) -> None:
    for name in ("a", "b"):
        world.add(name)
    await world.lists.list(JOBS)
    world.woken()
    world.twin.remove(Key(TRAINING_JOB, "default", "a"))
    await world.lists.list(JOBS)
    assert world.cache.get(TRAINING_JOB, "default", "a") is None
    assert world.woken() == {"a"}


async def test_a_comparison_that_finds_nothing_lists_nothing(world: World) -> None:
    world.add("a")
    await world.lists.list(JOBS)
    count = world.pages.full
    assert not await world.lists._differs(JOBS)
    assert world.pages.full == count


@pytest.mark.parametrize("missed", ["an addition", "a change", "a deletion"])
async def test_a_comparison_finds_what_a_watch_missed(world: World, missed: str) -> None:
    made = world.add("a")
    await world.lists.list(JOBS)
    if missed == "an addition":
        world.add("b")
    elif missed == "a deletion":
        world.twin.remove(key_of(made))
    else:
        world.twin.edit(key_of(made), lambda obj: obj["spec"].update(suspend=True))
    assert await world.lists._differs(JOBS)


async def test_an_object_in_our_way_is_not_taken_for_vanished_and_is_looked_at_again(world: World) -> None:
    owner = {"apiVersion": TRAINING_JOB.api_version, "kind": "TrainingJob", "name": "train", "controller": True}
    theirs = world.add("theirs", SERVICE, ownerReferences=[{**owner, "uid": "u"}])
    world.add("ours", SERVICE, labels=MANAGED)
    world.cache.put(theirs)
    await world.lists.list(SERVICES)
    assert world.cache.get(SERVICE, "default", "theirs") is not None
    world.woken()
    world.twin.remove(key_of(theirs))
    looking = asyncio.create_task(world.lists.revisit_unmanaged(0.0))
    await until(lambda: world.cache.get(SERVICE, "default", "theirs") is None)
    looking.cancel()
    assert world.woken() == {"train"}
