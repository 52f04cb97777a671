"""Every constraint of every schema broken once, beside a neighbour that just keeps it: made from the schemas."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slipway.api.artifactstore import NETWORK
from slipway.api.crds import RESOURCES, Resource, root_schema
from slipway.api.scheduling import LABEL_KEY
from slipway.api.schema import Node, Schema, walk
from support.full_objects import full_objects
from support.places import Json, Place, places, text, value_at, with_value, without

RESOURCE_OF = {resource.kind.kind: resource for resource in RESOURCES}


@dataclass(frozen=True)
class Case:
    """One constraint. field: where the error must point; unknown fields are named by the message instead."""

    kind: str
    path: str
    constraint: str
    field: str
    broken: Json
    good: Json
    message: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.path or 'root'} {self.constraint}"


@dataclass(frozen=True)
class Spot:
    """A node of a schema, and where one of the full objects has it."""

    resource: Resource
    node: Node
    base: Json
    place: Place

    @property
    def value(self) -> Any:
        return value_at(self.base, self.place)

    def case(
        self,
        constraint: str,
        broken: Any,
        good: Any = None,
        *,
        below: str = "",
        message: str = "",
        beside: Mapping[str, Any] | None = None,
    ) -> Case:
        """A case in which this place holds the broken value, and its neighbour the good one (default: unchanged).

        below: the rest of the path that the error names. beside: what the fields next to the good value then must be.
        """
        neighbour = self.base if good is None else with_value(self.base, self.place, good)
        for name, value in (beside or {}).items():
            if name not in value_at(neighbour, self.place[:-1]):
                continue
            neighbour = with_value(neighbour, (*self.place[:-1], name), value)
        return Case(
            self.resource.kind.kind,
            self.node.path,
            constraint,
            (text(self.place) + below).lstrip("."),
            with_value(self.base, self.place, broken),
            neighbour,
            message or MESSAGES.get(constraint, ""),
        )


# What the API server says of each constraint, so that a refusal for another reason does not pass for it.
MESSAGES = {
    "type": "must be of type",
    "int-or-string": "must be of type",
    "format": "must be of type date-time",
    "enum": "Unsupported value",
    "pattern": "should match",
    "minLength": "should be at least",
    "maxLength": "may not be more than",
    "minimum": "should be greater than or equal to",
    "maximum": "should be less than or equal to",
    "minItems": "should have at least",
    "maxItems": "must have at most",
    "minProperties": "should have at least",
    "maxProperties": "must have at most",
    "unique": "Duplicate value",
}
# Where a rule ties a count to its neighbours, a count of 0 is good only beside these.
_NONE = {"lost": 0, "gained": 0}
BESIDE_ZERO = {"n": {"baselineRight": 0, **_NONE}, "baselineRight": _NONE}


def generated_cases() -> list[Case]:
    """Types, bounds, patterns, enums, required, unknown and repeated fields of all kinds."""
    return [case for spot in spots() for case in _cases(spot)]


def spots() -> Iterator[Spot]:
    """Every node of every schema that one of the full objects sets."""
    everything = full_objects()
    for resource, node in _nodes():
        for base in everything[resource.kind.kind]:
            # The last one: rules lean on the first items of a list (data named train).
            if found := list(places(base, node.path)):
                yield Spot(resource, node, base, found[-1])
                break


def unset() -> list[str]:
    """The nodes that no full object sets, so that no case breaks them."""
    found = {(spot.resource.kind.kind, spot.node.path) for spot in spots()}
    every = [(resource.kind.kind, node.path) for resource, node in _nodes()]
    return [f"{kind} {path}" for kind, path in every if (kind, path) not in found]


def _nodes() -> Iterator[tuple[Resource, Node]]:
    for resource in RESOURCES:
        for node in walk(root_schema(resource)):
            if not node.path.startswith(("apiVersion", "kind", "metadata")):
                yield resource, node


def _cases(spot: Spot) -> Iterator[Case]:
    schema = spot.node.schema
    yield from _type(spot, schema)
    if "enum" in schema:
        yield spot.case("enum", "Nonsense")
    if schema.get("type") in ("integer", "number") or "anyOf" in schema:
        yield from _numbers(spot, schema)
    if schema.get("type") == "string" or "anyOf" in schema:
        yield from _strings(spot, schema)
    if schema.get("type") == "array":
        yield from _lists(spot, schema)
    if "additionalProperties" in schema:
        yield from _maps(spot, schema)
    if "properties" in schema:
        yield from _fields(spot, schema)


def _type(spot: Spot, schema: Schema) -> Iterator[Case]:
    if "anyOf" in schema:
        yield spot.case("int-or-string", True)
    elif spot.place:
        yield spot.case("type", 7 if schema["type"] == "string" else "seven")


def _numbers(spot: Spot, schema: Schema) -> Iterator[Case]:
    step = 0.001 if schema.get("type") == "number" else 1
    for bound, flag, outwards in (("minimum", "exclusiveMinimum", -step), ("maximum", "exclusiveMaximum", step)):
        if bound in schema:
            limit, exclusive = schema[bound], schema.get(flag, False)
            broken, good = (limit, limit - outwards) if exclusive else (limit + outwards, limit)
            yield spot.case(bound, broken, good, beside=BESIDE_ZERO.get(str(spot.place[-1]), {}) if not good else {})


def _strings(spot: Spot, schema: Schema) -> Iterator[Case]:
    pattern = schema.get("pattern", "")
    if schema.get("format") == "date-time":
        yield spot.case("format", "yesterday")
    if pattern:
        yield spot.case("pattern", _not_matching(pattern, schema.get("minLength", 0)))
    if least := schema.get("minLength"):
        yield spot.case("minLength", "x" * (least - 1), _of_length(spot.value, least, pattern) or spot.value)
    if most := schema.get("maxLength"):
        longest = _of_length(spot.value, most, pattern) or LONGEST[pattern]
        yield spot.case("maxLength", _of_length(spot.value, most + 1, pattern) or longest + "0", longest)


def _lists(spot: Spot, schema: Schema) -> Iterator[Case]:
    keys = schema.get("x-kubernetes-list-map-keys", [])
    if most := schema.get("maxItems"):
        yield spot.case("maxItems", _repeated(spot.value, most + 1, keys), _repeated(spot.value, most, keys))
    if least := schema.get("minItems"):
        yield spot.case("minItems", spot.value[: least - 1], _repeated(spot.value, least, keys))
    if keys:
        yield spot.case("unique", [spot.value[0], spot.value[0]], below="[1]")


def _maps(spot: Spot, schema: Schema) -> Iterator[Case]:
    value = next(iter(spot.value.values()))
    if most := schema.get("maxProperties"):
        yield spot.case("maxProperties", _keyed(value, most + 1), _keyed(value, most))
    if least := schema.get("minProperties"):
        yield spot.case("minProperties", _keyed(value, least - 1), _keyed(value, least))


def _fields(spot: Spot, schema: Schema) -> Iterator[Case]:
    kind, path = spot.resource.kind.kind, spot.node.path
    unknown = (*spot.place, "unknownField")
    message = f'unknown field "{text(unknown)}"'
    yield Case(kind, path, "unknown field", "", with_value(spot.base, unknown, 1), spot.base, message)
    for name in (name for name in schema.get("required", ()) if name in spot.value):
        place = (*spot.place, name)
        yield Case(kind, path, f"requires {name}", text(place), without(spot.base, place), spot.base, "Required value")


# Values whose pattern alone says how long they can be.
LONGEST = {
    r"^sha256:[0-9a-f]{64}$": "sha256:" + "a" * 64,
    r"^([0-9]{1,5}d)?([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?$": "99999d999999h9999999m999999999s",
    LABEL_KEY: f"{'a' * 253}/{'b' * 63}",
    NETWORK: ":".join(["ffff"] * 8) + "/128",
}


def _not_matching(pattern: str, least: int) -> str:
    for candidate in ("!", "not\tso", "Not so!", "-", "", "é"):
        if len(candidate) >= least and not re.search(pattern, candidate):
            return candidate
    raise AssertionError(f"nothing tried breaks {pattern}")


def _of_length(value: Any, length: int, pattern: str) -> str | None:
    """A text of that many characters that keeps the pattern, made from a valid one; None where none was found."""
    given = str(value)
    if length <= len(given):
        candidates = [given[:length], given[len(given) - length :], "a" * length]
    else:
        pad = length - len(given)
        candidates = [given[:i] + letter * pad + given[i:] for letter in "a0" for i in range(len(given) + 1)]
    return next((text for text in candidates if re.search(pattern, text)), None)


def _repeated(items: list[Any], count: int, keys: list[str]) -> list[Any]:
    """The valid items, and copies of the first under keys of their own."""
    copies = [items[0]] * (count - len(items))
    if keys:
        copies = [{**item, **{key: f"{item[key]}{i}" for key in keys}} for i, item in enumerate(copies)]
    return items + copies


def _keyed(value: Any, count: int) -> Json:
    return {f"k{i}": value for i in range(count)}
