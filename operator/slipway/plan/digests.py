"""Digests of what decides a result, over a canonical JSON (sorted keys, no white space)."""

from __future__ import annotations

import json
from hashlib import sha256


def digest_of(value: object) -> str:
    """`sha256:<hex>` of a JSON-ready value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # Half a surrogate pair, as JSON can spell it, is text like any other here.
    return f"sha256:{sha256(text.encode(errors='surrogatepass')).hexdigest()}"


def short(digest: str, length: int = 10) -> str:
    """The first hexadecimal digits: for names."""
    return digest.removeprefix("sha256:")[:length]
