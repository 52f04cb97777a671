"""What a user writes, read as the API server reads it under strict field validation.

The server's decoder and its defaulting go before every rule (apiextensions v1): a null where a field or a value of a
map takes none counts as absent, an integral number is an integer however it is written, no field stands twice, and a
number is finite.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from math import isfinite
from typing import Any, NoReturn, TypeVar

from slipway.api.base import Model
from slipway.api.schema import Schema, structural

M = TypeVar("M", bound=Model)

_LARGEST = 2**63 - 1


def read_written(model: type[M], text: str) -> M:
    """The JSON text as the model. Raises ValueError: pydantic's ValidationError where a field is to blame."""
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
    """Fields without a schema keep theirs: to a plugin a null may mean something."""
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
