"""Messages for the errors of pydantic: the field's path, what is wrong, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from slipway.api import artifacts, base, entrypoint, podtemplate, scheduling
from slipway.api.schema import Schema, walk
from slipway.manifests.nodes import Spot, Step

SHOWN = 60
"""Limit of characters of a value in a message."""


class FieldError(NamedTuple):
    """An error in a field. path: of the field, from the object's root. at: path of its place in the file."""

    path: tuple[Step, ...]
    what: str
    at: tuple[Step, ...]

    def __str__(self) -> str:
        return f"{path_text(self.path)}: {self.what}"


def field_errors(error: ValidationError, value: Any, spot: Spot, schema: Schema) -> Iterator[FieldError]:
    """Yield one error for each field. value: the object that was read. schema: structural, of the model."""
    reported: set[tuple[Step, ...]] = set()
    for one in error.errors(include_url=False, include_input=False):
        loc, kind, message = one["loc"], one["type"], one["msg"]
        if kind == "value_error":
            yield from _rule_errors(_path(loc, value), message.removeprefix("Value error, "), value)
            continue
        path = (*_path(loc[:-1], value), loc[-1]) if kind in ("missing", "extra_forbidden") else _path(loc, value)
        if path in reported:  # each choice of a union has an error of its own
            continue
        reported.add(path)
        if kind == "missing":
            yield FieldError(path, f"is missing; add {_a(describe_expected(_schema_at(schema, path)))}", path[:-1])
        elif kind == "extra_forbidden":
            yield FieldError(path, f"unknown field; {_suggest_field(path, schema)}", path)
        else:
            node = _schema_at(schema, path)
            found = _at(value, path)
            cure = _suggest_value(found, node, spot.at(path))
            yield FieldError(path, f"{format_value(found)} is not {_a(describe_expected(node, found))}{cure}", path)


def path_text(path: Iterable[Step]) -> str:
    """Return a path as text: `("spec", "data", 0, "name")` -> `spec.data[0].name`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def find_nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is spelt most alike, in any case; None if none is close."""
    by_case = {one.lower(): one for one in known}
    close = get_close_matches(word.lower(), by_case, n=1, cutoff=0.6)
    return by_case[close[0]] if close else None


def format_value(value: Any) -> str:
    """Return a value as in YAML; a long one is cut."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return f'"{_cut(value)}"'
        case int() | float():
            return _cut(str(value))
        case list():
            return f"a list of {len(value)}" if value else "an empty list"
        case dict():
            return f"a mapping ({_cut(', '.join(map(str, value)))})" if value else "an empty mapping"
    return _cut(str(value))


def describe_expected(schema: Schema, found: Any = None) -> str:
    """Describe a valid value, as a noun with its bounds, without an article."""
    if "enum" in schema:
        return "one of " + ", ".join(str(word) for word in schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity such as 4, 500m or 16Gi"
    match schema.get("type"):
        case "integer":
            return f"whole number{_between(schema)}"
        case "number":
            return f"number{_between(schema)}"
        case "boolean":
            return "true or false"
        case "array":
            return f"list{_sized(schema, 'Items', 'items')}"
        case "object":
            fields = list(schema.get("properties", {}))
            return f"mapping with {', '.join(fields)}" if fields else f"mapping{_sized(schema, 'Properties', 'fields')}"
        case "string":
            if isinstance(found, str) and len(found) > schema.get("maxLength", len(found)):
                return f"text of at most {schema['maxLength']} characters"
            return _PHRASES.get(schema.get("pattern", ""), _text(schema))
    return "value"


def _rule_errors(path: tuple[Step, ...], message: str, value: Any) -> Iterator[FieldError]:
    """Yield the error of a rule; its message may begin with a field."""
    field, colon, rest = message.partition(": ")
    if colon and " " not in field:
        yield FieldError((*path, *field.split(".")), rest, (*path, *field.split(".")))
    else:
        yield FieldError(path, message, path)
    del value


def _path(loc: Sequence[Step], value: Any) -> tuple[Step, ...]:
    """Return the steps that exist in the value: unions and validators add steps of their own."""
    path: list[Step] = []
    for step in loc:
        known = step in value if isinstance(value, dict) else isinstance(value, list) and isinstance(step, int)
        if known:
            path.append(step)
            value = value[step]
    return tuple(path)


def _at(value: Any, path: Iterable[Step]) -> Any:
    for step in path:
        value = value[step]
    return value


def _schema_at(schema: Schema, path: Iterable[Step]) -> Schema:
    for step in path:
        if isinstance(step, int):
            schema = schema.get("items", {})
        else:
            schema = schema.get("properties", {}).get(step) or schema.get("additionalProperties") or {}
    return schema


def _suggest_field(path: Sequence[Step], schema: Schema) -> str:
    """Suggest the intended field: one spelt alike, or of the same name elsewhere."""
    name, known = str(path[-1]), list(_schema_at(schema, path[:-1]).get("properties", {}))
    if (meant := find_nearest(name, known)) is not None:
        return f"did you mean {meant}?"
    elsewhere = [node.path for node in walk(schema) if node.path.endswith(f".{name}") and node.path.startswith("spec.")]
    if elsewhere:
        return f"{elsewhere[0].replace('[]', '[0]').replace('{}', '.NAME')} has that name: check the indentation"
    return f"allowed: {', '.join(known)}" if known else "remove it"


def _suggest_value(found: Any, schema: Schema, spot: Spot) -> str:
    kind, text = schema.get("type"), spot.text
    if "enum" in schema and isinstance(found, str):
        meant = find_nearest(found, map(str, schema["enum"]))
        return f"; did you mean {meant}?" if meant else ""
    if kind == "string" and isinstance(found, bool | int | float) and text is not None:
        reads = f"YAML reads {text} as {format_value(found)}: " if text != format_value(found) else ""
        return f'; {reads}write it in quotes: "{text}"'
    if kind in ("integer", "number", "boolean") and isinstance(found, str) and _unquoted(found, kind):
        return f"; write it without quotes: {found}"
    if kind == "array" and found is not None and not isinstance(found, list):
        return "; write a list: [...]"
    return ""


def _unquoted(found: str, kind: str) -> bool:
    if kind == "boolean":
        return found in ("true", "false")
    return found.removeprefix("-").replace(".", "", 1).isdecimal()


def _between(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above = "above" if schema.get("exclusiveMinimum") else "at least"
    below = "below" if schema.get("exclusiveMaximum") else "at most"
    if low is not None and high is not None and "above" not in above and "below" not in below:
        return f" from {low:g} to {high:,}" if isinstance(high, int) else f" from {low:g} to {high:g}"
    parts = [f"{above} {low:g}"] if low is not None else []
    parts += [f"{below} {high:g}"] if high is not None else []
    return f" {' and '.join(parts)}" if parts else ""


def _sized(schema: Schema, bound: str, things: str) -> str:
    low, high = schema.get(f"min{bound}"), schema.get(f"max{bound}")
    parts = [f"at least {low}"] if low else []
    parts += [f"at most {high}"] if high is not None else []
    return f" of {' and '.join(parts)} {things}" if parts else ""


def _text(schema: Schema) -> str:
    if pattern := schema.get("pattern"):
        return f"text that matches {pattern}"
    return f"text{_sized(schema, 'Length', 'characters')}"


def _a(noun: str) -> str:
    if noun.startswith(("one of", "true")):
        return noun
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _pattern(annotated: Any) -> str:
    for meta in get_args(annotated)[1:]:
        parts = meta.metadata if isinstance(meta, FieldInfo) else [meta]
        for part in parts:
            if pattern := getattr(part, "pattern", None):
                return str(pattern)
    raise TypeError(f"{annotated} has no pattern")


_PHRASES: Mapping[str, str] = {
    _pattern(base.Duration): "length of time such as 90s, 10m, 12h or 7d",
    _pattern(base.Digest): "digest: sha256: and 64 digits of 0-9a-f",
    _pattern(base.Image): "name of an image",
    _pattern(base.DnsLabel): "name: lower-case letters, digits and -, a letter first",
    _pattern(base.ObjectName): "name: lower-case letters, digits, - and .",
    _pattern(artifacts.StoreUri): "URI in the store such as store:///models/digits",
    _pattern(entrypoint.Factory): "package.module:callable",
    _pattern(scheduling.LabelKey): "key such as team or example.org/team",
    _pattern(scheduling.LabelValue): "value of a label: letters, digits, -, _ and .",
    _pattern(podtemplate.MountPath): "absolute path such as /workspace",
}
