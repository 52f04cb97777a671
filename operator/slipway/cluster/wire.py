"""A write as it stands on the wire: JSON, of a size that etcd takes. The twin passes its writes through the same."""

from __future__ import annotations

import json
from typing import Any

import orjson

from slipway.api.errors import ClusterError, Invalid
from slipway.api.kinds import Object

MAX_BYTES = 1_572_864
"""The largest object that etcd takes (--max-request-bytes, 1.5 MiB)."""


def encode(call: str, body: Any) -> bytes:
    """The JSON of a request. call: for people, as in `create jobs ns/name`.

    Raises Invalid for an integer of more than 64 bits and for a lone surrogate. NaN and infinity become null, which
    deletes in a patch.
    """
    try:
        return orjson.dumps(body)
    except TypeError as error:  # orjson.JSONEncodeError is one
        raise Invalid(f"{call}: the request is no JSON: {error}") from error


def received(call: str, body: Object) -> Object:
    """The object as the other end reads it. Raises Invalid as `encode`, and ClusterError where it is too large."""
    encoded = encode(call, body)
    if len(encoded) > MAX_BYTES:
        raise ClusterError(f"{call}: 500 etcdserver: request is too large ({len(encoded)} bytes)")
    decoded: Object = orjson.loads(encoded)
    return decoded


def check_size(call: str, obj: Object) -> None:
    """Raise ClusterError where an object is too large. It may be nested deeper than orjson writes (254 levels)."""
    try:
        size = len(orjson.dumps(obj))
    except TypeError:
        size = len(json.dumps(obj, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_BYTES:
        raise ClusterError(f"{call}: 500 etcdserver: request is too large ({size} bytes)")
