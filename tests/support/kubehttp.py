"""A Cluster behind HTTP, as far as the command line reads one: objects, lists, logs. KUBECONFIG leads to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from slipway.api.kinds import WATCHED, Kind, Object
from support.builders import NAMESPACE

_KINDS: dict[tuple[str, str], Kind] = {(kind.api_version, kind.plural): kind for kind in WATCHED}


@dataclass
class KubeHttp:
    """What the server answers with. A state is all objects of one moment; each list of pods or get moves on by one.

    logs: lines by pod, each behind its RFC 3339 time. answers: by path, for what is of none of our kinds; a function
    gets the body that was sent. refuse: a status code for every call. away: which calls, counted
    from 0, get 503 instead.
    """

    states: Sequence[Sequence[Object]]
    logs: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, Object | Callable[[Any], Object]] = field(default_factory=dict)
    refuse: int | None = None
    away: frozenset[int] | set[int] = frozenset()
    calls: int = 0
    queries: list[dict[str, str]] = field(default_factory=list)
    looks: int = 0

    @contextmanager
    def serving(self, folder: Path) -> Iterator[str]:
        """The path of a kubeconfig for the server, which lives as long as the block."""
        loop, started = asyncio.new_event_loop(), threading.Event()
        urls: list[str] = []

        async def run() -> None:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", self._answer)
            runner = web.AppRunner(app)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
            started.set()
            await stop.wait()
            await runner.cleanup()

        stop = asyncio.Event()
        thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
        thread.start()
        try:
            assert started.wait(10)
            path = folder / "kubeconfig"
            path.write_text(yaml.safe_dump(kubeconfig(urls[0])))
            yield str(path)
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(10)
            loop.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.calls += 1
        if self.calls - 1 in self.away:
            return _status(503, "away")
        if self.refuse:
            return _status(self.refuse, "refused")
        if (answer := self.answers.get(request.path)) is not None:
            return web.json_response(answer(await request.json()) if callable(answer) else answer)
        parts = request.path.strip("/").split("/")
        version, rest = ("v1", parts[2:]) if parts[0] == "api" else ("/".join(parts[1:3]), parts[3:])
        namespace = rest[1] if rest[0] == "namespaces" and len(rest) > 2 else None
        plural, *name = rest[2:] if namespace else rest
        if name[1:] == ["log"]:
            self.queries.append(dict(request.query))
            return web.Response(text=self.logs[name[0]])
        kind = _KINDS.get((version, plural))
        present = self.states[min(self.looks, len(self.states) - 1)]
        chosen = [obj for obj in present if kind and obj["kind"] == kind.kind]
        chosen = [obj for obj in chosen if namespace in (None, obj["metadata"].get("namespace"))]
        if name:
            found = next((obj for obj in chosen if obj["metadata"]["name"] == name[0]), None)
            self.looks += plural == "trainingjobs"
            return web.json_response(found) if found else _status(404, f'{plural} "{name[0]}" not found')
        wanted = [pair.split("=") for pair in request.query.get("labelSelector", "").split(",") if pair]
        chosen = [obj for obj in chosen if all(obj["metadata"].get("labels", {}).get(k) == v for k, v in wanted)]
        return web.json_response({"kind": "List", "metadata": {}, "items": chosen})


def kubeconfig(url: str, namespace: str = NAMESPACE) -> dict[str, Any]:
    """One context, `here`, without credentials."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": namespace}}],
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
    }


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "message": message, "reason": ""}, status=code)
