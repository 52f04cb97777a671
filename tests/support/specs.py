"""Hypothesis strategies for valid specs, derived from the CRDs' schemas.

Types, bounds, enums, patterns and list keys are read from the structural schema; "exactly one of" is kept by
construction; what the other rules demand of neighbours is asked of the pydantic model of each object on its way up.
(Structural schemas are not JSON Schema: generators for that know neither RE2 patterns on int-or-string nor rules.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import TypeAdapter, ValidationError

from slipway.api.artifactstore import NETWORK
from slipway.api.base import DIGEST_PATTERN, Model
from slipway.api.crds import Resource, root_schema
from slipway.api.podtemplate import FREE_ANNOTATIONS
from slipway.api.scheduling import LABEL_KEY
from slipway.api.schema import Schema
from support.places import Json

Vocabulary = Mapping[str, Sequence[Any]]
"""By a schema's path (`spec.compression.steps[].plugin`): values that mean something where the spec is used."""

MANY = 3
"""Maximum number of items that are drawn for a list or a map, if the schema allows more."""

_DIGESTS = st.sampled_from("0123456789abcdef").map(lambda digit: "sha256:" + digit * 64)
_LABEL_KEYS = st.from_regex(r"([a-z]{1,8}[.]example/)?[A-Za-z0-9]{1,8}([-_.][A-Za-z0-9]{1,4})?", fullmatch=True)
_ANNOTATIONS = st.from_regex(r"[A-Za-z0-9]{1,8}|prometheus[.]io/[a-z]{1,8}", fullmatch=True)
_NETWORKS = st.sampled_from(("10.4.0.0/16", "192.168.1.7/32", "0.0.0.0/0", "fd00::/8"))
_FAST: dict[str, SearchStrategy[str]] = {
    DIGEST_PATTERN: _DIGESTS,
    LABEL_KEY: _LABEL_KEYS,
    FREE_ANNOTATIONS: _ANNOTATIONS,
    NETWORK: _NETWORKS,
}
"""For patterns that cost too much to draw from as they are."""

JSON: SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
"""Values of a field whose content the schema does not define."""


def specs(resource: Resource, vocabulary: Vocabulary | None = None) -> SearchStrategy[Json]:
    """Valid specs of a kind, in wire form."""
    return values(resource, ("spec",), vocabulary)


def values(resource: Resource, fields: Sequence[str], vocabulary: Vocabulary | None = None) -> SearchStrategy[Any]:
    """Values of one field (`("spec", "serving", "replicas")`), valid by itself."""
    schema, owner = root_schema(resource), resource.model
    for name in fields[:-1]:
        schema, owner = schema["properties"][name], _inner(owner, name) or owner
    last = fields[-1]
    return _value(schema["properties"][last], ".".join(fields), _inner(owner, last), vocabulary or {})


def mutable_fields(resource: Resource) -> list[tuple[str, ...]]:
    """The fields of the spec, at any depth outside lists and maps, that no transition rule keeps as they are."""
    spec = root_schema(resource)["properties"]["spec"]
    rules = spec.get("x-kubernetes-validations", ())
    fixed = {rule["fieldPath"].lstrip(".") for rule in rules if "oldSelf" in rule["rule"]}
    return [field for field in _fields(spec, ("spec",)) if field[1] not in fixed]


def _fields(schema: Schema, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, field in schema.get("properties", {}).items():
        yield (*above, name)
        yield from _fields(field, (*above, name))


def _value(schema: Schema, path: str, model: type[Model] | None, words: Vocabulary) -> SearchStrategy[Any]:
    found = _by_type(schema, path, model, words)
    return st.one_of(st.sampled_from(words[path]), st.sampled_from(words[path]), found) if path in words else found


def _by_type(schema: Schema, path: str, model: type[Model] | None, words: Vocabulary) -> SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.integers(schema["minimum"], 64) | _text(schema)
    kind = schema["type"]
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        low, high = schema["minimum"], schema["maximum"]
        return st.integers(low, min(high, low + 3)) | st.integers(low, high) | st.just(high)
    if kind == "number":
        return st.floats(schema["minimum"], schema["maximum"])
    if kind == "string":
        return _text(schema)
    if kind == "array":
        return _list(schema, path, model, words)
    if "additionalProperties" in schema:
        most = min(schema["maxProperties"], MANY)
        value = _value(schema["additionalProperties"], path + "{}", None, words)
        return st.dictionaries(_keys(schema), value, min_size=schema.get("minProperties", 0), max_size=most)
    if "properties" not in schema:
        return st.dictionaries(st.text(max_size=8), JSON, max_size=MANY)
    return _object(schema, path, model, words)


def _text(schema: Schema) -> SearchStrategy[str]:
    pattern, least, most = schema.get("pattern"), schema.get("minLength", 0), schema["maxLength"]
    if pattern is None:
        return st.text(min_size=least, max_size=min(most, 12))
    drawn = _FAST[pattern] if pattern in _FAST else st.from_regex(pattern.removesuffix("$") + r"\Z", alphabet=_UNICODE)
    return drawn.filter(lambda text: least <= len(text) <= most)


_UNICODE = st.characters(codec="utf-8")


def _list(schema: Schema, path: str, model: type[Model] | None, words: Vocabulary) -> SearchStrategy[list[Any]]:
    item = _value(schema["items"], path + "[]", model, words)
    least, most = schema.get("minItems", 0), min(schema["maxItems"], MANY)
    keys = schema.get("x-kubernetes-list-map-keys")
    if not keys:
        return st.lists(item, min_size=least, max_size=most)
    defaults = {key: schema["items"]["properties"][key].get("default") for key in keys}
    return st.lists(
        item, min_size=least, max_size=most, unique_by=lambda one: tuple(one.get(key, defaults[key]) for key in keys)
    )


def _keys(schema: Schema) -> SearchStrategy[str]:
    """A map's rule on its keys names their pattern."""
    rules = [rule["rule"] for rule in schema.get("x-kubernetes-validations", ())]
    patterns = [found[1] for rule in rules if (found := re.search(r"key\.matches\(r'(.*)'\)", rule))]
    return _text({"pattern": patterns[0], "maxLength": 317}) if patterns else st.text(min_size=1, max_size=8)


def _object(schema: Schema, path: str, model: type[Model] | None, words: Vocabulary) -> SearchStrategy[Json]:
    fields = {
        name: _value(field, f"{path}.{name}", _inner(model, name), words)
        for name, field in schema["properties"].items()
    }
    required = set(schema.get("required", ()))
    groups = [names for rule in schema.get("x-kubernetes-validations", ()) if (names := _exclusive(rule["rule"]))]
    grouped = {name for names in groups for name in names}
    drawn = st.fixed_dictionaries(
        {name: fields[name] for name in fields if name in required},
        optional={name: fields[name] for name in fields if name not in required | grouped},
    )
    for names in groups:
        one = st.one_of([fields[name].map(lambda value, name=name: {name: value}) for name in names])
        drawn = st.builds(lambda left, right: {**left, **right}, drawn, one)
    if "volumeMounts" in fields:
        drawn = st.builds(_mounted, drawn, st.integers(0, MANY))
    return drawn if model is None else drawn.filter(_by_the_rules(model))


def _exclusive(rule: str) -> list[str]:
    """The fields that exclude each other by a rule."""
    return re.findall(r"has\(self\.(\w+)\)", rule) if rule.endswith(".filter(x, x).size() == 1") else []


def _mounted(template: Json, which: int) -> Json:
    """Mounts of volumes that are there."""
    names = [volume["name"] for volume in template.get("volumes", ())]
    mounts = [{**mount, "name": names[which % len(names)]} for mount in template.get("volumeMounts", ()) if names]
    return {**template, "volumeMounts": mounts} if "volumeMounts" in template else template


def _by_the_rules(model: type[Model]) -> Any:
    adapter = TypeAdapter(model)

    def keeps(value: Json) -> bool:
        try:
            adapter.validate_python(value)
        except ValidationError:
            return False
        return True

    return keeps


def _inner(model: type[Model] | None, name: str) -> type[Model] | None:
    """The model of a field's value or of its items, None where it has none."""
    if model is None:
        return None
    field = next(field for field in model.model_fields.values() if field.alias == name)
    return next(_models(field.annotation), None)


def _models(annotation: Any) -> Iterator[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
