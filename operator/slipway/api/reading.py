"""Reading of what others wrote: statuses of other versions leniently, and what a user writes as strictly as the server.

A rollback of the chart leaves CRDs and statuses as the newer version wrote them: enum values, formats and longer lists
that this version does not know. `read_status` keeps what it understands, value by value.

`read_written` reads a text as the API server does under strict field validation. The server's decoder and its
defaulting go before every rule (apiextensions v1): a null in a field or a value of a map that takes none counts as
absent, an integral number is an integer however it is written, no field is given twice, and a number is finite.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from math import isfinite
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError

from slipway.api.base import Model
from slipway.api.schema import Schema, structural

M = TypeVar("M", bound=Model)

EPOCH = "1970-01-01T00:00:00Z"
NO_DIGEST = "sha256:" + "0" * 64
"""A digest that no content has."""
_MAX_PASSES = 100
_TEXTS = frozenset({"message", "reason", "exception"})
"""Fields whose text may be shortened; any other shortened text would be another value."""
_ITEM_FIELD = 3
"""Number of parts in the path of a field of a list's item."""
_ABSENT = object()

# Values for required fields of an item that are missing or cannot be read. NO_DIGEST is the digest of no revision that
# a spec can ask for: the serving revision is kept by its name. An artifact without a digest is dropped.
_STAND_INS: Mapping[str, Mapping[str, object]] = {
    "attempts": {"startedAt": EPOCH, "nodes": 1, "processesPerNode": 1},
    "revisions": {"createdAt": EPOCH, "digest": NO_DIGEST},
    "conditions": {"lastTransitionTime": EPOCH, "reason": "Unknown"},
}


def read_status(model: type[M], raw: object) -> M:
    """Return the status as far as this version can read it; all of it if this version wrote it.

    An unreadable field is left out, and so is the item or object that requires it. The state of a task or an attempt
    that is unknown follows from its other fields: a result or a failure means that it ended; otherwise its Job tells.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        if not isinstance(raw, dict):
            return model()
        status, problems = _copied(raw), error.errors(include_url=False, include_input=False)
    for _ in range(_MAX_PASSES):
        # The last ones first: what is taken out of a list moves what comes after it.
        for problem in sorted(problems, key=lambda one: [_order(part) for part in one["loc"]], reverse=True):
            _repair(status, problem)
        try:
            return model.model_validate(status)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)
    return model()


def _repair(status: dict[str, Any], problem: Mapping[str, Any]) -> None:
    """Change the status as little as needed, so that one field can be read."""
    path: tuple[Any, ...] = problem["loc"]
    if not path:
        status.clear()
        return
    parent, name, kind = _at(status, path[:-1]), path[-1], problem["type"]
    if parent is _ABSENT or (isinstance(parent, list) and not (isinstance(name, int) and name < len(parent))):
        return
    if kind == "missing" and isinstance(parent, dict):
        stand_ins = _STAND_INS.get(path[0], {}) if len(path) == _ITEM_FIELD else {}
        if name in stand_ins:
            parent[name] = stand_ins[name]
        else:
            _drop(status, path[:-1])
    elif kind == "too_long" and isinstance(parent, dict) and isinstance(parent.get(name), list | dict):
        limit, items = problem["ctx"]["max_length"], parent[name]
        parent[name] = _needed(parent, name, limit) if isinstance(items, list) else dict(list(items.items())[:limit])
    elif kind == "string_too_long" and name in _TEXTS:
        parent[name] = parent[name][: problem["ctx"]["max_length"]]
    elif kind == "enum" and (derive := _DERIVED.get(name)) is not None and isinstance(parent, dict) and "job" in parent:
        value = derive(parent, _is_last(status, path[:-1]))
        if value is None:
            del parent[name]
        else:
            parent[name] = value
    elif kind == "value_error" and name == "conditions" and isinstance(parent, dict):
        parent[name] = list({one["type"]: one for one in parent[name]}.values())
    else:
        _drop(status, path)


def _state_of(task: Mapping[str, Any], _last: bool) -> str:
    """Return the state of a task whose state is unknown. If its record does not tell, its Job and the store do."""
    if isinstance(task.get("artifact"), dict) or isinstance(task.get("counts"), dict):
        return "Succeeded"
    if isinstance(task.get("failure"), dict):
        return "Failed"
    return "Running" if task.get("jobUID") else "Intended"


def _outcome_of(attempt: Mapping[str, Any], last: bool) -> str | None:
    """Return the outcome of an attempt whose outcome is unknown. None opens the newest one again: its Job and the store
    tell how it ended. An older one was followed by another in any case.
    """
    if isinstance(attempt.get("failure"), dict) and attempt.get("endedAt"):
        return "Failed"
    return None if last else "Cancelled"


_DERIVED: Mapping[str, Callable[[Mapping[str, Any], bool], str | None]] = {"state": _state_of, "outcome": _outcome_of}


def _needed(parent: Mapping[str, Any], name: str, limit: int) -> list[Any]:
    """Return the newest items, which come last; revisions that have, get or still drain the traffic go first."""
    items: Sequence[Any] = parent[name]
    named = {parent.get("serving"), parent.get("candidate")} if name == "revisions" else set()

    def is_needed(item: Any) -> bool:
        if not isinstance(item, dict) or not named:
            return False
        return item.get("name") in named or bool(item.get("servingSince") and not item.get("retiredAt"))

    by_need = sorted(range(len(items)), key=lambda at: (is_needed(items[at]), at))
    return [items[at] for at in sorted(by_need[-limit:])]


def _drop(status: dict[str, Any], path: tuple[Any, ...]) -> None:
    parent = _at(status, path[:-1])
    if not path:
        status.clear()
    elif isinstance(parent, dict):
        parent.pop(path[-1], None)
        if path[-1] == "[key]" and len(path) > 1:  # a map's key: the part before names it
            grand = _at(status, path[:-2])
            if isinstance(grand, dict):
                grand.pop(path[-2], None)
    elif isinstance(parent, list) and isinstance(path[-1], int) and path[-1] < len(parent):
        del parent[path[-1]]
    elif len(path) > 1:
        _drop(status, path[:-1])


def _is_last(status: Mapping[str, Any], path: tuple[Any, ...]) -> bool:
    siblings = _at(status, path[:-1])
    return isinstance(siblings, list) and path[-1] == len(siblings) - 1


def _at(value: Any, path: Sequence[Any]) -> Any:
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return _ABSENT
    return value


def _order(part: Any) -> tuple[int, str]:
    return (part, "") if isinstance(part, int) else (-1, str(part))


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(item) for name, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


_LARGEST = 2**63 - 1


def read_written(model: type[M], text: str) -> M:
    """Return the JSON text as the model. Raises ValueError; pydantic's ValidationError if a field is wrong."""
    try:
        value = json.loads(
            text, parse_int=_integer, parse_float=_number, parse_constant=_refused, object_pairs_hook=_unrepeated
        )
    except RecursionError as error:
        raise ValueError("the JSON is nested too deep") from error
    plain = json.dumps(_without_nulls(value, _schema(model)))
    return model.model_validate_json(plain, strict=True, extra="forbid")


@cache
def _schema(model: type[Model]) -> Schema:
    return structural(model)


def _without_nulls(value: Any, schema: Schema) -> Any:
    """Remove nulls. Fields without a schema keep theirs: to a plugin a null may mean something."""
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        kept = {name: item for name, item in value.items() if item is not None or (name not in known and not others)}
        return {name: _without_nulls(item, known.get(name) or others or {}) for name, item in kept.items()}
    if isinstance(value, list) and "items" in schema:
        return [_without_nulls(item, schema["items"]) for item in value]
    return value


def _integer(text: str) -> int | float:
    # 2**63 has 19 digits; int() of a very long text is refused by Python itself.
    return value if len(text) <= 20 and abs(value := int(text)) <= _LARGEST else _inexact(text)


def _number(text: str) -> int | float:
    value = _inexact(text)
    # The server writes a float's shortest digits and then zeros, so above 2**53 that is what it comes back as.
    return int(Decimal(repr(value))) if value.is_integer() and abs(value) < _LARGEST else value


def _inexact(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


def _refused(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _unrepeated(pairs: Sequence[tuple[str, Any]]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"field {name!r} is given twice; keep one")
        found[name] = value
    return found
