"""Who is planned again for whom, read from specs that nobody has validated."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.api.kinds import ARTIFACT_STORE, MODEL_DEPLOYMENT, PVC, TRAINING_JOB, Kind
from slipway.reconcile.references import referenced
from support.builders import resource

NOTHING = [None, True, 7, "seven", [], [None], [[]], {}, {"x": 1}]


@pytest.mark.parametrize("bad", NOTHING, ids=repr)
@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (TRAINING_JOB, "store"),
        (TRAINING_JOB, "pools"),
        (MODEL_DEPLOYMENT, "model"),
        (MODEL_DEPLOYMENT, "compression"),
        (MODEL_DEPLOYMENT, "evaluation"),
        (ARTIFACT_STORE, "persistentVolumeClaim"),
    ],
    ids=str,
)
def test_a_spec_that_no_schema_would_let_in_names_nothing(kind: Kind, field: str, bad: Any) -> None:
    for spec in ({field: bad}, {field: {"steps": bad, "claimName": bad, "trainingJob": bad, "store": bad}}, bad):
        obj = {**resource(kind, "one"), "spec": spec}
        assert all(isinstance(key.name, str) for key in referenced(obj))


def test_a_store_names_its_claim() -> None:
    (key,) = referenced(resource(ARTIFACT_STORE, "one", persistentVolumeClaim={"claimName": "models"}))
    assert (key.kind, key.name) == (PVC, "models")


def test_a_deployment_names_both_of_its_stores() -> None:
    """Else nothing would plan it again when the store of its evaluation data comes, or becomes ready."""
    deployment = resource(MODEL_DEPLOYMENT, "one", store="main", evaluation={"store": "held-out"})
    assert [key.name for key in referenced(deployment) if key.kind == ARTIFACT_STORE] == ["main", "held-out"]
