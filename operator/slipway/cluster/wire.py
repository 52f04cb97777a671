"""Requests and answers on the wire: JSON of a size that etcd takes, and HTTP codes as errors.

The twin encodes its writes by the same functions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from slipway.api.errors import AlreadyExists, ClusterError, Conflict, Forbidden, Invalid, NotFound
from slipway.api.kinds import Object

MAX_BYTES = 1_572_864
"""Size limit of an object in etcd (--max-request-bytes, 1.5 MiB)."""


def encode(call: str, body: Any) -> bytes:
    """Return the JSON of a request. call: verb and object for messages, as in `create jobs ns/name`.

    Raises Invalid for an integer of more than 64 bits and for a lone surrogate. NaN and infinity become null, which
    deletes in a patch.
    """
    try:
        return orjson.dumps(body)
    except TypeError as error:  # orjson.JSONEncodeError is one
        raise Invalid(f"{call}: the request is not JSON: {error}") from error


def round_trip(call: str, body: Object) -> Object:
    """Return the object as the other end reads it. Raises Invalid as `encode`, and ClusterError if it is too large."""
    encoded = encode(call, body)
    if len(encoded) > MAX_BYTES:
        raise ClusterError(f"{call}: 500 etcdserver: request is too large ({len(encoded)} bytes)")
    decoded: Object = orjson.loads(encoded)
    return decoded


def check_size(call: str, obj: Object) -> None:
    """Raise ClusterError if an object is too large. It may be nested deeper than orjson writes (254 levels)."""
    try:
        size = len(orjson.dumps(obj))
    except TypeError:
        size = len(json.dumps(obj, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_BYTES:
        raise ClusterError(f"{call}: 500 etcdserver: request is too large ({size} bytes)")


SHOWN = 256
"""Limit of characters of an answer that is not a Status: more could show secrets of a proxy or a webhook."""

# The API server answers 500 although the object is invalid: an apply with a field that the schema lacks, and a creation
# with a resourceVersion.
_INVALID_PREFIXES = (
    "failed to create typed patch object",
    "resourceVersion should not be set on objects to be created",
)

_BY_CODE: dict[int, type[ClusterError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: Invalid,
}


def parse_error(call: str, code: int, body: bytes, headers: Mapping[str, str]) -> ClusterError:
    """Return the error for an answer above 399.

    call: verb and object for messages, as in `create jobs ns/name`. 409 is AlreadyExists or Conflict by Status.reason.
    """
    reason, message = _parse_status(body)
    kind = _BY_CODE.get(code, ClusterError)
    if code == 409 and reason == "AlreadyExists":
        kind = AlreadyExists
    elif code == 500 and message.startswith(_INVALID_PREFIXES):
        kind = Invalid
    return kind(f"{call}: {code} {message}", retry_after_seconds=_parse_seconds(headers.get("Retry-After")))


def _parse_status(body: bytes) -> tuple[str, str]:
    """Return reason and message of a metav1.Status; for other bodies no reason, and their first characters."""
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return str(status.get("reason", "")), str(status.get("message", ""))
    return "", body[: 4 * SHOWN].decode("utf-8", "replace")[:SHOWN]


def _parse_seconds(text: str | None) -> float | None:
    """Return Retry-After in seconds; the API server never sends the form with a date."""
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None
