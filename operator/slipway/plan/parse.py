"""Parsing of objects of the API server into typed models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import ValidationError

from slipway.api.base import Model
from slipway.api.errors import SpecError
from slipway.api.kinds import Object
from slipway.api.reading import read_status
from slipway.plan.plan import STATUS, Refusal

M = TypeVar("M", bound=Model)
S = TypeVar("S", bound=Model)


def parse(model: type[M], obj: Object) -> M:
    """Return the object as `model`, which has a spec and may have a status; unreadable parts of a status are skipped.

    Raises SpecError for a spec that cannot be read: an older or a newer CRD admitted it.
    """
    present = {part: obj[part] for part in ("spec", "status") if obj.get(part)}
    try:
        return model.model_validate(present)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    if first["loc"] and first["loc"][0] == "status":
        status = read_status(model.model_fields["status"].annotation, obj["status"])  # type: ignore[arg-type]
        return parse(model, {"spec": obj.get("spec"), "status": status.to_wire()})
    raise SpecError(_path(first["loc"]), first["msg"].removeprefix("Value error, "), _FIX)


def parse_leniently(model: type[M], written: object, stand_in: Mapping[str, object]) -> tuple[M, frozenset[str]]:
    """Return the readable part of a spec, and the names of the fields that were left out.

    stand_in: values in wire form for required fields that cannot be read.
    """
    values, left_out = dict(stand_in), set()
    for name, value in written.items() if isinstance(written, Mapping) else ():
        try:
            model.model_validate({**values, name: value})
        except ValidationError:
            left_out.add(name)
        else:
            values[name] = value
    return model.model_validate(values), frozenset(left_out)


def value_at(value: object, *fields: str) -> object:
    """Return the value at a path of fields in an object of any form; None if there is none."""
    for field in fields:
        value = value.get(field) if isinstance(value, dict) else None
    return value


def parse_referenced(model: type[M], obj: Object, field: str, reason: str) -> M:
    """Return an object that another one names. field: the field that names it. Raises SpecError, which names both."""
    try:
        return parse(model, obj)
    except SpecError as error:
        named = f"{obj['kind']} {obj['metadata']['name']}"
        problem = f"{named} cannot be used: {error.field}: {error.problem}"
        cure = f"correct {named}, or upgrade Slipway if a newer version wrote it"
        raise SpecError(field, problem, cure, reason=reason) from error


def merged_status(obj: Object, before: S, after: S, refusals: Sequence[Refusal] = ()) -> Object:
    """Return the new status of an object in wire form. before: the present one, as it was read.

    Unknown and unchanged fields keep the values that another version wrote. If the API server refused such a status,
    only fields that this version does not have are preserved: the CRD may not know the others.
    """
    present: Object = obj.get("status") or {}
    strict = any(refusal.verb == STATUS and not refusal.transient for refusal in refusals)
    if after == before and not strict:
        return present
    wire = after.to_wire()
    if wire == present:
        return wire
    fields = {field.alias or name for name, field in type(after).model_fields.items()}
    if strict:
        return {**{name: value for name, value in present.items() if name not in fields}, **wire}
    known = before.to_wire()
    merged = {name: value for name, value in present.items() if name not in known and name not in wire}
    for name, value in wire.items():
        merged[name] = present[name] if name in present and known.get(name) == value else value
    return merged


_FIX = "correct the field, or upgrade Slipway if a newer version defines it"


def _path(loc: tuple[int | str, ...]) -> str:
    """Return a location as a path: `("spec", "data", 0, "name")` as `spec.data[0].name`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
