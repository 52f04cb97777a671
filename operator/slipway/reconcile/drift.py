"""Drift detection: compares a live object with the rendered one, despite defaults and rewritten quantities."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from slipway.api.kinds import Key, Object, key_of
from slipway.api.scheduling import amount_of

# Fields whose values (or the values below them) are quantities.
_QUANTITIES = frozenset({"limits", "requests", "sizeLimit", "capacity", "storage", "hard"})
# Fields that identify an item of a list, tried in this order; a list without one is compared by position.
_ITEM_KEYS = ("name", "mountPath", "containerPort", "port", "uid", "type")
# Set by the server or read as a precondition: never drift.
_NOT_COMPARED = frozenset({"resourceVersion", "uid", "generation", "creationTimestamp", "managedFields"})


class DriftDetector:
    """Compares live and rendered objects, and remembers the pairs that are in sync: most renderings do not change.

    The cache replaces a live object and never changes it, so the same object has the same content.
    """

    def __init__(self, limit: int = 20_000) -> None:
        self._limit = limit
        self._known: OrderedDict[Key, tuple[Object, Object]] = OrderedDict()

    def in_sync(self, live: Object, rendered: Object) -> bool:
        """Return the same as the function `in_sync`."""
        key = key_of(rendered)
        known = self._known.get(key)
        if known is not None and known[0] is live and known[1] == rendered:
            return True
        if not in_sync(live, rendered):
            self._known.pop(key, None)
            return False
        self._known[key] = (live, rendered)
        self._known.move_to_end(key)
        if len(self._known) > self._limit:
            self._known.popitem(last=False)
        return True


def in_sync(live: Object, rendered: Object) -> bool:
    """Return True if the rendered object is a part of the live one, so that an apply would change nothing.

    Fields that only the live object has are defaults or set by others, and no drift. The same holds for further items
    of a list whose items have a key.
    """
    return _in_sync(
        {**live, "metadata": _compared(live["metadata"])},
        {**rendered, "metadata": _compared(rendered["metadata"])},
        False,
    )


def _compared(meta: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in meta.items() if field not in _NOT_COMPARED}


def _in_sync(live: Any, rendered: Any, quantity: bool) -> bool:
    if isinstance(rendered, dict) and isinstance(live, dict):
        return all(
            _in_sync(live[field], value, quantity or field in _QUANTITIES) if field in live else _empty(value)
            for field, value in rendered.items()
        )
    if isinstance(rendered, list) and isinstance(live, list):
        return _lists_in_sync(live, rendered, quantity)
    if quantity and (amount := amount_of(rendered)) is not None:
        return amount == amount_of(live)
    return bool(live == rendered) and isinstance(live, bool) == isinstance(rendered, bool)


def _lists_in_sync(live: list[Any], rendered: list[Any], quantity: bool) -> bool:
    key = _item_key(live, rendered)
    if key is None:
        return len(live) == len(rendered) and all(
            _in_sync(one, other, quantity) for one, other in zip(live, rendered, strict=True)
        )
    by_key = {item[key]: item for item in live}
    return all(item[key] in by_key and _in_sync(by_key[item[key]], item, quantity) for item in rendered)


def _item_key(live: list[Any], rendered: list[Any]) -> str | None:
    """Return the field that identifies the items of both lists, None if there is none."""
    items = rendered + live
    if not rendered or not all(isinstance(item, dict) for item in items):
        return None
    for key in _ITEM_KEYS:
        if all(key in item for item in items):
            distinct = all(len({item[key] for item in side}) == len(side) for side in (live, rendered))
            return key if distinct else None
    return None


def _empty(value: Any) -> bool:
    """Return True for a value that the API server omits when it stores an object."""
    if isinstance(value, dict):
        return all(_empty(item) for item in value.values())
    return value is None or value in ("", [], 0, False)
