"""Lists into the cache: when a watch begins, when it begins anew (410), and from time to time in case one failed us.

kopf's own lists are made empty (watches.py): it takes from them the version that its watch starts from, and each is
followed by a list of ours, which is newer than that version. So nothing falls between list and watch, and what was
deleted while a watch was broken is noticed, which kopf's lists do not show.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

import structlog

from slipway.api.errors import ClusterError, NotFound
from slipway.api.kinds import Kind, key_of
from slipway.cluster.apiserver import ApiServer
from slipway.reconcile.cache import Cache
from slipway.reconcile.feed import Feed
from slipway.reconcile.references import selector_of

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0


class Scope(NamedTuple):
    """What one watch covers; namespace None for all, and for cluster-scoped kinds."""

    kind: Kind
    namespace: str | None


class Lists:
    """Fills the cache with lists that were asked for by `want`."""

    def __init__(self, api: ApiServer, cache: Cache, feed: Feed, scopes: Iterable[Scope]) -> None:
        self.scopes = frozenset(scopes)
        self._api = api
        self._cache = cache
        self._feed = feed
        self._unlisted = set(self.scopes)
        self._wanted: asyncio.Queue[Scope] = asyncio.Queue()
        self._filled = asyncio.Event()

    @property
    def filled(self) -> bool:
        """Every scope was listed once: the cache shows a whole cluster."""
        return self._filled.is_set()

    async def wait_until_filled(self) -> None:
        await self._filled.wait()

    def want(self, scope: Scope) -> None:
        """List this scope soon, for its watch has just taken its starting point."""
        self._wanted.put_nowait(scope)

    async def run(self) -> None:
        """Make the lists that are wanted, one after another, for ever."""
        while True:
            scope = await self._wanted.get()
            try:
                await self.list(scope)
            except ClusterError as error:
                log.warning("a list failed", scope=_shown(scope), error=str(error))
                await asyncio.sleep(error.retry_after_seconds or RETRY_SECONDS)
                self._wanted.put_nowait(scope)
                continue
            self._unlisted.discard(scope)
            if not self._unlisted:
                self._filled.set()

    async def resync(self, every_seconds: float) -> None:
        """Compare all scopes with what is known, for ever: a watch may have lost something without a word."""
        while True:
            await asyncio.sleep(every_seconds)
            for scope in sorted(self.scopes, key=str):
                try:
                    if await self._differs(scope):
                        await self.list(scope)
                except ClusterError as error:
                    log.warning("a resync failed", scope=_shown(scope), error=str(error))

    async def revisit_strangers(self, every_seconds: float) -> None:
        """Look again, for ever, at objects that stand in our way and that no watch shows: they lack our label."""
        while True:
            await asyncio.sleep(every_seconds)
            for obj in self._cache.unmanaged:
                try:
                    self._feed.seen(await self._api.get(key_of(obj)), deleted=False)
                except NotFound:
                    self._feed.vanished(obj)
                except ClusterError as error:
                    log.warning("could not look again", error=str(error))

    async def list(self, scope: Scope) -> None:
        """Bring the cache to what the API server has of a scope. Raises ClusterError."""
        since = self._cache.mark()
        names = []
        async for page in self._api.pages(scope.kind, scope.namespace, selector_of(scope.kind)):
            for obj in page:
                self._feed.seen(obj, deleted=False)
                names.append((obj["metadata"].get("namespace", ""), obj["metadata"]["name"]))
            await asyncio.sleep(0)  # other tasks need the loop too: a page takes some 50 ms
        vanished = self._feed.listed(scope.kind, names, since, scope.namespace)
        log.debug("listed", scope=_shown(scope), objects=len(names), vanished=vanished)

    async def _differs(self, scope: Scope) -> bool:
        since = self._cache.mark()
        names = []
        async for page in self._api.pages(scope.kind, scope.namespace, selector_of(scope.kind), metadata_only=True):
            for obj in page:
                meta = obj["metadata"]
                names.append((meta.get("namespace", ""), meta["name"]))
                known = self._cache.get(*key_of(obj))
                if known is None or int(known["metadata"]["resourceVersion"]) < int(meta["resourceVersion"]):
                    return True
            await asyncio.sleep(0)
        return bool(self._cache.missing(scope.kind, names, since, scope.namespace))


def _shown(scope: Scope) -> str:
    return f"{scope.kind.plural} in {scope.namespace or 'all namespaces'}"
