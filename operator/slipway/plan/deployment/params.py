"""A step's parameters against the JSON Schema that its plugin declares."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match
from referencing import Registry

from slipway.api.errors import SpecError
from slipway.api.reports import shorten

_PLAIN = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


def check_params(field: str, plugin: str, params: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Raises SpecError, reason InvalidParams, with the path of the first parameter that the schema refuses.

    field: the path of `params`, as `spec.compression.steps[0].params`. References to other documents are never
    followed: a planner does no I/O.
    """
    try:
        found = best_match(Draft202012Validator(schema, registry=Registry()).iter_errors(dict(params)))
    except Exception as error:
        why = shorten(f"{type(error).__name__}: {error}", 200)
        problem = f"its CompressionPlugin {plugin} has no usable JSON Schema: {why}"
        raise SpecError(field, problem, f"correct spec.parameters of {plugin}", reason="PluginInvalid") from error
    if found is not None:
        path, problem = _told(found)
        cure = f"correct it as spec.parameters of CompressionPlugin {plugin} describes it"
        raise SpecError(field + _joined(path), problem, cure, reason="InvalidParams")


def _told(error: ValidationError) -> tuple[list[str | int], str]:
    """Where the parameter is that is wrong, and what is wrong with it; a missing or foreign one is named itself."""
    path = list(error.absolute_path)
    if error.validator == "required" and isinstance(error.instance, Mapping):
        missing = [name for name in error.validator_value if name not in error.instance]
        return [*path, missing[0]], "is required"
    if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
        known = sorted(error.schema.get("properties", {}))
        foreign = [name for name in error.instance if name not in known]
        return [*path, foreign[0]], f"is no parameter; there are: {', '.join(known) or 'none'}"
    return path, shorten(error.message, 300)


def _joined(path: Iterable[str | int]) -> str:
    return "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" if _PLAIN.match(part) else f"[{part!r}]" for part in path
    )
