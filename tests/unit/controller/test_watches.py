"""Which requests of kopf are lists of ours, by their paths."""

from __future__ import annotations

import pytest

from slipway.api.kinds import GPU_POOL, POD, TRAINING_JOB, WATCHED, Kind
from slipway.cluster.apiserver import collection_path
from slipway.controller.watches import Scope, _scope_of


@pytest.mark.parametrize("kind", WATCHED, ids=str)
def test_every_watched_kind_is_recognised(kind: Kind) -> None:
    assert _scope_of(collection_path(kind, None)) == Scope(kind, None)
    if kind.namespaced:
        assert _scope_of(collection_path(kind, "team")) == Scope(kind, "team")


@pytest.mark.parametrize(
    "path",
    [
        "/apis",
        "/api",
        "/api/v1",
        "/apis/slipway.dev/v1alpha1",
        "/apis/other.dev/v1/trainingjobs",
        "/api/v1/namespaces/team/pods/one",
        "/api/v1/namespaces",
        "/version",
    ],
)
def test_other_requests_are_no_lists_of_ours(path: str) -> None:
    assert _scope_of(path) is None


def test_paths_follow_the_api_conventions() -> None:
    assert collection_path(POD, "team") == "/api/v1/namespaces/team/pods"
    assert collection_path(TRAINING_JOB, None) == "/apis/slipway.dev/v1alpha1/trainingjobs"
    assert collection_path(GPU_POOL, "") == "/apis/slipway.dev/v1alpha1/gpupools"
