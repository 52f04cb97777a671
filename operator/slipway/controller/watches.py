"""Watches and lists that fill the cache. kopf watches and does nothing else: it stores nothing and decides nothing.

kopf's own lists are made empty: it takes from them the version that its watch starts from, and each is followed by a
list of ours, which is newer than that version. So nothing falls between list and watch, and the cache notices what was
deleted while a watch was broken, which kopf's lists do not show.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import aiohttp
import kopf
import structlog
from aiohttp.client_middlewares import ClientHandlerType

from slipway.api.errors import ClusterError, NotFound
from slipway.api.kinds import GROUP, WATCHED, Kind, key_of
from slipway.cluster.apiserver import ApiServer, collection_path
from slipway.cluster.connection import CONNECT_SECONDS, Connection
from slipway.reconcile.cache import Cache
from slipway.reconcile.feed import Feed
from slipway.reconcile.references import selector_of

WATCH_SECONDS = 300
NOTHING = "metadata.name=-"
"""A field selector that matches no object: `-` is not a valid name."""


def build_registry(feed: Feed, login: Callable[[], Any]) -> kopf.OperatorRegistry:
    """Return handlers that pass the events of all watched kinds to the feed. login: opens a new kopf session."""
    registry = kopf.OperatorRegistry()

    async def seen(event: Mapping[str, Any], **_: Any) -> None:
        feed.on_event(event["object"], deleted=event["type"] == "DELETED")

    async def credentials(**_: Any) -> Any:
        return login()

    for kind in WATCHED:
        on_event = kopf.on.event(
            group=kind.group, version=kind.version, plural=kind.plural, id=kind.plural, registry=registry
        )
        on_event(seen)
    kopf.on.login(registry=registry)(credentials)
    return registry


def build_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True  # we have a Lease of our own, and a standby watches too
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.connect_timeout = CONNECT_SECONDS
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = CONNECT_SECONDS
    settings.networking.error_backoffs = [1, 1, 2, 3, 5, 8, 13, 21, 30, 30, 30, 30, 30, 30, 30, 30]
    settings.queueing.idle_timeout = 0.5  # of the task that each changed object gets
    settings.queueing.exit_timeout = 0.5
    settings.persistence.finalizer = f"{GROUP}/unused"
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.persistence.progress_storage = _NoProgress()
    for kind in WATCHED:
        if selector := selector_of(kind):
            settings.watching.label_selectors[kind.group, kind.version, kind.plural] = selector
    return settings


def open_session(connection: Connection, want: Callable[[Scope], None]) -> kopf.AiohttpSession:
    """Return a kopf session with fresh tokens and counted calls, whose lists are empty and reported.

    want: called for each list after its answer; the watch that follows starts from that answer's version.
    """

    async def middleware(request: aiohttp.ClientRequest, call: ClientHandlerType) -> aiohttp.ClientResponse:
        if authorization := await connection.authorization():
            request.headers["Authorization"] = authorization
        scope = None if "watch" in request.url.query else _scope_of(request.url.path)
        if scope is not None:
            request.url = request.url.update_query(fieldSelector=NOTHING, limit="1")
        try:
            response = await call(request)
        except (aiohttp.ClientError, TimeoutError):
            connection.on_answer(request.method, 0)
            raise
        connection.on_answer(request.method, response.status)
        if scope is not None and response.ok:
            want(scope)
        return response

    session = connection.session(middlewares=(middleware,), read_bufsize=2**21)  # one event is one line
    return kopf.AiohttpSession(server=connection.host, aiohttp_session=session)


def _scope_of(path: str) -> Scope | None:
    """Return the scope of a list's path; None if it is not a list of a watched kind (discovery, say)."""
    parts = path.strip("/").split("/")
    namespace = parts[-2] if len(parts) > 3 and parts[-3] == "namespaces" else None
    kind = _KINDS.get(parts[-1])
    return Scope(kind, namespace) if kind and path == collection_path(kind, namespace) else None


_KINDS: dict[str, Kind] = {kind.plural: kind for kind in WATCHED}


class _NoDiffs(kopf.DiffBaseStorage):
    """Stores nothing: level-triggered code does not need what was handled last."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """Stores nothing: only `on.event` is used, which has no progress."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0


class Scope(NamedTuple):
    """The kind and namespace of one watch; namespace None for all, and for cluster-scoped kinds."""

    kind: Kind
    namespace: str | None


class Lists:
    """Fills the cache with the lists that `want` requests."""

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
        """True once every scope was listed, so that the cache is complete."""
        return self._filled.is_set()

    async def wait_until_filled(self) -> None:
        await self._filled.wait()

    def want(self, scope: Scope) -> None:
        """List this scope soon: its watch has just got its starting version."""
        self._wanted.put_nowait(scope)

    async def run(self) -> None:
        """List the requested scopes, one after another, for ever."""
        while True:
            scope = await self._wanted.get()
            try:
                await self.list(scope)
            except ClusterError as error:
                log.warning("could not list", scope=_describe(scope), error=str(error))
                await asyncio.sleep(error.retry_after_seconds or RETRY_SECONDS)
                self._wanted.put_nowait(scope)
                continue
            self._unlisted.discard(scope)
            if not self._unlisted:
                self._filled.set()

    async def resync(self, every_seconds: float) -> None:
        """Compare all scopes with the cache, for ever: a watch may have lost events without an error."""
        while True:
            await asyncio.sleep(every_seconds)
            for scope in sorted(self.scopes, key=str):
                try:
                    if await self._differs(scope):
                        await self.list(scope)
                except ClusterError as error:
                    log.warning("could not resync", scope=_describe(scope), error=str(error))

    async def revisit_unmanaged(self, every_seconds: float) -> None:
        """Look again, for ever, at objects that stand in our way and that no watch shows: they lack our label."""
        while True:
            await asyncio.sleep(every_seconds)
            for obj in self._cache.unmanaged:
                try:
                    self._feed.on_event(await self._api.get(key_of(obj)), deleted=False)
                except NotFound:
                    self._feed.on_vanished(obj)
                except ClusterError as error:
                    log.warning("could not read a foreign object", error=str(error))

    async def list(self, scope: Scope) -> None:
        """Update the cache to what the API server lists of a scope. Raises ClusterError."""
        since = self._cache.mark()
        names = []
        async for page in self._api.pages(scope.kind, scope.namespace, selector_of(scope.kind)):
            for obj in page:
                self._feed.on_event(obj, deleted=False)
                names.append((obj["metadata"].get("namespace", ""), obj["metadata"]["name"]))
            await asyncio.sleep(0)  # let other tasks run: a page takes some 50 ms
        vanished = self._feed.on_list(scope.kind, names, since, scope.namespace)
        log.debug("listed", scope=_describe(scope), objects=len(names), vanished=vanished)

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


def _describe(scope: Scope) -> str:
    return f"{scope.kind.plural} in {scope.namespace or 'all namespaces'}"
