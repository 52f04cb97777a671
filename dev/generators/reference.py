"""The reference tables: every field and every rule of the resources."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from generators.manifests import COMMAND
from slipway.api.crds import Resource, root_schema
from slipway.api.schema import Node, Schema, walk

_NOTE = f"<!-- Made by `{COMMAND}` from operator/slipway/api. Do not edit. -->"
_NUMBER_BOUNDS = (("minimum", "exclusiveMinimum", ">"), ("maximum", "exclusiveMaximum", "<"))
_SIZES = (
    ("minLength", "maxLength", "characters"),
    ("minItems", "maxItems", "items"),
    ("minProperties", "maxProperties", "keys"),
)


def fields_page(resources: Sequence[Resource]) -> str:
    """A table of fields for each kind."""
    lines = [
        _NOTE,
        "# Fields",
        "",
        "`[]` are the items of a list, `{}` the values of a map. A field without a default may be left out unless it"
        " is *required*. `kubectl explain` shows the same.",
    ]
    for resource in resources:
        lines += ["", f"## {resource.kind}", "", resource.model.__doc__ or "", ""]
        lines += ["| field | type | default | bounds | description |", "|---|---|---|---|---|"]
        lines += [_row(node) for node in _documented(root_schema(resource))]
    return "\n".join(lines) + "\n"


def rules_page(resources: Sequence[Resource]) -> str:
    """What one field demands of another, as the API server checks it."""
    lines = [
        _NOTE,
        "# Rules",
        "",
        "What the API server checks besides the bounds of single fields. An object that breaks one is refused with"
        " the message beside it. Rules with `oldSelf` are asked when an object is changed.",
    ]
    for resource in resources:
        lines += ["", f"## {resource.kind}", "", "| where | message | rule (CEL) |", "|---|---|---|"]
        for node in walk(root_schema(resource)):
            for rule in node.schema.get("x-kubernetes-validations", ()):
                where = f"{node.path}{rule.get('fieldPath', '')}".lstrip(".")
                lines.append(f"| `{where}` | {_prose(rule['message'])} | `{_cell(rule['rule'])}` |")
    return "\n".join(lines) + "\n"


def _documented(schema: Schema) -> Iterator[Node]:
    for node in walk(schema):
        if node.path.startswith(("spec", "status")) and "description" in node.schema:
            yield node


def _row(node: Node) -> str:
    return row_cells(node.path, node.schema, required=node.required)


def row_cells(path: str, schema: Schema, *, required: bool = False) -> str:
    """A line of a table: path, type, default, bounds, description."""
    default = f"`{json.dumps(schema['default'])}`" if "default" in schema else ""
    cells = (f"`{path}`", _type(schema), default or ("*required*" if required else ""))
    return f"| {' | '.join(cells)} | {_cell(', '.join(_bounds(schema)))} | {_cell(schema['description'])} |"


def _type(schema: Schema) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "quantity"
    if choices := schema.get("anyOf"):
        return " or ".join(f"`{choice['const']}`" if "const" in choice else _type(choice) for choice in choices)
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map of {_type(schema['additionalProperties'])}"
    if schema.get("format") == "date-time":
        return "time"
    return str(schema["type"])


def _bounds(schema: Schema) -> Iterator[str]:
    if "enum" in schema:
        yield " ".join(f"`{value}`" if value else '`""`' for value in schema["enum"])
    for bound, exclusive, sign in _NUMBER_BOUNDS:
        if bound in schema:
            yield f"{sign}{'' if schema.get(exclusive) else '='} {schema[bound]}"
    for least, most, what in _SIZES:
        if most in schema or least in schema:
            yield f"{schema.get(least, 0)} to {schema.get(most, 'any number of')} {what}"
    if "pattern" in schema:
        yield f"`{schema['pattern']}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _prose(text: str) -> str:
    """Brackets of a pattern would make a link, and its asterisks emphasis; what stands in backticks is left alone."""
    parts = _cell(text).split("`")
    parts[::2] = [re.sub(r"([\[\]*])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)
