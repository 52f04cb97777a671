"""Calls that are made at once."""

from __future__ import annotations

import asyncio

import pytest

from slipway.api.errors import Forbidden
from slipway.cluster.port import gather_calls


async def test_answers_come_in_the_order_of_the_calls() -> None:
    async def call(number: int) -> int:
        await asyncio.sleep(0.001 * (3 - number))
        return number

    assert await gather_calls(call(number) for number in range(3)) == [0, 1, 2]


async def test_an_error_ends_the_others_before_it_is_raised() -> None:
    ended = asyncio.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fails() -> None:
        await asyncio.sleep(0)
        raise Forbidden("no")

    with pytest.raises(Forbidden, match="no"):
        await gather_calls((waits(), fails()))
    assert ended.is_set()
