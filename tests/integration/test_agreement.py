"""The API server and the models agree on every spec, right or wrong, that the schemas let one think of."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.api.base import MAX_DEPTH
from slipway.api.crds import RESOURCES
from support.apiserver import ApiServer
from support.budget import SCALE, tried
from support.full_objects import full_objects
from support.mutants import Mutant, mutants, nested
from support.places import text, with_value
from support.specs import specs
from support.validators import fields_in, same_branch, validate_by_model, validate_on_server

NAMESPACE = "agreement"
RIGHT = st.one_of([st.tuples(st.just(resource.kind.kind), specs(resource)) for resource in RESOURCES])
WRONG = 330
"""Minimum number of wrong mutants; the others happen to be right."""


@pytest.fixture(scope="module")
def server(apiserver: ApiServer) -> ApiServer:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    apiserver.must("POST", "/api/v1/namespaces", body)
    return apiserver


@pytest.mark.timeout(1800)
def test_both_refuse_a_wrong_spec_and_the_model_names_the_same_field(server: ApiServer) -> None:
    wrong: list[Mutant] = []

    @tried(500)
    @given(mutants())
    def agree(mutant: Mutant) -> None:
        taken, answer = validate_on_server(server, NAMESPACE, mutant.kind, mutant.spec)
        validated = validate_by_model(mutant.kind, mutant.spec)
        refused = isinstance(validated, list)
        assert refused != taken, f"{mutant}\nserver: {answer.get('message', 'takes it')}\nmodel: {validated}"
        if isinstance(validated, list):
            wrong.append(mutant)
            # A number that is almost whole is refused by a rule that cannot read it: the server then names nothing.
            blamed = [field for field in fields_in(answer) if field != "<nil>"] or [text(mutant.place)]
            agreed = [(one, other) for one in validated for other in blamed if same_branch(one, other)]
            assert agreed, f"{mutant}\nserver: {blamed}\nmodel: {validated}"
        else:
            assert validate_by_model(mutant.kind, answer["spec"]) == validated, mutant

    agree()
    assert len(wrong) >= WRONG * SCALE


@pytest.mark.timeout(1800)
def test_both_take_a_right_spec_and_fill_in_the_same_defaults(server: ApiServer) -> None:
    @tried(100)
    @given(RIGHT)
    def agree(drawn: tuple[str, Any]) -> None:
        kind, spec = drawn
        taken, answer = validate_on_server(server, NAMESPACE, kind, spec)
        assert taken, (drawn, answer["message"])
        validated = validate_by_model(kind, spec)
        assert validate_by_model(kind, answer["spec"]) == validated

    agree()


def test_depth_alone_is_validated_by_the_model_only(server: ApiServer) -> None:
    """A structural schema can bound none; the planner then names the field (tests/transitions)."""
    (full,) = full_objects()["CompressionPlugin"]
    good, deep = (with_value(full["spec"], ("parameters",), nested(levels)) for levels in (MAX_DEPTH, MAX_DEPTH + 1))
    for spec in (good, deep):
        assert validate_on_server(server, NAMESPACE, "CompressionPlugin", spec)[0]
    assert not isinstance(validate_by_model("CompressionPlugin", good), list)
    assert validate_by_model("CompressionPlugin", deep) == ["spec.parameters"]


@pytest.mark.parametrize(("replicas", "right"), [(2.0, True), (2.5, False), (-1.0, False)])
def test_a_whole_number_of_replicas_may_have_a_dot_as_every_other(
    server: ApiServer, replicas: float, right: bool
) -> None:
    """kubectl takes the dot away; sent as it stands, the scale subresource's own reader refuses it."""
    full, *_ = full_objects()["ModelDeployment"]
    spec = with_value(full["spec"], ("serving", "replicas"), replicas)
    assert validate_on_server(server, NAMESPACE, "ModelDeployment", spec)[0] == right
    assert isinstance(validate_by_model("ModelDeployment", spec), list) != right
