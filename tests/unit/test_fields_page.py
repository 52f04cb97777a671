"""The reference of the fields: each has an anchor, and an example that the API takes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from generators.fields import EXAMPLES, Field, fields_of, read_examples
from slipway.api.crds import RESOURCES, Resource
from slipway.api.reading import read_written

DOCUMENTS = read_examples(EXAMPLES)
FIELDS = [field for resource in RESOURCES for field in fields_of(resource, DOCUMENTS)]
PAGE = (Path(__file__).parents[2] / "docs/reference/fields.md").read_text()


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind.kind)
def test_the_documents_that_examples_come_from_are_what_the_api_takes(resource: Resource) -> None:
    assert DOCUMENTS[resource.kind.kind]
    for document in DOCUMENTS[resource.kind.kind]:
        body = {part: document[part] for part in ("spec", "status") if part in document}
        assert read_written(resource.model, json.dumps(body)).spec is not None


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind.kind)
def test_the_example_of_each_field_keeps_to_its_schema(resource: Resource) -> None:
    for field in fields_of(resource, DOCUMENTS):
        assert broken(field, field.example) == [], field.anchor


def broken(field: Field, value: Any) -> list[str]:
    # Draft 4 has exclusive bounds as flags, as a structural schema has.
    return [error.message for error in jsonschema.Draft4Validator(field.node.schema).iter_errors(value)]


def test_an_example_that_breaks_a_bound_is_found() -> None:
    (restarts,) = (field for field in FIELDS if field.anchor == "trainingjob-spec-restarts-max")
    assert broken(restarts, 1001) == ["1001 is greater than the maximum of 1000"]


def test_a_field_without_an_example_is_named_with_the_file_to_put_it_in() -> None:
    without: dict[str, list[Mapping[str, Any]]] = {"GPUPool": [{"spec": {"nodeSelector": {"a": "b"}}}]}
    (pool,) = (resource for resource in RESOURCES if resource.kind.kind == "GPUPool")
    with pytest.raises(SystemExit, match=r"GPUPool spec.tolerations has no example: .* gpupool.yaml"):
        fields_of(pool, without)


def test_each_field_has_an_anchor_of_its_own() -> None:
    anchors = re.findall(r'id="([^"]+)"', PAGE)
    assert sorted(anchors) == sorted({field.anchor for field in FIELDS})
    assert "trainingjob-spec-restarts-max" in anchors


def test_no_name_of_a_field_can_break_but_at_a_dot() -> None:
    headings = re.findall(r"<h4 [^>]*>((?:[^<]|<wbr>)*)", PAGE)
    assert len(headings) == len(FIELDS)
    for heading in headings:
        assert re.fullmatch(r"[A-Za-z0-9]+([.]<wbr>[A-Za-z0-9]+)*", heading)
