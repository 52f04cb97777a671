"""The page of the rules, and what the reference says of a schema: its type and its bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from generators.manifests import COMMAND
from slipway.api.crds import Resource, root_schema
from slipway.api.schema import Schema, walk

_NOTE = f"<!-- Made by `{COMMAND}` from operator/slipway/api. Do not edit. -->"
_NUMBER_BOUNDS = (("minimum", "exclusiveMinimum", ">"), ("maximum", "exclusiveMaximum", "<"))
_SIZES = (
    ("minLength", "maxLength", "characters"),
    ("minItems", "maxItems", "items"),
    ("minProperties", "maxProperties", "keys"),
)


def rules_page(resources: Sequence[Resource]) -> str:
    """Return a list of rules for each kind, because no table of such rules fits a page."""
    lines = [
        _NOTE,
        "# Rules between fields",
        "",
        "The API server checks these rules in addition to the [limits of single fields](fields.md). It rejects an"
        " object that breaks a rule with the message below. The CEL expression of the rule follows the message; a rule"
        " with `oldSelf` applies to updates only.",
    ]
    for resource in resources:
        lines += ["", f"## {resource.kind}", ""]
        for node in walk(root_schema(resource)):
            for rule in node.schema.get("x-kubernetes-validations", ()):
                where = f"{node.path}{rule.get('fieldPath', '')}".lstrip(".")
                lines.append(f"- `{where}`: {_prose(rule['message'])}<br>`{rule['rule']}`")
    return "\n".join(lines) + "\n"


def type_of(schema: Schema) -> str:
    """Return the type in words and Markdown: `list of string`, `quantity`, `time`."""
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if choices := schema.get("anyOf"):
        return " or ".join(f"`{choice['const']}`" if "const" in choice else type_of(choice) for choice in choices)
    if schema["type"] == "array":
        return f"list of {type_of(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map of {type_of(schema['additionalProperties'])}"
    if schema.get("format") == "date-time":
        return "time"
    return str(schema["type"])


def bounds_of(schema: Schema) -> Iterator[str]:
    """Yield the limits of a value, in Markdown: `>= 1`, `1 to 63 characters`, a pattern."""
    if "enum" in schema:
        yield "one of " + " ".join(f"`{value}`" if value else '`""`' for value in schema["enum"])
    for bound, exclusive, sign in _NUMBER_BOUNDS:
        if bound in schema:
            yield f"{sign}{'' if schema.get(exclusive) else '='} {schema[bound]}"
    for least, most, what in _SIZES:
        if most in schema or least in schema:
            yield f"{schema.get(least, 0)} to {schema.get(most, 'any number of')} {what}"
    if "pattern" in schema:
        yield f"`{schema['pattern']}`"


def _prose(text: str) -> str:
    """Escape brackets and asterisks outside backticks: Markdown would take them for links and emphasis."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"([\[\]*])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)
