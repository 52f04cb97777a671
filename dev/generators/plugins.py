"""The page of the plugins that are shipped: what each takes and gives, and its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from generators.manifests import COMMAND
from generators.reference import row_cells
from slipway.sdk.plugin import Compression


def plugins_page(plugins: Iterable[Compression[Any]]) -> str:
    """A table of parameters for each plugin, nested ones by their path."""
    lines = [
        f"<!-- Made by `{COMMAND}` from plugins/slipway_plugins. Do not edit. -->",
        "# Plugins",
        "",
        "The plugins that are shipped, as `spec.compression.steps[]` names them, and what `params` may hold.",
    ]
    for plugin in plugins:
        needs = "needs data" if plugin.needs_data else "needs no data"
        lines += ["", f"## {plugin.name}", "", plugin.description, ""]
        lines += [f"{plugin.consumes} to {plugin.produces}; {needs}; version {plugin.version}."]
        schema = plugin.params.model_json_schema()
        if rows := list(_rows(schema, schema.get("$defs", {}), "")):
            lines += ["", "| parameter | type | default | bounds | description |", "|---|---|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def _rows(schema: Mapping[str, Any], defs: Mapping[str, Any], above: str) -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        inner = defs.get(field.get("$ref", "").removeprefix("#/$defs/"))
        if inner and "properties" in inner:
            yield from _rows(inner, defs, f"{above}{name}.")
        else:
            yield row_cells(f"{above}{name}", _as_in_a_crd({**(inner or {}), **field}))


def _as_in_a_crd(field: dict[str, Any]) -> dict[str, Any]:
    """Draft 2020-12 has an exclusive bound as a number, a CRD as a mark on the other bound."""
    for bound in ("minimum", "maximum"):
        exclusive = f"exclusive{bound.capitalize()}"
        if exclusive in field:
            field |= {bound: field[exclusive], exclusive: True}
    return field
