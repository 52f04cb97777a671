"""Specs with one mutation each, derived from the schema: most are wrong, and some happen to be right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

from hypothesis import strategies as st

from slipway.api.crds import RESOURCES, Resource, root_schema
from slipway.api.schema import Schema
from support.full_objects import full_objects
from support.places import Json, Place, text, with_value, without
from support.specs import JSON, specs, values


class Mutant(NamedTuple):
    """kind and spec in wire form, and what was changed where."""

    kind: str
    what: str
    place: Place
    spec: Any

    def __repr__(self) -> str:
        return f"{self.kind} {text(self.place)}: {self.what}: {str(self.spec)[:3000]}"


# ruff: noqa: RUF001 - look-alikes are the point
UNICODE = (
    "é", "ｄｅｆａｕｌｔ", "٣", "K", "ß", "a\u0301", "\u202eabc", "\ufeffx", "\x00", "💥", "\u2028",
    "\x7f", "a\n", "\n", "\t",
    " ", "a b", "A", "-a",
    "a-", ".", "..", "a..b", "/", "a/b", "a:b", "$(HOME)", "{{x}}", "%s", "'", '"', "\\", "null",
)  # fmt: skip
MALFORMED = (
    "1", "10", "1.5s", "-1s", "+1s", "1s1d", "1 s", "1h30", "s", "٣s", "1ms", "99999d", "100000d", "0s", "00000s", "1D",
    "1e3", "1Gb", "1 Gi", "-1Gi", "+1", "1_0", "0x10", "NaN", "Infinity", "1,5", "1.", ".5", ".", "1..5", "1mi", "1KI",
    "1Ei", "9" * 32, "9" * 33, "0", "", "1m", "1.5Gi", "sha256:" + "A" * 64, "sha256:" + "a" * 63,
    "store:///",
    "store://a",     "store:///../x", "store:///a/../b", "/a/../b", "//", "/tmp", "/tmp/", "/tmp/x", "/dev/shm",
    "a" * 64, "a" * 254,
)  # fmt: skip
NUMBERS = (
    -1, 0, 1, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**40, 1.0, 2.0, 0.5, -0.0,
    1e2, 1e-320, 1e308, 1.0000000000000002, 0.9999000000000001, -1e-9,
)  # fmt: skip
OTHER_TYPES = (None, True, False, 7, 1.5, "seven", "", [], [None], ["x"], {}, {"x": 1}, {"": None}, [[]], "true", "1")
FOREIGN = ("unknownField", "é", "", "Spec", "nodes ", "image_", "apiVersion", "metadata", "__class__", "x" * 300)
KEYS = ("", "é", "a/b/c", "/a", "a/", "slipway.dev/role", "A.b/c", "-a", "a-", "a" * 64, "a" * 254 + "/b", "a b", "a\n")

Fields = Mapping[str, st.SearchStrategy[Any]]
Change = tuple[str, Callable[[Json], Json]]


def mutants() -> st.SearchStrategy[Mutant]:
    """Of all kinds; the specs that are mutated are the full ones, or drawn from the schema."""
    return st.one_of([_of_kind(resource) for resource in RESOURCES])


def _of_kind(resource: Resource) -> st.SearchStrategy[Mutant]:
    full = st.sampled_from([obj["spec"] for obj in full_objects()[resource.kind.kind]])
    schema = root_schema(resource)["properties"]["spec"]
    fields = {name: values(resource, ("spec", name)) for name in schema["properties"]}
    return _mutated(resource, st.one_of(full, full, specs(resource)), schema, fields)


@st.composite
def _mutated(
    draw: st.DrawFn, resource: Resource, bases: st.SearchStrategy[Json], schema: Schema, fields: Fields
) -> Mutant:
    spec = draw(bases)
    place, node = draw(st.sampled_from(list(_nodes(spec, schema, ()))))
    what, change = draw(st.sampled_from(list(_changes(resource, spec, place, node))))
    if what == "drawn":
        value = draw(st.one_of(JSON, *(fields[str(step)] for step in place[:1])))
        change = partial(with_value, place=("spec", *place), value=value)
    return Mutant(resource.kind.kind, what, ("spec", *place), change({"spec": spec})["spec"])


def _nodes(value: Any, schema: Schema, place: Place) -> Iterator[tuple[Place, Schema]]:
    """Every place of a spec that has a schema, with that."""
    yield place, schema
    if isinstance(value, dict):
        below = {**dict.fromkeys(value, schema.get("additionalProperties")), **schema.get("properties", {})}
        for name, item in value.items():
            if below.get(name):
                yield from _nodes(item, below[name], (*place, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _nodes(item, schema["items"], (*place, index))


def _changes(resource: Resource, spec: Json, place: Place, schema: Schema) -> Iterator[Change]:
    at: Place = ("spec", *place)

    def put(what: str, value: Any) -> Change:
        return what, lambda obj: with_value(obj, at, value)

    def put_below(what: str, name: str | int, value: Any) -> Change:
        return what, lambda obj: with_value(obj, (*at, name), value)

    present = _at(spec, place)
    yield from (put(f"of another type: {value!r}", value) for value in OTHER_TYPES)
    if place and isinstance(place[-1], str):
        yield ("removed", lambda obj: without(obj, at))
    if schema.get("type") in ("integer", "number") or "anyOf" in schema:
        bounds = [schema[bound] for bound in ("minimum", "maximum") if bound in schema]
        numbers = (*NUMBERS, *(bound + step for bound in bounds for step in (-1, 0, 1, -1e-6, 1e-6)))
        yield from (put(f"number {number!r}", number) for number in numbers)
    if schema.get("type") == "string" or "anyOf" in schema:
        most = schema.get("maxLength", 64)
        yield from (put(f"text {word!r}", word) for word in (*UNICODE, *MALFORMED))
        yield from (put(f"text with {word!r}", f"{present}{word}") for word in UNICODE)
        sizes = (("a", most), ("a", most + 1), ("a", 2**20), ("💥", most), ("💥", most + 1), ("💥", 2**17))
        yield from (put(f"{count} times {letter!r}", letter * count) for letter, count in sizes)
    if isinstance(present, list):
        most = schema["maxItems"]
        yield put("repeated", present * 2)
        yield put("too many", (present * (most + 1))[: most + 1])
        yield put("null among them", [*present, None])
    if isinstance(present, dict):
        yield from _changes_of_object(resource, present, schema, place, put_below)


def _changes_of_object(
    resource: Resource, present: Json, schema: Schema, place: Place, put_below: Callable[[str, str | int, Any], Change]
) -> Iterator[Change]:
    if "properties" in schema:
        yield from (put_below(f"unknown field {name!r}", name, 1) for name in FOREIGN)
        for other in full_objects()[resource.kind.kind]:
            found = _at(other["spec"], place)
            absent = [name for name in found or () if name not in present] if isinstance(found, dict) else []
            # What another valid object has there: one too many of those that exclude each other, mostly.
            yield from (put_below(f"{name} besides", name, found[name]) for name in absent)
        yield "drawn", lambda obj: obj
    elif "additionalProperties" in schema:
        yield from (put_below(f"key {key!r}", key, "x") for key in KEYS)
        yield put_below("null value", "nothing", None)
    else:
        yield put_below("null inside", "nothing", None)
        yield put_below("1 MB inside", "long", "x" * 2**20)
        yield put_below("nested 20 deep", "deep", nested(20))
        yield from (put_below(f"number {number!r} inside", "number", number) for number in NUMBERS)
        yield from (put_below(f"text {word!r} inside", word, word) for word in UNICODE)


def nested(levels: int) -> Any:
    """An object in an object, `levels` levels deep."""
    value: Any = 0
    for _ in range(levels):
        value = {"a": value}
    return value


def _at(value: Any, place: Place) -> Any:
    for step in place:
        items = dict(enumerate(value)) if isinstance(value, list) else value
        if not isinstance(items, dict) or step not in items:
            return None
        value = items[step]
    return value
