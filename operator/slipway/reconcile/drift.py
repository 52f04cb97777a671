"""Whether what lives still is what was rendered, although the API server fills in defaults and rewrites quantities."""

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


class Covered:
    """Remembers what was found covered, for the objects at rest that every round renders alike.

    A live object of the cache is never changed, only replaced: the same one is as it was.
    """

    def __init__(self, limit: int = 20_000) -> None:
        self._limit = limit
        self._known: OrderedDict[Key, tuple[Object, Object]] = OrderedDict()

    def covers(self, live: Object, rendered: Object) -> bool:
        """As `covers`."""
        key = key_of(rendered)
        known = self._known.get(key)
        if known is not None and known[0] is live and known[1] == rendered:
            return True
        if not covers(live, rendered):
            self._known.pop(key, None)
            return False
        self._known[key] = (live, rendered)
        self._known.move_to_end(key)
        if len(self._known) > self._limit:
            self._known.popitem(last=False)
        return True


def covers(live: Object, rendered: Object) -> bool:
    """True where the rendered object is a part of the live one, so that applying it would change nothing.

    Fields that only the live object has are somebody's defaults and no drift; of a list with names for its items, so
    are further items.
    """
    return _covers(
        {**live, "metadata": _compared(live["metadata"])},
        {**rendered, "metadata": _compared(rendered["metadata"])},
        False,
    )


def _compared(meta: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in meta.items() if field not in _NOT_COMPARED}


def _covers(live: Any, rendered: Any, quantity: bool) -> bool:
    if isinstance(rendered, dict) and isinstance(live, dict):
        return all(
            _covers(live[field], value, quantity or field in _QUANTITIES) if field in live else _empty(value)
            for field, value in rendered.items()
        )
    if isinstance(rendered, list) and isinstance(live, list):
        return _covers_list(live, rendered, quantity)
    if quantity and (amount := amount_of(rendered)) is not None:
        return amount == amount_of(live)
    return bool(live == rendered) and isinstance(live, bool) == isinstance(rendered, bool)


def _covers_list(live: list[Any], rendered: list[Any], quantity: bool) -> bool:
    key = _item_key(live, rendered)
    if key is None:
        return len(live) == len(rendered) and all(
            _covers(one, other, quantity) for one, other in zip(live, rendered, strict=True)
        )
    by_key = {item[key]: item for item in live}
    return all(item[key] in by_key and _covers(by_key[item[key]], item, quantity) for item in rendered)


def _item_key(live: list[Any], rendered: list[Any]) -> str | None:
    """The field that tells the items of both lists apart, None where none does."""
    items = rendered + live
    if not rendered or not all(isinstance(item, dict) for item in items):
        return None
    for key in _ITEM_KEYS:
        if all(key in item for item in items):
            distinct = all(len({item[key] for item in side}) == len(side) for side in (live, rendered))
            return key if distinct else None
    return None


def _empty(value: Any) -> bool:
    """What the API server leaves out when it stores an object."""
    if isinstance(value, dict):
        return all(_empty(item) for item in value.values())
    return value is None or value in ("", [], 0, False)
