"""Parameters of a step against the schema of its plugin: what is refused, and that neither can stop the operator."""

from __future__ import annotations

import time
from typing import Any

import pytest

from slipway.api.errors import SpecError
from slipway.plan.deployment import params as module
from slipway.plan.deployment.params import MAX_EVALUATIONS, MAX_SCHEMA_BYTES, check_params
from support.builders import prune_plugin

FIELD = "spec.compression.steps[0].params"
LONGEST_SECONDS = 5.0
"""On a machine that does much else at the same time; alone the worst takes below one."""


def refusal(params: dict[str, Any], schema: dict[str, Any]) -> SpecError | None:
    module._evaluated.cache_clear()
    started = time.process_time()
    try:
        check_params(FIELD, "p", params, schema)
    except SpecError as error:
        return error
    finally:
        assert time.process_time() - started < LONGEST_SECONDS
    return None


def text(pattern: str) -> dict[str, Any]:
    return {"properties": {"layers": {"type": "string", "pattern": pattern}}}


def nested(levels: int) -> Any:
    return {"allOf": [nested(levels - 1)]} if levels else {"type": "object"}


def doubling(levels: int, keyword: str) -> dict[str, Any]:
    """2**levels evaluations in a schema of a few lines."""
    defs: dict[str, Any] = {
        f"d{i}": {keyword: [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{i + 1}"}]} for i in range(levels)
    }
    defs[f"d{levels}"] = {"type": "object"} if keyword == "allOf" else {"type": "string"}
    return {"$ref": "#/$defs/d0", "$defs": defs}


A_LOT = 100_000
TAKES_LONG: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a pattern that backtracks": ({"layers": "a" * 60 + "!"}, text(r"^([a-z0-9_]+\.?)+$")),
    "another, on a long text": ({"layers": "a" * A_LOT + "!"}, text(r"^(a|a|aa)+$")),
    "a pattern of property names": (
        {"a" * 60 + "!": 1},
        {"patternProperties": {r"^([a-z0-9_]+\.?)+$": {}}, "additionalProperties": False},
    ),
    "a pattern of names, inside": ({"a" * 60 + "!": 1}, {"propertyNames": {"pattern": r"^([a-z0-9_]+\.?)+$"}}),
    "references that double": ({"a": 1}, doubling(30, "allOf")),
    "alternatives that double": ({"a": 1}, doubling(30, "anyOf")),
    "one of alternatives that double": ({"a": 1}, doubling(30, "oneOf")),
    "a reference to itself": ({"a": 1}, {"$ref": "#"}),
    "references in a circle": (
        {"a": 1},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#"}}},
    ),
    "unevaluated properties that double": ({"a": 1}, {**doubling(30, "allOf"), "unevaluatedProperties": False}),
    "conditions that double": (
        {"a": 1},
        {
            "$ref": "#/$defs/d0",
            "$defs": {
                f"d{i}": {"if": {"$ref": f"#/$defs/d{i + 1}"}, "then": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(30)
            }
            | {"d30": {"type": "object"}},
        },
    ),
    "lists of unequal things": ({"a": [{"x": i} for i in range(9000)]}, {"properties": {"a": {"uniqueItems": True}}}),
    "a large enumeration of each item": (
        {"a": list(range(20_000))},
        {"properties": {"a": {"items": {"enum": [f"value {i}" for i in range(10_000)]}}}},
    ),
    "long texts in every message": (
        {"a": ["x" * 10_000] * 20},
        {"properties": {"a": {"items": {"anyOf": [{"enum": [i]} for i in range(5_000)]}}}},
    ),
    "items that hold": ({"a": [0] * 60_000}, {"properties": {"a": {"contains": {"const": 1}}}}),
    "many alternatives of a long list": (
        {"a": list(range(20_000))},
        {"properties": {"a": {"oneOf": [{"items": {"type": "integer"}} for _ in range(5_000)]}}},
    ),
    "a pattern that fills the memory": ({"layers": "a"}, text("((((a{0,100}){0,100}){0,100}){0,100}){0,100}")),
}


@pytest.mark.parametrize(("params", "schema"), TAKES_LONG.values(), ids=TAKES_LONG)
def test_no_schema_on_no_parameters_takes_long(params: dict[str, Any], schema: dict[str, Any]) -> None:
    refused = refusal(params, schema)
    assert refused is None or refused.reason in ("InvalidParams", "PluginInvalid")
    assert refused is None or "p" in str(refused).split()
    assert len(str(refused)) < 2000


def test_what_takes_too_many_evaluations_is_reported_by_the_plugins_name() -> None:
    refused = refusal({"a": 1}, doubling(20, "allOf"))
    assert refused is not None
    assert refused.reason == "PluginInvalid"
    assert str(refused) == (
        f"{FIELD}: its CompressionPlugin p has no usable JSON Schema: checking these parameters needs more than "
        f"{MAX_EVALUATIONS} evaluations; correct spec.parameters of p"
    )


@pytest.mark.parametrize(
    ("params", "schema", "reason", "problem"),
    [
        ({"layers": "x"}, text("(?=a)b"), "PluginInvalid", "pattern '(?=a)b' is not valid in RE2"),
        ({"layers": "x"}, text("("), "PluginInvalid", "is not valid in RE2"),
        ({}, {"description": "x" * MAX_SCHEMA_BYTES}, "PluginInvalid", f"the maximum is {MAX_SCHEMA_BYTES}"),
        ({}, {"$ref": "https://example.com/schema"}, "PluginInvalid", "Unresolvable"),
        ({"a": 1}, {"type": "no type"}, "PluginInvalid", "UnknownType"),
        (
            {"a": 1},
            {"patternProperties": {"a": {}}, "unevaluatedProperties": False},
            "PluginInvalid",
            "cannot be used together",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused_with_the_reason(
    params: dict[str, Any], schema: dict[str, Any], reason: str, problem: str
) -> None:
    refused = refusal(params, schema)
    assert refused is not None
    assert (refused.reason, problem in str(refused)) == (reason, True), refused


PATTERNS = {"patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("params", "schema", "path"),
    [
        ({"layers": "conv1.weight"}, text(r"^([a-z0-9_]+\.?)+$"), None),
        ({"layers": "CONV"}, text(r"^([a-z0-9_]+\.?)+$"), ".layers"),
        ({"layers": 3}, {"properties": {"layers": {"pattern": "a"}}}, None),
        ({"x-a": 1}, PATTERNS, None),
        ({"x-a": "b"}, PATTERNS, "['x-a']"),
        ({"y": 1}, PATTERNS, ".y"),
        ({"y": 1}, {"additionalProperties": {"type": "string"}}, ".y"),
        ({"a": [1, 2, 1.0]}, {"properties": {"a": {"uniqueItems": True}}}, ".a"),
        ({"a": [1, True, "1", None]}, {"properties": {"a": {"uniqueItems": True}}}, None),
        ({"a": [{"b": 1, "c": 2}, {"c": 2, "b": 1}]}, {"properties": {"a": {"uniqueItems": True}}}, ".a"),
        ({"a": [1, 1]}, {"properties": {"a": {"uniqueItems": False}}}, None),
        ({}, prune_plugin()["spec"]["parameters"], ".ratio"),
        ({"ratio": 0.5, "recover": {"epochs": 0}}, prune_plugin()["spec"]["parameters"], ".recover.epochs"),
        ({"ratio": 0.5, "recover": None}, prune_plugin()["spec"]["parameters"], None),
    ],
)
def test_bounded_keywords_say_what_the_standard_says(
    params: dict[str, Any], schema: dict[str, Any], path: str | None
) -> None:
    refused = refusal(params, schema)
    assert (None if refused is None else refused.field) == (None if path is None else FIELD + path)
    assert refused is None or refused.reason == "InvalidParams"
