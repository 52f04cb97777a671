"""Places in JSON objects: `spec.data[0].name`, and the objects that differ there."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
Place = tuple[str | int, ...]


def places(obj: Any, pattern: str) -> Iterator[Place]:
    """Where a schema's path (`spec.data[].name`, `{}` for values of a map) occurs in an object."""
    yield from _places(obj, re.findall(r"\[\]|\{\}|[^.\[\]{}]+", pattern), ())


def value_at(obj: Any, place: Place) -> Any:
    for step in place:
        obj = obj[step]
    return obj


def with_value(obj: Json, place: Place, value: Any) -> Json:
    """A copy that holds the value there; the place's parent must exist."""
    if not place:
        return copy.deepcopy(value)  # type: ignore[no-any-return]
    changed = copy.deepcopy(obj)
    value_at(changed, place[:-1])[place[-1]] = copy.deepcopy(value)
    return changed


def without(obj: Json, place: Place) -> Json:
    changed = copy.deepcopy(obj)
    del value_at(changed, place[:-1])[place[-1]]
    return changed


def text(place: Place) -> str:
    """As the API server names it in its errors."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")


def _places(obj: Any, steps: list[str], so_far: Place) -> Iterator[Place]:
    if not steps:
        yield so_far
        return
    step, rest = steps[0], steps[1:]
    if step == "[]":
        for index, item in enumerate(obj):
            yield from _places(item, rest, (*so_far, index))
    elif step == "{}":
        for key, value in obj.items():
            yield from _places(value, rest, (*so_far, key))
    elif step in obj:
        yield from _places(obj[step], rest, (*so_far, step))
