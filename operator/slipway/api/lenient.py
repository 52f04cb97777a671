"""Statuses as another version of Slipway left them: what this one understands is kept, value by value.

A rollback of the chart leaves CRDs and statuses as the newer version wrote them: enum values, formats and longer lists
that this version does not know. Reading must not stop at them, and must not lose what says that work was done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from slipway.api.base import Model

M = TypeVar("M", bound=Model)

EPOCH = "1970-01-01T00:00:00Z"
NO_DIGEST = "sha256:" + "0" * 64
"""Of no content that could be."""
_ROUNDS = 100
_TEXTS = frozenset({"message", "reason", "exception"})
"""Fields whose beginning says enough; of any other text a beginning would be another value."""
_ITEM_FIELD = 3
"""Parts of the path of a field of a list's item."""
_ABSENT = object()

# What stands for a required field of an item that is missing or cannot be read. The digest of no revision that a spec
# can want: what serves is kept by its name. An artifact without a digest is none.
_STAND_INS: Mapping[str, Mapping[str, object]] = {
    "attempts": {"startedAt": EPOCH, "nodes": 1, "processesPerNode": 1},
    "revisions": {"createdAt": EPOCH, "digest": NO_DIGEST},
    "conditions": {"lastTransitionTime": EPOCH, "reason": "Unknown"},
}


def read_status(model: type[M], raw: object) -> M:
    """The status as far as this version can read it; all of it where it is of this version.

    What is unreadable is left out: a field, then the item or object that cannot be without it. A task or an attempt
    whose state is unknown is told by what it holds: a result or a failure ended it, else its Job says how it ended.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        if not isinstance(raw, dict):
            return model()
        status, problems = _copied(raw), error.errors(include_url=False, include_input=False)
    for _ in range(_ROUNDS):
        # The last ones first: what is taken out of a list moves what comes after it.
        for problem in sorted(problems, key=lambda one: [_order(part) for part in one["loc"]], reverse=True):
            _mend(status, problem)
        try:
            return model.model_validate(status)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)
    return model()


def _mend(status: dict[str, Any], problem: Mapping[str, Any]) -> None:
    """Change as little as lets one field be read."""
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
    """Of a task whose state is unknown. Where its record says nothing, its Job and the store do."""
    if isinstance(task.get("artifact"), dict) or isinstance(task.get("counts"), dict):
        return "Succeeded"
    if isinstance(task.get("failure"), dict):
        return "Failed"
    return "Running" if task.get("jobUID") else "Intended"


def _outcome_of(attempt: Mapping[str, Any], last: bool) -> str | None:
    """Of an attempt whose outcome is unknown. None opens the newest one again: its Job and the store say how it ended.

    An older one was followed by another, whatever it came to.
    """
    if isinstance(attempt.get("failure"), dict) and attempt.get("endedAt"):
        return "Failed"
    return None if last else "Cancelled"


_DERIVED: Mapping[str, Callable[[Mapping[str, Any], bool], str | None]] = {"state": _state_of, "outcome": _outcome_of}


def _needed(parent: Mapping[str, Any], name: str, limit: int) -> list[Any]:
    """The newest items, which come last; of revisions the ones that have, get or still hold the traffic before all."""
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
