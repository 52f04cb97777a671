"""Checks of a plugin's class before it runs on a model: pure functions, with a finding for each check."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jsonschema
from pydantic import ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUserError

from slipway.api.compressionplugin import CompressionPlugin
from slipway.api.errors import Finding, finding_of
from slipway.sdk.plugin import Compression, plugin_manifest

Schema = Mapping[str, Any]


def class_findings(plugin: Compression[Any]) -> list[Finding]:
    """Return the findings on its manifest and its parameters: descriptions, bounds and defaults."""
    try:
        schema = plugin.params.model_json_schema()
        jsonschema.Draft202012Validator.check_schema(schema)
    except (
        PydanticInvalidForJsonSchema,
        PydanticSchemaGenerationError,
        PydanticUserError,
        jsonschema.SchemaError,
    ) as error:
        cure = "use types and patterns that JSON Schema has"
        return [Finding("parameters", "fail", f"they have no JSON Schema: {error}", cure)]
    return [
        _manifest(plugin),
        finding_of(
            "descriptions",
            [f"{path} has no description" for path, field in fields(schema) if not field.get("description")],
            "each parameter has one",
            "add Field(description=...), which is the documentation for users",
        ),
        finding_of(
            "bounds",
            [f"{path} has no {side} bound" for path, field in fields(schema) for side in _unbounded(field)],
            "each number has both",
            "add Field(ge=..., le=...), so that wrong values are refused before a pod starts",
        ),
        finding_of(
            "defaults",
            _wrong_defaults(plugin, schema),
            "they are valid",
            "give each parameter a default within its own bounds",
        ),
        finding_of(
            "unknown parameters",
            [f"{owner} takes them" for owner, body in _models(schema) if body.get("additionalProperties") is not False],
            "they are refused",
            'set model_config = ConfigDict(extra="forbid"), so that misspelt names are refused',
        ),
    ]


def import_finding(heavy: Sequence[str]) -> Finding:
    """Return the finding on imports. heavy: libraries that the plugin's module imports and the command line lacks."""
    return finding_of(
        "import",
        [f"importing its module imports {name}" for name in heavy],
        "its module imports nothing heavy",
        "import it inside `run`, because the command line describes plugins without it",
    )


def fields(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield each parameter with its schema: `ratio`, and `Recovery.epochs` of a nested model."""
    for owner, body in _models(schema):
        prefix = "" if body is schema else f"{owner}."
        for name, field in body.get("properties", {}).items():
            yield f"{prefix}{name}", field


def _models(schema: Schema) -> Iterator[tuple[str, Schema]]:
    yield str(schema.get("title", "params")), schema
    for name, body in schema.get("$defs", {}).items():
        if body.get("type") == "object":
            yield name, body


def _unbounded(field: Schema) -> list[str]:
    """Return the missing bounds: lower, upper. In a union, such as a number or null, each number must have both."""
    if choices := field.get("anyOf"):
        return sorted({side for choice in choices for side in _unbounded(choice)})
    if field.get("type") == "array":
        return _unbounded(field.get("items", {}))
    if field.get("type") not in ("integer", "number") or field.keys() & {"enum", "const"}:
        return []
    sides = {"lower": {"minimum", "exclusiveMinimum"}, "upper": {"maximum", "exclusiveMaximum"}}
    return [side for side, words in sides.items() if not field.keys() & words]


def _wrong_defaults(plugin: Compression[Any], schema: Schema) -> list[str]:
    """Return the invalid defaults, by the model itself as in a pod, and by its schema as in the operator."""
    try:
        given = plugin.params().model_dump(mode="json")
        plugin.params.model_validate(given)
    except ValidationError as error:
        return [f"{'.'.join(map(str, item['loc'])) or 'params'}: {item['msg']}" for item in error.errors()]
    errors = jsonschema.Draft202012Validator(schema).iter_errors(given)
    return [f"{'.'.join(map(str, error.path)) or 'params'}: {error.message}" for error in errors]


def _manifest(plugin: Compression[Any]) -> Finding:
    cure = "fix the class; `slipway plugin manifest` prints its values"
    try:
        body = plugin_manifest(plugin)
        CompressionPlugin.model_validate_json(json.dumps(body, allow_nan=False))
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        return finding_of("manifest", wrong, "", cure)
    except ValueError as error:  # NaN or infinity
        return Finding("manifest", "fail", f"it is not JSON: {error}", cure)
    if not plugin.description.strip():
        return Finding("manifest", "warn", "description is empty", "describe in a sentence what it does")
    takes = f"takes {plugin.consumes}, gives {plugin.produces}"
    return Finding("manifest", "ok", f"{plugin.name} {plugin.version} {takes}")
