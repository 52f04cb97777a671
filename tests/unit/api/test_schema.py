"""The schemas that users' objects are held to, and what kubectl prints of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pytest
from pydantic import Field

from slipway.api.base import Model, Open, UniqueBy
from slipway.api.crds import RESOURCES, Resource, crd, root_schema
from slipway.api.schema import structural, walk
from slipway.api.status import not_yet_observed

EACH = pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind.kind)


class Inner(Model):
    """Something nested."""

    size: int = Field(default=3, gt=0, le=9)
    """How large."""
    name: str = "train"
    """How called."""


class Outer(Model):
    """One of everything."""

    wanted: Annotated[str, Field(max_length=5)]
    """Must be there."""
    maybe: Annotated[str, Field(pattern="^a")] | None = None
    """May be absent."""
    nested: Inner = Field(default_factory=Inner)
    """Has defaults."""
    larger: Inner = Field(default_factory=lambda: Inner(size=5))
    """Has others."""
    items: Annotated[tuple[Inner, ...], Field(max_length=2), UniqueBy("name")] = ()
    """By name."""
    numbers: tuple[int, ...] = Field(default=(), max_length=2)
    """In order."""
    open: Open = Field(default_factory=dict)
    """Anything."""
    labels: dict[Annotated[str, Field(pattern="^[a-z]$")], str] = Field(default_factory=dict, max_length=2)
    """By one letter."""


FIELDS: Mapping[str, Any] = structural(Outer)["properties"]


def test_a_field_without_a_default_is_required_unless_it_may_be_none():
    assert structural(Outer)["required"] == ["wanted"]
    assert "default" not in FIELDS["maybe"]


def test_optional_means_absent_and_never_null():
    assert FIELDS["maybe"] == {"description": "May be absent.", "type": "string", "pattern": "^a"}


def test_a_nested_default_leaves_its_fields_to_their_own_defaults():
    assert FIELDS["nested"]["default"] == {}
    assert FIELDS["nested"]["properties"]["size"]["default"] == 3
    assert FIELDS["larger"]["default"] == {"size": 5}


def test_an_exclusive_bound_is_a_flag_beside_the_bound():
    size = FIELDS["nested"]["properties"]["size"]
    assert (size["minimum"], size["exclusiveMinimum"], size["maximum"]) == (0, True, 9)
    assert "exclusiveMaximum" not in size


def test_a_field_is_described_by_the_text_below_it():
    assert FIELDS["nested"]["description"] == "Has defaults."
    assert FIELDS["nested"]["properties"]["size"]["description"] == "How large."


def test_a_list_declares_its_merge_strategy():
    assert FIELDS["numbers"]["x-kubernetes-list-type"] == "atomic"
    assert FIELDS["items"]["x-kubernetes-list-type"] == "map"
    assert FIELDS["items"]["x-kubernetes-list-map-keys"] == ["name"]


def test_an_open_object_keeps_what_it_is_given():
    assert FIELDS["open"]["x-kubernetes-preserve-unknown-fields"] is True


def test_what_a_map_demands_of_its_keys_is_a_rule():
    assert [rule["rule"] for rule in FIELDS["labels"]["x-kubernetes-validations"]] == [
        "self.all(key, key.matches(r'^[a-z]$'))"
    ]


def test_a_constraint_without_a_structural_form_is_an_error_and_not_lost():
    class Even(Model):
        """Of no place in a CRD."""

        number: int = Field(multiple_of=2)
        """Even."""

    with pytest.raises(TypeError, match="multipleOf has no place"):
        structural(Even)


@EACH
def test_every_text_list_map_and_number_is_bounded(resource: Resource):
    """Else the API server cannot estimate what a rule costs, and a status may outgrow etcd."""
    for node in walk(root_schema(resource)):
        if not node.path.startswith(("spec", "status")):
            continue
        kind = node.schema.get("type")
        if kind == "string":
            assert {"maxLength", "enum", "format"} & set(node.schema), node.path
        if kind == "array":
            assert "maxItems" in node.schema, node.path
        if "additionalProperties" in node.schema:
            assert "maxProperties" in node.schema, node.path
        if kind in ("integer", "number") and node.path.startswith("spec"):
            assert {"minimum", "maximum"} <= set(node.schema), node.path


@EACH
def test_kubectl_explain_has_words_for_every_field(resource: Resource):
    for node in walk(root_schema(resource)):
        if node.path.startswith(("spec", "status")) and not node.path.endswith(("[]", "{}")):
            assert node.schema.get("description", "").endswith((".", ":", "`", ")", "...")), node.path


@EACH
def test_a_status_is_written_by_the_operator_alone(resource: Resource):
    schema = root_schema(resource)
    subresources = crd(resource)["spec"]["versions"][0].get("subresources", {})
    assert ("status" in subresources) == ("status" in schema["properties"])
    defaults = [node.path for node in walk(schema) if node.path.startswith("status") and "default" in node.schema]
    assert defaults in ([], ["status"])


def test_an_object_that_no_operator_has_processed_does_not_count_as_done():
    for resource in RESOURCES:
        status = root_schema(resource)["properties"].get("status")
        assert status is None or status["default"] == not_yet_observed()


def test_conditions_are_merged_by_type():
    found = [node.schema for res in RESOURCES for node in walk(root_schema(res)) if node.path == "status.conditions"]
    assert [schema["x-kubernetes-list-map-keys"] for schema in found] == [["type"]] * 4


def test_short_names_are_all_different():
    names = [name for resource in RESOURCES for name in crd(resource)["spec"]["names"].get("shortNames", ())]
    assert len(set(names)) == len(names) == len(RESOURCES) - 1  # a Step is short enough


@EACH
def test_every_column_shows_a_field_that_exists(resource: Resource):
    paths = {node.path for node in walk(root_schema(resource))} | {
        "metadata.creationTimestamp",
        "metadata.ownerReferences[].name",
    }
    for column in resource.columns:
        path = column.path.removeprefix(".").replace('[?(@.type=="Ready")]', "[]").replace("[0]", "[]")
        assert path in paths or path.replace(".accuracy", "{}") in paths, column
