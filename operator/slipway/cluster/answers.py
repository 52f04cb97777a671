"""What an answer of the API server means: the one place where HTTP becomes errors of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping

from slipway.api.errors import AlreadyExists, ClusterError, Conflict, Forbidden, Invalid, NotFound

SHOWN = 256
"""Characters of an answer that is no Status: more may hold secrets of a proxy or a webhook."""

# What the API server answers with 500 although the object is to blame: an apply with a field that the schema lacks,
# and a creation at a version.
_BLAMING = ("failed to create typed patch object", "resourceVersion should not be set on objects to be created")

_BY_CODE: dict[int, type[ClusterError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: Invalid,
}


def error_of(call: str, code: int, body: bytes, headers: Mapping[str, str]) -> ClusterError:
    """The error of an answer above 399.

    call: verb and object for people, as in `create jobs ns/name`. 409 is AlreadyExists or Conflict by Status.reason.
    """
    reason, message = _status_of(body)
    kind = _BY_CODE.get(code, ClusterError)
    if code == 409 and reason == "AlreadyExists":
        kind = AlreadyExists
    elif code == 500 and message.startswith(_BLAMING):
        kind = Invalid
    return kind(f"{call}: {code} {message}", retry_after_seconds=_seconds(headers.get("Retry-After")))


def _status_of(body: bytes) -> tuple[str, str]:
    """Reason and message of a metav1.Status; of anything else no reason, and its beginning."""
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        return str(status.get("reason", "")), str(status.get("message", ""))
    return "", body[: 4 * SHOWN].decode("utf-8", "replace")[:SHOWN]


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds; the API server never sends the form with a date."""
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None
