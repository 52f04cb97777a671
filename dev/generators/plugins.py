"""The page of the plugins that are shipped: what each takes and gives, and its parameters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from generators.manifests import COMMAND
from generators.reference import bounds_of, type_of
from slipway.sdk.plugin import Compression


def plugins_page(plugins: Iterable[Compression[Any]]) -> str:
    """A list of parameters for each plugin, nested ones by their path."""
    lines = [
        f"<!-- Made by `{COMMAND}` from plugins/slipway_plugins. Do not edit. -->",
        "# Plugins",
        "",
        "Slipway ships these plugins. Name one in `spec.compression.steps[].plugin` and set its `params`.",
    ]
    for plugin in plugins:
        needs = "needs data" if plugin.needs_data else "needs no data"
        lines += ["", f"## {plugin.name}", "", plugin.description, ""]
        lines += [f"Version {plugin.version} takes `{plugin.consumes}`, gives `{plugin.produces}` and {needs}."]
        schema = plugin.params.model_json_schema()
        if items := list(_items(schema, schema.get("$defs", {}), "")):
            lines += ["", *items]
    return "\n".join(lines) + "\n"


def _items(schema: Mapping[str, Any], defs: Mapping[str, Any], above: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        inner = defs.get(field.get("$ref", "").removeprefix("#/$defs/"))
        if inner and "properties" in inner:
            yield from _items(inner, defs, f"{above}{name}.")
        else:
            yield _item(f"{above}{name}", _as_in_a_crd({**(inner or {}), **field}))


def _item(path: str, schema: dict[str, Any]) -> str:
    default = [f"default `{json.dumps(schema['default'])}`"] if "default" in schema else []
    says = ", ".join([type_of(schema), *default, *bounds_of(schema)])
    return f"- `{path}` ({says}): {schema['description']}"


def _as_in_a_crd(field: dict[str, Any]) -> dict[str, Any]:
    """Draft 2020-12 has an exclusive bound as a number, a CRD as a mark on the other bound."""
    for bound in ("minimum", "maximum"):
        exclusive = f"exclusive{bound.capitalize()}"
        if exclusive in field:
            field |= {bound: field[exclusive], exclusive: True}
    return field
