"""An operator process whose API server refuses, fails, hangs or cuts the connection, once for every verb and kind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import pytest
from aiohttp import web

from support.apiserver import ApiServer
from support.http_proxy import CarryOut, cut, http_proxy
from support.operator_process import running_operator
from support.stream import streams_to
from support.training_cluster import wait_for

SETTLE_SECONDS = 120
Fault = Callable[[web.Request, CarryOut], Awaitable[web.Response]]


def answers(code: int, reason: str, **headers: str) -> Fault:
    status = {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": "a fault of the test"}

    async def fault(_request: web.Request, _carry_out: CarryOut) -> web.Response:
        return web.json_response(status, status=code, headers=headers)

    return fault


async def cuts(request: web.Request, _carry_out: CarryOut) -> web.Response:
    cut(request)
    return web.Response()


async def loses_the_answer(request: web.Request, carry_out: CarryOut) -> web.Response:
    if "watch" not in request.query:
        await carry_out()
    cut(request)
    return web.Response()


async def hangs(request: web.Request, _carry_out: CarryOut) -> web.Response:
    """A creation, for longer than a call may take; the other calls are cut, for some may take a minute."""
    if request.method == "POST":
        await asyncio.Event().wait()
    return await cuts(request, _carry_out)


FAULTS: dict[str, Fault] = {
    "429 with Retry-After": answers(429, "TooManyRequests", **{"Retry-After": "1"}),
    "500": answers(500, "InternalError"),
    "503": answers(503, "ServiceUnavailable"),
    "a cut connection": cuts,
    "a lost answer": loses_the_answer,
    "silence": hangs,
}


class EachVerbMeets:
    """The first call of every verb on every resource meets the fault. met: verbs and resources."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self.met: set[tuple[str, str]] = set()

    async def meddle(self, request: web.Request, carry_out: CarryOut) -> web.Response | None:
        parts = request.path.strip("/").split("/")
        if "namespaces" not in parts:
            return None
        after = parts.index("namespaces") + 2
        verb = "WATCH" if "watch" in request.query else request.method
        asked = (verb, "/".join([*parts[after : after + 1], *parts[after + 2 :]]))
        if asked in self.met:
            return None
        self.met.add(asked)
        return await self._fault(request, carry_out)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_training_comes_to_its_end_although_every_verb_meets(
    apiserver: ApiServer, tmp_path: Path, fault: str
) -> None:
    faults = EachVerbMeets(FAULTS[fault])
    place = f"api-faults-{uuid4().hex[:8]}"
    kubeconfig = tmp_path / "kubeconfig"
    with (
        streams_to(apiserver.kubeconfig, place) as (stream,),
        http_proxy(apiserver, kubeconfig, faults.meddle),
        running_operator(kubeconfig, tmp_path / "log", "--no-leader-election", "--namespace", place) as operator,
    ):
        operator.wait_until_ready()
        stream.make(["one"], nodes=2, ttlAfterFinished="10s")
        wait_for(lambda: not stream.work() and stream.succeeded() == 1, "success", SETTLE_SECONDS)
        (job,) = stream.training_jobs()
        assert [attempt["number"] for attempt in job["status"]["attempts"]] == [1]
        assert len(stream.jobs()) == 1
        wait_for(lambda: ("DELETE", "networkpolicies") in faults.met, "its children to go", SETTLE_SECONDS)
        assert operator.process.poll() is None
    written = {("POST", "jobs"), ("PATCH", "services"), ("PATCH", "networkpolicies"), ("PATCH", "trainingjobs/status")}
    read = {("GET", "trainingjobs"), ("WATCH", "trainingjobs"), ("GET", "pods"), ("WATCH", "pods")}
    assert written | read | {("DELETE", "services"), ("POST", "events")} <= faults.met
