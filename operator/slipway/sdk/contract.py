"""What a plugin's class must keep before it is run on anything: pure functions, a finding for each thing."""

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
    """Of its manifest, and of its parameters: what they say, their bounds and their defaults."""
    try:
        schema = plugin.params.model_json_schema()
        jsonschema.Draft202012Validator.check_schema(schema)
    except (
        PydanticInvalidForJsonSchema,
        PydanticSchemaGenerationError,
        PydanticUserError,
        jsonschema.SchemaError,
    ) as error:
        cure = "use types that JSON can say, and patterns that JSON Schema knows"
        return [Finding("parameters", "fail", f"they have no JSON Schema: {error}", cure)]
    return [
        _manifest(plugin),
        finding_of(
            "descriptions",
            [f"{path} has no description" for path, field in fields(schema) if not field.get("description")],
            "each parameter has one",
            "write Field(description=...): it is all that users are told",
        ),
        finding_of(
            "bounds",
            [f"{path} has no {side} bound" for path, field in fields(schema) for side in _unbounded(field)],
            "each number has both",
            "write Field(ge=..., le=...), so that nonsense is refused before a pod starts",
        ),
        finding_of(
            "defaults",
            _wrong_defaults(plugin, schema),
            "they are valid",
            "give each parameter a default that keeps its own bounds",
        ),
        finding_of(
            "unknown parameters",
            [f"{owner} takes them" for owner, body in _models(schema) if body.get("additionalProperties") is not False],
            "they are refused",
            'set model_config = ConfigDict(extra="forbid"), so that a misspelt name is told',
        ),
    ]


def import_finding(heavy: Sequence[str]) -> Finding:
    """heavy: what importing the plugin's module has imported of what the command line goes without."""
    return finding_of(
        "import",
        [f"importing its module imports {name}" for name in heavy],
        "its module imports nothing heavy",
        "import it inside run: the command line describes plugins where it is not installed",
    )


def fields(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Each parameter with its schema: `ratio`, and `Recovery.epochs` of a model within."""
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
    """Which bounds are missing: lower, upper. Of a choice, such as a number or null, each number must have both."""
    if choices := field.get("anyOf"):
        return sorted({side for choice in choices for side in _unbounded(choice)})
    if field.get("type") == "array":
        return _unbounded(field.get("items", {}))
    if field.get("type") not in ("integer", "number") or field.keys() & {"enum", "const"}:
        return []
    sides = {"lower": {"minimum", "exclusiveMinimum"}, "upper": {"maximum", "exclusiveMaximum"}}
    return [side for side, words in sides.items() if not field.keys() & words]


def _wrong_defaults(plugin: Compression[Any], schema: Schema) -> list[str]:
    """By the model itself, as a pod sees it, and by its schema, as the operator does."""
    try:
        given = plugin.params().model_dump(mode="json")
        plugin.params.model_validate(given)
    except ValidationError as error:
        return [f"{'.'.join(map(str, item['loc'])) or 'params'}: {item['msg']}" for item in error.errors()]
    errors = jsonschema.Draft202012Validator(schema).iter_errors(given)
    return [f"{'.'.join(map(str, error.path)) or 'params'}: {error.message}" for error in errors]


def _manifest(plugin: Compression[Any]) -> Finding:
    cure = "mend it in the class: `slipway plugin manifest` would print it so"
    try:
        body = plugin_manifest(plugin)
        CompressionPlugin.model_validate_json(json.dumps(body, allow_nan=False))
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        return finding_of("manifest", wrong, "", cure)
    except ValueError as error:  # NaN or infinity
        return Finding("manifest", "fail", f"it is no JSON: {error}", cure)
    if not plugin.description.strip():
        return Finding("manifest", "warn", "description is empty", "say in a sentence what it does")
    takes = f"takes {plugin.consumes}, gives {plugin.produces}"
    return Finding("manifest", "ok", f"{plugin.name} {plugin.version} {takes}")
