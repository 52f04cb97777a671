"""From what watches and lists show to the cache, and on to the keys that must be planned again."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from slipway.api.kinds import Key, Kind, Object, key_of
from slipway.reconcile.cache import Cache
from slipway.reconcile.queue import WorkQueue


class Feed:
    """Keeps the cache, and while it leads, fills the queue.

    kinds: those that have a planner. Until `lead` is called the cache is kept warm and nothing is queued.
    """

    def __init__(self, cache: Cache, queue: WorkQueue, kinds: Collection[Kind]) -> None:
        self._cache = cache
        self._queue = queue
        self._kinds = kinds
        self._leads = False
        self._changed: dict[Key, None] = {}  # as a standby saw it, the newest last

    def lead(self) -> None:
        """Queue everything that is known, what changed last first, and from now on everything that changes.

        A leader dies with the newest changes unanswered, and thousands of resources at rest take seconds to look at.
        """
        self._leads = True
        for key in reversed(self._changed):
            self._queue.add(key)
        self._changed.clear()
        for kind in self._kinds:
            for obj in self._cache.objects(kind):
                self._queue.add(key_of(obj))

    def on_event(self, obj: Object, *, deleted: bool) -> None:
        """One event of a watch. What is known already, or changes nothing that anybody reads, wakes nobody."""
        if deleted:
            self._remove(obj, int(obj["metadata"]["resourceVersion"]))
        elif self._cache.put(obj):
            self._wake(self._cache.affected(obj))

    def on_vanished(self, obj: Object) -> None:
        """What was known is no more, and no event said so."""
        self._remove(obj, int(obj["metadata"]["resourceVersion"]) + 1)

    def on_list(self, kind: Kind, names: Collection[tuple[str, str]], since: int, namespace: str | None) -> int:
        """A list of a kind ended; returns how many objects vanished without an event.

        names: (namespace, name) of its items, which `on_event` got. since: Cache.mark() before it was asked for.
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
