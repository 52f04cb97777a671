"""What a revision's digest covers, and which revisions are kept."""

from __future__ import annotations

from datetime import timedelta

import pytest

from slipway.api.modeldeployment import ModelDeploymentSpec, Revision
from slipway.plan.deployment.revision import DRAIN_DELAY, retained_revisions, revision_digest
from support.builders import DIGEST, PRUNE, QUANTIZE, T0, model_deployment

OTHER = "sha256:" + "b" * 64


def digest(model=DIGEST, **spec):
    return revision_digest(ModelDeploymentSpec.model_validate(model_deployment(**spec)["spec"]), model)


BASE = digest()


@pytest.mark.parametrize(
    "spec",
    [
        {"serving": {"replicas": 5}},
        {"serving": {"maxBatchSize": 64, "resources": {"cpu": "1", "memory": "2Gi"}, "podTemplate": {}}},
        {"store": "default"},
        {"compression": {"steps": [PRUNE, {**QUANTIZE, "params": {}}], "seed": 0}},
        {"evaluation": {"data": {"dataset": "digits", "split": "test"}, "gate": {"maxDrop": 0.5}}},
    ],
    ids=["replicas", "defaults of serving", "default store", "defaults of compression", "gate"],
)
def test_replicas_defaults_and_the_gate_make_no_new_revision(spec):
    assert digest(**spec) == BASE


@pytest.mark.parametrize(
    "spec",
    [
        {"model": OTHER},
        {"steps": (QUANTIZE, PRUNE)},
        {"steps": ({**PRUNE, "params": {"ratio": 0.4}}, QUANTIZE)},
        {"compression": {"steps": [PRUNE, QUANTIZE], "seed": 1}},
        {"compression": {"steps": [PRUNE, QUANTIZE], "data": {"stored": {"uri": "store:///d", "digest": OTHER}}}},
        {"serving": {"maxBatchSize": 8}},
        {"serving": {"resources": {"cpu": "2"}}},
        {"serving": {"podTemplate": {"labels": {"a": "1"}}}},
        {"store": "other"},
    ],
    ids=["model", "order", "params", "seed", "data", "batch size", "resources", "pod template", "store"],
)
def test_what_makes_the_served_model_makes_a_new_revision(spec):
    assert digest(**spec) != BASE


def test_without_steps_the_rest_of_the_compression_matters_to_nothing():
    seeded = digest(compression={"seed": 7})
    assert seeded == digest(compression={}) != BASE


def test_the_projection_keeps_its_digest_from_release_to_release():
    """Another value here is a new revision of every deployment: only with another PROJECTION, and said in CHANGELOG."""
    assert BASE == "sha256:bab553eeb16017bfc4e6710255a6a69b80416bf5f9f3843471711423ee496444"


def test_data_that_moves_within_the_store_is_the_same_data():
    def on(uri):
        data = {"stored": {"uri": uri, "digest": OTHER}}
        return digest(compression={"steps": [QUANTIZE], "data": data})

    assert on("store:///here") == on("store:///there")


def revision(name, *, served=False, retired=None):
    since = T0 - timedelta(hours=2) if served else None
    return Revision(name=name, digest=DIGEST, created_at=T0, serving_since=since, retired_at=retired)


def ago(minutes):
    return T0 - timedelta(minutes=minutes)


def test_the_two_newest_retired_revisions_are_kept_and_older_ones_are_not():
    present = [revision(f"r{n}", served=True, retired=ago(n)) for n in (1, 2, 3, 4)]
    present += [revision("now", served=True), revision("next")]
    assert retained_revisions(present, "next", "now", T0) == {"r1", "r2", "now", "next"}


def test_a_revision_that_never_served_goes_when_the_spec_wants_another():
    assert retained_revisions([revision("tried"), revision("now", served=True)], "now", "now", T0) == {"now"}


def test_a_revision_that_drains_stays_however_many_are_retired():
    just = T0 - DRAIN_DELAY + timedelta(seconds=1)
    present = [revision(f"d{n}", served=True, retired=just) for n in range(3)] + [revision("lost", served=True)]
    assert retained_revisions(present, None, "now", T0) == {"d0", "d1", "d2", "lost"}
