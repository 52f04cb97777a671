"""What an API server, or the way to it, may answer instead: as the port's side to a real one would raise it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import TypeVar

from slipway.api.errors import ClusterError
from slipway.cluster.port import Write
from slipway.cluster.wire import parse_error
from support.calls import Interference

T = TypeVar("T")
VERBS = ("create", "apply", "patch_status", "delete")

Wrong = Callable[[Write, Callable[[], Awaitable[T]]], Awaitable[T]]
"""What comes of a call that goes wrong: it raises, the call being carried out or not."""


def refusal(code: int, reason: str, headers: Mapping[str, str] | None = None, message: str = "") -> Wrong[object]:
    async def wrong(write: Write, _call: Callable[[], Awaitable[T]]) -> T:
        said = "AlreadyExists" if code == 409 and write.verb == "create" else reason
        status = {"kind": "Status", "reason": said, "message": message or said, "code": code}
        raise parse_error(f"{write.verb} {write.kind} {write.name}", code, json.dumps(status).encode(), headers or {})

    return wrong


async def timed_out(write: Write, call: Callable[[], Awaitable[T]]) -> T:
    """The call was carried out, and the answer was lost."""
    await call()
    raise ClusterError(f"{write.verb} {write.kind} {write.name}: no answer within 30 s")


async def cut(write: Write, _call: Callable[[], Awaitable[T]]) -> T:
    """The connection went before the call arrived."""
    raise ClusterError(f"{write.verb} {write.kind} {write.name}: ServerDisconnectedError: Server disconnected")


WRONGS: dict[str, Wrong[object]] = {
    "409": refusal(409, "Conflict"),
    "429": refusal(429, "TooManyRequests", {"Retry-After": "7"}),
    "500": refusal(500, "InternalError"),
    "503": refusal(503, "ServiceUnavailable"),
    "quota": refusal(403, "Forbidden", message="forbidden: exceeded quota: few, used: count=1, limited: count=1"),
    "webhook denies": refusal(400, "BadRequest", message='admission webhook "no.example.com" denied the request'),
    "webhook is slow": refusal(500, "InternalError", message="failed calling webhook: context deadline exceeded"),
    "time-out": timed_out,
    "cut connection": cut,
}


def at_write(number: int, wrong: Wrong[object]) -> Interference[object]:
    async def interfere(count: int, write: Write, call: Callable[[], Awaitable[T]]) -> T:
        return await (wrong(write, call) if count == number else call())

    return interfere


def every_other(verb: str, wrong: Wrong[object]) -> Interference[object]:
    """Of the writes of a verb, the first goes wrong, the third, the fifth, ..."""
    met = 0

    async def interfere(_count: int, write: Write, call: Callable[[], Awaitable[T]]) -> T:
        nonlocal met
        met += write.verb == verb
        return await (wrong(write, call) if write.verb == verb and met % 2 else call())

    return interfere


MOST_IN_A_ROW = 3
"""Random wrongs of one call: no back-off then outlasts the deadlines and grace periods that scenarios are about."""


def at_random(random: Random, share: float) -> Interference[object]:
    """So large a share of all calls goes wrong, in any way, but none more than MOST_IN_A_ROW times in a row."""
    in_a_row: Counter[Write] = Counter()

    async def interfere(_count: int, write: Write, call: Callable[[], Awaitable[T]]) -> T:
        wrong = random.choice(list(WRONGS.values()))
        goes_wrong = random.random() < share and in_a_row[write] < MOST_IN_A_ROW
        in_a_row[write] = in_a_row[write] + 1 if goes_wrong else 0
        return await (wrong(write, call) if goes_wrong else call())

    return interfere
