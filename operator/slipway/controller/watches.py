"""kopf for the watches, and for nothing else: it stores nothing on objects and decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import kopf
from aiohttp.client_middlewares import ClientHandlerType

from slipway.api.kinds import GROUP, WATCHED, Kind
from slipway.cluster.apiserver import collection_path
from slipway.cluster.connection import CONNECT_SECONDS, Connection
from slipway.controller.lists import Scope
from slipway.reconcile.feed import Feed
from slipway.reconcile.references import selector_of

WATCH_SECONDS = 300
NOTHING = "metadata.name=-"
"""A field selector that no object meets: `-` is no name."""


def registry_of(feed: Feed, login: Callable[[], Any]) -> kopf.OperatorRegistry:
    """Handlers that feed the events of all watched kinds. login: makes a kopf session, each time a new one."""
    registry = kopf.OperatorRegistry()

    async def seen(event: Mapping[str, Any], **_: Any) -> None:
        feed.seen(event["object"], deleted=event["type"] == "DELETED")

    async def credentials(**_: Any) -> Any:
        return login()

    for kind in WATCHED:
        on_event = kopf.on.event(
            group=kind.group, version=kind.version, plural=kind.plural, id=kind.plural, registry=registry
        )
        on_event(seen)
    kopf.on.login(registry=registry)(credentials)
    return registry


def settings_of() -> kopf.OperatorSettings:
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


def session_to(connection: Connection, want: Callable[[Scope], None]) -> kopf.AiohttpSession:
    """A kopf session of our own: fresh tokens, counted calls, and lists that are made empty and told of.

    want: hears of each list after it was answered; the watch that follows starts from that answer's version.
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
            connection.told(request.method, 0)
            raise
        connection.told(request.method, response.status)
        if scope is not None and response.ok:
            want(scope)
        return response

    session = connection.session(middlewares=(middleware,), read_bufsize=2**21)  # one event is one line
    return kopf.AiohttpSession(server=connection.host, aiohttp_session=session)


def _scope_of(path: str) -> Scope | None:
    """What a list's path covers; None where it is no list of a watched kind (discovery, say)."""
    parts = path.strip("/").split("/")
    namespace = parts[-2] if len(parts) > 3 and parts[-3] == "namespaces" else None
    kind = _KINDS.get(parts[-1])
    return Scope(kind, namespace) if kind and path == collection_path(kind, namespace) else None


_KINDS: dict[str, Kind] = {kind.plural: kind for kind in WATCHED}


class _NoDiffs(kopf.DiffBaseStorage):
    """Keeps nothing: what was last handled is no question for level-triggered code."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """Keeps nothing: only `on.event` is used, which has no progress."""

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
