"""Digests of what decides a result, over a canonical JSON (sorted keys, no white space)."""

from __future__ import annotations

import json
from hashlib import sha256


def digest_of(value: object) -> str:
    """`sha256:<hex>` of a JSON-ready value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return f"sha256:{sha256(text.encode()).hexdigest()}"


def short(digest: str, length: int = 10) -> str:
    """The first hexadecimal digits: for names."""
    return digest.removeprefix("sha256:")[:length]


def by_content(value: object) -> object:
    """The JSON value with every reference (`uri` and `digest`) replaced by its digest: what it is, not where."""
    if isinstance(value, dict):
        if "uri" in value and "digest" in value:
            return value["digest"]
        return {key: by_content(item) for key, item in value.items()}
    if isinstance(value, list):
        return [by_content(item) for item in value]
    return value
