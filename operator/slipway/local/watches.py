"""What the watches of an operator show of a twin: every change of what is ours, and nothing of what stands apart."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from slipway.api.kinds import WATCHED, Kind, Object, key_of, kind_of
from slipway.cluster.twin import Change
from slipway.reconcile.cache import Cache
from slipway.reconcile.feed import Feed
from slipway.reconcile.references import stands_apart

Listed = Callable[[Kind], Awaitable[Sequence[Object]]]


class TwinWatches:
    """Feeds an operator from a twin, by lists and by changes; to a watch, what loses the selected label is deleted."""

    def __init__(self, cache: Cache, feed: Feed) -> None:
        self._cache = cache
        self._feed = feed
        self._shown: set[str] = set()  # UIDs of what the watches show

    async def relist(self, listed: Listed) -> int:
        """List every kind anew; returns how many objects vanished without an event."""
        vanished = 0
        for kind in WATCHED:
            since = self._cache.mark()
            objects = [obj for obj in await listed(kind) if not stands_apart(obj)]
            for obj in objects:
                self._shown.add(obj["metadata"]["uid"])
                self._feed.seen(obj, deleted=False)
            vanished += self._feed.listed(
                kind, [(key.namespace, key.name) for key in map(key_of, objects)], since, None
            )
        return vanished

    def hear(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if kind_of(change.object) not in WATCHED:
                continue
            uid, apart = change.object["metadata"]["uid"], stands_apart(change.object)
            if apart and uid not in self._shown:
                continue
            leaves = apart or change.type == "DELETED"
            (self._shown.discard if leaves else self._shown.add)(uid)
            self._feed.seen(change.object, deleted=leaves)
