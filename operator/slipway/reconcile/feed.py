"""The feed: puts the results of watches and lists into the cache, and queues the keys that must be planned again."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from slipway.api.kinds import Key, Kind, Object, key_of
from slipway.reconcile.cache import Cache
from slipway.reconcile.queue import WorkQueue


class Feed:
    """Fills the cache, and while the operator is the leader, the queue.

    kinds: those that have a planner. Before `lead` is called, the feed fills the cache and queues nothing.
    """

    def __init__(self, cache: Cache, queue: WorkQueue, kinds: Collection[Kind]) -> None:
        self._cache = cache
        self._queue = queue
        self._kinds = kinds
        self._leads = False
        self._changed: dict[Key, None] = {}  # changes observed as a standby, the newest last

    def lead(self) -> None:
        """Queue all known resources, the last changed ones first, and from now on every changed one.

        A leader that dies leaves the newest changes unplanned, and planning thousands of unchanged resources takes
        seconds.
        """
        self._leads = True
        for key in reversed(self._changed):
            self._queue.add(key)
        self._changed.clear()
        for kind in self._kinds:
            for obj in self._cache.objects(kind):
                self._queue.add(key_of(obj))

    def on_event(self, obj: Object, *, deleted: bool) -> None:
        """Handle one event of a watch. An event that changes no stored field queues nothing."""
        if deleted:
            self._remove(obj, int(obj["metadata"]["resourceVersion"]))
        elif self._cache.put(obj):
            self._wake(self._cache.affected(obj))

    def on_vanished(self, obj: Object) -> None:
        """Handle the deletion of a cached object that no event reported."""
        self._remove(obj, int(obj["metadata"]["resourceVersion"]) + 1)

    def on_list(self, kind: Kind, names: Collection[tuple[str, str]], since: int, namespace: str | None) -> int:
        """Handle the end of a list of a kind. Return the number of objects that were deleted without an event.

        names: (namespace, name) of its items, which `on_event` got. since: Cache.mark() before the list was requested.
        """
        missing = self._cache.missing(kind, names, since, namespace)
        for obj in missing:
            self.on_vanished(obj)
        return len(missing)

    def _remove(self, obj: Object, version: int) -> None:
        known = self._cache.remove(key_of(obj), obj["metadata"]["uid"], version)
        if known is not None:
            self._wake(self._cache.affected(known))

    def _wake(self, keys: Iterable[Key]) -> None:
        for key in keys:
            if key.kind not in self._kinds:
                continue
            if self._leads:
                self._queue.add(key)
                continue
            self._changed.pop(key, None)
            if self._cache.get(*key) is not None:
                self._changed[key] = None
