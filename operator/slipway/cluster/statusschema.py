"""Validation of a status against the schema of its CRD, as the API server does it, so that the twin refuses the same.

Schemas are compiled once a process, and equal items of a list are checked once: a status of 64 tasks takes 35 ms the
first time on a busy machine, and less than 2 when one task has changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, NamedTuple

import orjson
from jsonschema import Draft4Validator, FormatChecker, ValidationError
from jsonschema.validators import extend
from pydantic import TypeAdapter
from pydantic import ValidationError as ModelError

from slipway.api.crds import RESOURCES, root_schema
from slipway.api.errors import Invalid
from slipway.api.kinds import Kind
from slipway.api.schema import Schema


class Violation(NamedTuple):
    """A value that the schema refuses, by its path."""

    path: tuple[str | int, ...]
    problem: str


def check_status(call: str, kind: Kind, patch: Mapping[str, Any], status: Mapping[str, Any]) -> None:
    """Raise Invalid where the CRD refuses the status that a patch has made, naming the first such field.

    Only fields of the patch are checked: the rest was stored before, maybe under another version's schema (KEP-4008).
    Kinds without a CRD of ours pass.
    """
    if (compiled := _compiled(kind)) is None:
        return
    for field in patch:
        if field not in compiled.fields:
            raise Invalid(f'{call}: 400 strict decoding error: unknown field "status.{field}"')
        if field in status and (violation := _check_field(kind, field, status[field])):
            raise Invalid(f"{call}: 422 status{_shown((field, *violation.path))}: Invalid value: {violation.problem}")
    try:  # rules in CEL are in the models as Python, too
        compiled.model.validate_python({field: status[field] for field in patch if field in status})
    except ModelError as error:
        raise Invalid(f"{call}: 422 status: {error.errors(include_url=False)[0]['msg']}") from error


def _check_field(kind: Kind, field: str, value: Any) -> Violation | None:
    whole = _first((_compiled(kind) or _NOTHING).fields[field].iter_errors(value))
    if whole is not None or not isinstance(value, list):
        return whole
    for index, item in enumerate(value):
        if (violation := _check_item(kind, field, orjson.dumps(item))) is not None:
            return Violation((index, *violation.path), violation.problem)
    return None


@lru_cache(maxsize=8192)
def _check_item(kind: Kind, field: str, item: bytes) -> Violation | None:
    return _first((_compiled(kind) or _NOTHING).items[field].iter_errors(orjson.loads(item)))


def _first(errors: Iterator[ValidationError]) -> Violation | None:
    error = next(errors, None)
    if error is None:
        return None
    missing = ()
    if error.validator == "required":
        missing = tuple(name for name in error.validator_value if name not in error.instance)[:1]
    problem = error.message if len(error.message) <= 300 else f"{error.message[:200]} ... {error.message[-90:]}"
    return Violation((*error.absolute_path, *missing), problem)


def _shown(path: Sequence[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


class _Compiled(NamedTuple):
    """Validators by field of the status. fields: without the items of lists; items: for these."""

    fields: Mapping[str, Any]
    items: Mapping[str, Any]
    model: TypeAdapter[Any]


_NOTHING = _Compiled({}, {}, TypeAdapter(Any))


@cache
def _compiled(kind: Kind) -> _Compiled | None:
    resource = next((one for one in RESOURCES if one.kind == kind), None)
    schema = root_schema(resource)["properties"].get("status") if resource else None
    if resource is None or schema is None:
        return None
    model: Any = resource.model.model_fields["status"].annotation
    strict = {name: _strict(field) for name, field in schema["properties"].items()}
    fields = {name: {key: value for key, value in field.items() if key != "items"} for name, field in strict.items()}
    items = {name: field["items"] for name, field in strict.items() if "items" in field}
    return _Compiled(
        {name: _Validator(field, format_checker=_FORMATS) for name, field in fields.items()},
        {name: _Validator(field, format_checker=_FORMATS) for name, field in items.items()},
        TypeAdapter(model),
    )


def _strict(schema: Schema) -> Schema:
    """Return the schema under strict field validation: no other fields. `$` of RE2 ends the text, not a line."""
    found = {key: value for key, value in schema.items() if key != "default"}
    if "pattern" in found:
        found["pattern"] = re.sub(r"(?<!\\)\$$", r"\\Z", found["pattern"])
    if "properties" in found:
        found["properties"] = {name: _strict(field) for name, field in found["properties"].items()}
        if not found.get("x-kubernetes-preserve-unknown-fields"):
            found.setdefault("additionalProperties", False)
    for child in ("items", "additionalProperties"):
        if isinstance(found.get(child), Mapping):
            found[child] = _strict(found[child])
    return found


def _unique(_validator: Any, keys: Sequence[str], items: Any, _schema: Schema) -> Iterator[ValidationError]:
    """Yield an error for each item of a map list whose keys repeat."""
    seen = set()
    for index, item in enumerate(items if isinstance(items, list) else ()):
        mark = tuple(item.get(key) for key in keys)
        if mark in seen:
            yield ValidationError(f"Duplicate value of {', '.join(keys)}", path=(index,))
        seen.add(mark)


def _is_integer(_checker: Any, value: Any) -> bool:
    """Return whether it is an integer of 64 bits: a larger one is a float to the API server."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return False
    return -(2**63) <= value < 2**63


_Validator: Any = extend(
    Draft4Validator,
    {"x-kubernetes-list-map-keys": _unique},
    type_checker=Draft4Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)


def _is_moment(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


_FORMATS = FormatChecker(formats=())
_FORMATS.checks("date-time", raises=ValueError)(_is_moment)
