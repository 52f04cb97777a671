"""What a next version of Slipway might have left in a status: the same status with one value changed at a time."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from slipway.api.crds import RESOURCES, root_schema
from slipway.api.kinds import Kind, Object


class Changed(NamedTuple):
    """where: the place and what stands there now."""

    where: str
    status: Object


def next_versions(kind: Kind, status: Object) -> Iterator[Changed]:
    """Every value of the status in turn, as a version that knows more, other or longer values may write it."""
    resource = next(one for one in RESOURCES if one.kind == kind)
    yield from _changed(root_schema(resource)["properties"]["status"], status, ())


def _changed(schema: Object, status: Object, path: tuple[Any, ...]) -> Iterator[Changed]:
    value = _at(status, path)
    for what, other in _others(schema, value):
        changed = copy.deepcopy(status)
        if path:
            _at(changed, path[:-1])[path[-1]] = other
            yield Changed(f"{'.'.join(map(str, path))}: {what}", changed)
        elif isinstance(other, dict):
            yield Changed(what, other)
    if isinstance(value, dict):
        for name in value:
            inner = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if isinstance(inner, dict):
                yield from _changed(inner, status, (*path, name))
            without = copy.deepcopy(status)
            del _at(without, path)[name]
            yield Changed(f"{'.'.join(map(str, (*path, name)))}: missing", without)
    if isinstance(value, list):
        for index in range(len(value)):
            yield from _changed(schema["items"], status, (*path, index))


def _others(schema: Object, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield "another type", "text"
        yield "null", None
        yield "an unknown field", {**value, "fromTheNextVersion": {"a": [1]}}
    elif isinstance(value, list):
        yield "another type", {"a": 1}
        if value and (limit := schema.get("maxItems")):
            yield "too many items", [_renamed(value[-1], number) for number in range(limit + 1 - len(value))] + value
            yield "a newer item of another shape", [*value, {"fromTheNextVersion": True}]
    elif isinstance(value, str):
        yield "another type", 7
        yield "an unknown value", "FromTheNextVersion?"
        if limit := schema.get("maxLength"):
            yield "too long", value + "x" * limit
    elif isinstance(value, bool):
        yield "another type", "yes"
    elif isinstance(value, int | float):
        yield "another type", "many"
        yield "out of range", -(2**53)
        yield "too large", 2**53


def _renamed(item: Any, number: int) -> Any:
    """Another item of the list."""
    if not isinstance(item, dict):
        return item
    text = json.dumps(item)
    for name in ("name", "type", "job", "digest"):
        if isinstance(mark := item.get(name), str):
            other = mark[:-2] + f"{number % 100:02d}" if name == "digest" else f"{mark[:20]}{number}"
            text = text.replace(json.dumps(mark), json.dumps(other))
    return json.loads(text)


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        value = value[part]
    return value
