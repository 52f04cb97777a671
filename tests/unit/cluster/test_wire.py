"""What HTTP answers of the API server become."""

from __future__ import annotations

import json

import pytest

from slipway.api.errors import AlreadyExists, ClusterError, Conflict, Forbidden, Invalid, NotFound
from slipway.cluster.wire import SHOWN, parse_error


def status(reason: str, message: str = "why") -> bytes:
    return json.dumps({"kind": "Status", "reason": reason, "message": message}).encode()


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", Invalid),
        (401, "Unauthorized", Forbidden),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (409, "AlreadyExists", AlreadyExists),
        (409, "Conflict", Conflict),
        (422, "Invalid", Invalid),
        (429, "TooManyRequests", ClusterError),
        (500, "InternalError", ClusterError),
        (503, "ServiceUnavailable", ClusterError),
    ],
)
def test_an_answer_becomes_the_error_that_says_what_to_do(code: int, reason: str, kind: type[ClusterError]) -> None:
    error = parse_error("create jobs a/b", code, status(reason), {})
    assert type(error) is kind
    assert str(error) == f"create jobs a/b: {code} why"


def test_an_object_that_the_schema_refuses_is_invalid_although_the_server_says_500() -> None:
    refused = status("", "failed to create typed patch object (a/b; /v1, Kind=Service): .spec.foo: field not declared")
    assert type(parse_error("apply services a/b", 500, refused, {})) is Invalid


def test_the_server_says_when_to_come_again() -> None:
    assert parse_error("x", 429, status("TooManyRequests"), {"Retry-After": "7"}).retry_after_seconds == 7.0
    assert parse_error("x", 429, status("TooManyRequests"), {}).retry_after_seconds is None
    assert parse_error("x", 429, b"", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}).retry_after_seconds is None


@pytest.mark.parametrize("body", [b"x" * 5000, b"<html>" + b"\xff" * 5000, b"[1]", b""])
def test_of_an_unknown_answer_little_is_shown(body: bytes) -> None:
    error = parse_error("x", 502, body, {})
    assert type(error) is ClusterError
    assert len(str(error)) <= SHOWN + len("x: 502 ")
