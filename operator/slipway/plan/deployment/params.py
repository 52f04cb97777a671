"""Validation of a step's parameters by the JSON Schema of its plugin, with a bound on the work.

Users write both, and the event loop of the operator evaluates them: patterns run in RE2, whose time is linear in the
text, and each evaluation of a keyword uses some of a budget. The result does not depend on a clock: every operator
refuses the same parameters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import re2
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import extend
from referencing import Registry

from slipway.api.errors import SpecError
from slipway.api.reports import shorten
from slipway.plan.taskinput import MAX_INPUT_BYTES, json_bytes

MAX_STEPS_BYTES = 2 * MAX_INPUT_BYTES
"""Maximum bytes of the parameters of all steps. An object has 1.5 MiB in etcd, and server-side apply repeats names."""
MAX_SCHEMA_BYTES = 256 * 1024
"""Maximum bytes of a schema as compact JSON; the shipped plugins have less than 4 KiB."""
MAX_EVALUATIONS = 20_000
"""Maximum evaluations of keywords, plus one for each 256 bytes that they read: about 0.5 s. Shipped ones need 100."""
_BYTES_A_UNIT = 256
_PATTERN_BYTES = 1 << 20
"""Maximum memory of one compiled pattern; RE2 refuses larger ones."""
_PLAIN = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")

Keyword = Callable[[Any, Any, Any, Any], Iterable[ValidationError] | None]


class _Refused(Exception):
    """An unsupported or too expensive schema, with the reason as its message."""


def check_sizes(field: str, params: Sequence[Mapping[str, Any]]) -> None:
    """Raise SpecError (InvalidParams) for parameters that are too large for a pod.

    field: the path of the steps. params: those of each step.
    """
    sizes = [json_bytes(given) for given in params]
    for index, size in enumerate(sizes):
        _refuse_above(MAX_INPUT_BYTES, size, f"{field}[{index}].params")
    _refuse_above(MAX_STEPS_BYTES, sum(sizes), field, "all parameters together are ")


def _refuse_above(limit: int, size: int, field: str, subject: str = "is ") -> None:
    if size > limit:
        problem = f"{subject}{size} bytes of JSON; the maximum is {limit}"
        raise SpecError(field, problem, "put large values into a file of the store", reason="InvalidParams")


def check_params(field: str, plugin: str, params: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Raise SpecError (InvalidParams) with the path of the first parameter that the schema refuses, or SpecError
    (PluginInvalid) for a schema that cannot be evaluated, or not within the bounds.

    field: the path of `params`, as `spec.compression.steps[0].params`. References to other documents are not followed:
    a planner does no I/O.
    """
    given, rules = _compact(params), _compact(schema)
    if len(rules) > MAX_SCHEMA_BYTES:
        found: _Result = f"it is {len(rules)} bytes of JSON; the maximum is {MAX_SCHEMA_BYTES}"
    else:
        found = _evaluated(given, rules)
    if isinstance(found, str):
        problem = f"its CompressionPlugin {plugin} has no usable JSON Schema: {found}"
        raise SpecError(field, problem, f"correct spec.parameters of {plugin}", reason="PluginInvalid")
    if found is not None:
        path, problem = found
        cure = f"correct it according to spec.parameters of CompressionPlugin {plugin}"
        raise SpecError(field + path, problem, cure, reason="InvalidParams")


_Result = tuple[str, str] | str | None
"""Path and problem of the first invalid parameter, or the error of the schema; None if all parameters are valid."""


@lru_cache(maxsize=64)
def _evaluated(given: str, rules: str) -> _Result:
    """Return the result for texts of parameters and schema, cached because a planner needs it in every round."""
    params, schema = json.loads(given), json.loads(rules)
    if "patternProperties" in rules and "unevaluatedProperties" in rules:  # jsonschema would match with re
        return "patternProperties and unevaluatedProperties cannot be used together"
    token = _BUDGET.set(_Budget(_sizes(params) | _sizes(schema)))
    try:
        found = best_match(_Bounded(schema, registry=Registry()).iter_errors(params))
        return None if found is None else _parameter_error(found)
    except _Refused as refused:
        return str(refused)
    except Exception as error:  # noqa: BLE001 - a schema may be wrong in any way; each error is reported
        return shorten(f"{type(error).__name__}: {error}", 200)
    finally:
        _BUDGET.reset(token)


# --- Keywords with a cost ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Budget:
    """The budget of one evaluation. sizes: bytes of every container and text, by its id."""

    sizes: Mapping[int, int]
    left: int = field(default=MAX_EVALUATIONS)

    def pay(self, *looked_at: object) -> None:
        self.left -= 1 + sum(self.sizes.get(id(one), 0) for one in looked_at) // _BYTES_A_UNIT
        if self.left < 0:
            raise _Refused(f"checking these parameters needs more than {MAX_EVALUATIONS} evaluations")


_BUDGET: ContextVar[_Budget] = ContextVar("budget")


def _sizes(value: Any) -> dict[int, int]:
    sizes: dict[int, int] = {}

    def measure(one: Any) -> int:
        if isinstance(one, dict):
            size = sum(len(name) + measure(item) for name, item in one.items())
        elif isinstance(one, list):
            size = sum(measure(item) for item in one)
        else:
            return sizes.setdefault(id(one), len(one)) if isinstance(one, str) else 8
        sizes[id(one)] = size + 8 * len(one)
        return sizes[id(one)]

    measure(value)
    return sizes


def _paid(keyword: Keyword) -> Keyword:
    def evaluate(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        _BUDGET.get().pay(value, instance)
        yield from keyword(validator, value, instance, schema) or ()

    return evaluate


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.max_mem, options.log_errors = _PATTERN_BYTES, False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        why = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else str(error)
        raise _Refused(f"pattern {shorten(repr(pattern), 100)} is not valid in RE2 (no look-around): {why}") from error


def _matches(pattern: str, text: str) -> bool:
    return _compiled(pattern).search(text) is not None


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        for pattern, below in patterns.items():
            for name, value in instance.items():
                _BUDGET.get().pay(name)
                if _matches(pattern, name):
                    yield from validator.descend(value, below, path=name, schema_path=pattern)


def _additional_properties(validator: Any, below: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    _BUDGET.get().pay(*([instance] * len(patterns)))
    extra = [name for name in instance if name not in known and not any(_matches(one, name) for one in patterns)]
    if validator.is_type(below, "object"):
        for name in extra:
            yield from validator.descend(instance[name], below, path=name)
    elif not below and extra:
        yield ValidationError(f"additional properties are not allowed: {', '.join(map(repr, extra[:8]))}")


def _unique_items(validator: Any, unique: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if unique and validator.is_type(instance, "array"):
        # 1 and 1.0 are one number in JSON Schema, 1 and true are not.
        texts = {json.dumps(item, sort_keys=True) for item in json.loads(json.dumps(instance), parse_float=_whole)}
        if len(texts) < len(instance):
            yield ValidationError("the items are not unique")


def _whole(text: str) -> float | int:
    number = float(text)
    return int(number) if number.is_integer() else number


_OURS: dict[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
_Bounded = extend(
    Draft202012Validator,
    {name: _paid(keyword) for name, keyword in {**Draft202012Validator.VALIDATORS, **_OURS}.items()},
)


# --- Messages ----------------------------------------------------------------------------------------------------


def _parameter_error(error: ValidationError) -> tuple[str, str]:
    """Return the path of the invalid parameter and the problem; a missing or unknown one has its own path."""
    path = list(error.absolute_path)
    if error.validator == "required" and isinstance(error.instance, Mapping):
        missing = [name for name in error.validator_value if name not in error.instance]
        return _joined([*path, missing[0]]), "is required"
    if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
        known = sorted(error.schema.get("properties", {}))
        foreign = [name for name in error.instance if name not in known]
        there = shorten(", ".join(known), 300) or "none"
        return _joined([*path, foreign[0]]), f"is not a parameter; parameters are: {there}"
    return _joined(path), shorten(error.message, 300)


def _joined(path: Iterable[str | int]) -> str:
    text = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" if _PLAIN.match(part) else f"[{part!r}]" for part in path
    )
    return shorten(text, 200)


def _compact(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))
