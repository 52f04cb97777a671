"""The logs of one container, from the API server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping

import aiohttp

from slipway.api.errors import ClusterError
from slipway.cli.podlogs import Line, Piece, Source, Splitter, drawn
from slipway.cluster.answers import error_of

_STAMPED = re.compile(r"^(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)) (.*)$", re.DOTALL)


class ApiServerLogs:
    """podlogs.Logs on a session that is authorized at one API server."""

    def __init__(self, session: aiohttp.ClientSession, host: str) -> None:
        self._session = session
        self._host = host

    async def lines(self, source: Source, *, follow: bool, after: str, tail: int | None) -> AsyncIterator[Line]:
        """Raises ClusterError where the stream breaks."""
        path = f"/api/v1/namespaces/{source.namespace}/pods/{source.pod}/log"
        query = {"container": source.container, "timestamps": "true", "follow": str(follow).lower()}
        query |= {"sinceTime": _whole_seconds(after)} if after else {}
        query |= {"tailLines": str(tail)} if tail is not None else {}
        at, new, begins = after, True, True
        async for text, more in self._pieces(f"read the log of pod {source.pod}", f"{self._host}{path}", query):
            match = _STAMPED.match(text) if begins else None  # what goes on may look like a time of its own
            at, said = (match[1], match[2]) if match else (at, text)
            new = at > after if match else new
            if new:
                for piece in drawn(said, more=more):
                    yield Line(at, *piece)
            begins = not more

    async def _pieces(self, what: str, url: str, query: Mapping[str, str]) -> AsyncIterator[Piece]:
        splitter = Splitter()
        try:
            async with self._session.get(url, params=query) as response:
                if response.status > 399:
                    raise error_of(what, response.status, await response.read(), response.headers)
                async for chunk in response.content.iter_any():
                    for piece in splitter.feed(chunk):
                        yield piece
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ClusterError(f"{what}: {type(error).__name__}: {error}") from error
        for piece in splitter.end():
            yield piece


def _whole_seconds(at: str) -> str:
    """sinceTime takes whole seconds; the lines of that second that were seen are dropped by their own times."""
    return f"{at[:19]}Z"
