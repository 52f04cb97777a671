"""An operator process whose watches lag, each kind by a time of its own, and tell again what they told before."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from support.apiserver import ApiServer
from support.http_proxy import Retelling, http_proxy
from support.operator_process import running_operator
from support.stream import streams_to
from support.training_cluster import wait_for

SETTLE_SECONDS = 120
LAGS = {"jobs": 0.2, "pods": 2.0, "services": 1.0, "trainingjobs": 1.5}
"""Seconds; a Job is seen to have ended while its pods seem to run, a parent's status after its children's."""
AGAIN = 4
"""The newest events are told again after each one, in their order, as when a watch begins again at an old version."""
AGAIN_SECONDS = 0.1
"""Before each of them: long enough to act on it."""


async def late(resource: str, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    delivered: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()

    async def hear() -> None:
        async for line in lines:
            delivered.put_nowait((loop.time() + LAGS.get(resource, 0.5), line))
        delivered.put_nowait(None)

    hearing = asyncio.ensure_future(hear())
    try:
        while (told := await delivered.get()) is not None:
            due, line = told
            await asyncio.sleep(due - loop.time())
            yield line
    finally:
        hearing.cancel()


async def again(_resource: str, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    told: deque[bytes] = deque(maxlen=AGAIN)
    async for line in lines:
        yield line
        if b'"type":"BOOKMARK"' in line:
            continue
        told.append(line)
        for old in tuple(told):
            await asyncio.sleep(AGAIN_SECONDS)
            yield old


async def late_and_again(resource: str, lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for line in again(resource, late(resource, lines)):
        yield line


@pytest.mark.parametrize("retelling", [late, again, late_and_again])
def test_every_training_runs_once_although_watches_are(
    apiserver: ApiServer, tmp_path: Path, retelling: Retelling
) -> None:
    names = [f"job-{number}" for number in range(3)]
    place = f"lagging-{uuid4().hex[:8]}"
    kubeconfig = tmp_path / "kubeconfig"
    with (
        streams_to(apiserver.kubeconfig, place) as (stream,),
        http_proxy(apiserver, kubeconfig, retelling=retelling),
        running_operator(kubeconfig, tmp_path / "log", "--no-leader-election", "--namespace", place) as operator,
    ):
        operator.wait_until_ready()
        stream.make(names)
        wait_for(lambda: not stream.work() and stream.succeeded() == len(names), "success", SETTLE_SECONDS)
        for job in stream.training_jobs():
            assert [attempt["outcome"] for attempt in job["status"]["attempts"]] == ["Succeeded"]
            assert job["status"]["artifact"]["digest"]
        if retelling is late:  # what is late by less than five seconds is waited for, and not read from the store
            assert len(stream.jobs()) == len(names)
        assert operator.process.poll() is None
        assert "Traceback" not in (tmp_path / "log").read_text()
