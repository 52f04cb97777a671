"""pydantic models as structural OpenAPI v3 schemas, the form that a CustomResourceDefinition asks for.

A structural schema has no $ref, no anyOf null and no title, exclusive bounds are booleans beside the bound, and every
list says how server-side apply merges it (KEP-1979 and the API conventions on custom resources). A constraint
that has no such form raises TypeError here, so that no model loses one on its way into the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, NoDefault
from pydantic_core import CoreSchema, core_schema

from slipway.api.base import Model

Schema = dict[str, Any]

# In this order they are written: what a reader looks for comes first.
_KEPT = (
    "description",
    "type",
    "format",
    "default",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "anyOf",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
    "properties",
    "additionalProperties",
    "items",
)
_DROPPED = ("title", "$defs")
_RULES = "x-kubernetes-validations"


@dataclass(frozen=True, slots=True)
class Node:
    """One place in a schema. path: `spec.data[].name`, with `{}` for the values of a map; "" is the root."""

    path: str
    schema: Schema
    required: bool = False


def structural(model: type[Model]) -> Schema:
    """Return the schema of the model as a user may write it. Raises TypeError if it has no structural form."""
    raw = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    return _structural(raw, raw.get("$defs", {}))


def walk(schema: Schema, path: str = "", *, required: bool = False) -> Iterator[Node]:
    """Yield every place of a structural schema, parents first."""
    yield Node(path, schema, required)
    for name, field in schema.get("properties", {}).items():
        yield from walk(field, f"{path}.{name}".lstrip("."), required=name in schema.get("required", ()))
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


def without_defaults(schema: Schema) -> Schema:
    """Return the schema without defaults, so that the API server adds none."""
    kept = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in kept:
        kept["properties"] = {name: without_defaults(field) for name, field in kept["properties"].items()}
    for child in ("items", "additionalProperties"):
        if child in kept:
            kept[child] = without_defaults(kept[child])
    return kept


class _Generator(GenerateJsonSchema):
    """Optional means absent, never null; a default made by a factory is a default."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        if "default_factory" in schema:
            return schema["default_factory"]()  # type: ignore[call-arg]  # none of ours takes the validated data
        default = super().get_default_value(schema)
        return NoDefault if default is None else default

    def encode_default(self, dft: Any) -> Any:
        # An empty object is enough: the API server fills it from the defaults of its fields.
        if isinstance(dft, Model):
            return dft.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return super().encode_default(dft)

    def field_title_should_be_set(self, schema: CoreSchema | Any) -> bool:
        del schema
        return False


def _structural(node: Mapping[str, Any], defs: Mapping[str, Any]) -> Schema:
    if "$ref" in node:
        target = defs[node["$ref"].removeprefix("#/$defs/")]
        return _structural({**target, **{key: value for key, value in node.items() if key != "$ref"}}, defs)
    found = {key: value for key, value in node.items() if key not in _DROPPED}
    if "description" in found:  # without the line breaks of the source
        found["description"] = " ".join(found["description"].split())
    if "const" in found:
        found["enum"] = [found.pop("const")]
    if isinstance(found.get("additionalProperties"), bool):
        raise TypeError(f"{dict(node)}: a map needs a schema for its values")
    if names := _names_of_properties(found):
        found[_RULES] = [*names, *found.get(_RULES, ())]
    for bound, flag in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if flag in found:
            found[bound], found[flag] = found[flag], True
    if found.get("type") == "array":
        found.setdefault("x-kubernetes-list-type", "atomic")
    if unknown := sorted(set(found) - set(_KEPT)):
        raise TypeError(f"{', '.join(unknown)} has no place in a structural schema: {dict(node)}")
    if "properties" in found:
        found["properties"] = {name: _structural(field, defs) for name, field in found["properties"].items()}
    for child in ("items", "additionalProperties"):
        if child in found:
            found[child] = _structural(found[child], defs)
    return {key: found[key] for key in _KEPT if key in found}


def _names_of_properties(found: Schema) -> list[dict[str, str]]:
    """Return the rules for the keys of a map: a structural schema has no propertyNames. Changes `found`."""
    names = found.pop("propertyNames", {})
    for pattern, values in found.pop("patternProperties", {}).items():
        found["additionalProperties"] = values
        names = {**names, "pattern": pattern}
    rules = []
    if "maxLength" in names:
        limit = names["maxLength"]
        rules.append(
            {"rule": f"self.all(key, key.size() <= {limit})", "message": f"keys must have at most {limit} characters"}
        )
    if "pattern" in names:
        pattern = names["pattern"]
        rules.append({"rule": f"self.all(key, key.matches(r'{pattern}'))", "message": f"keys must match {pattern}"})
    return rules
