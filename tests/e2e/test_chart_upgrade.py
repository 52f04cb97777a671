"""Whatever becomes of the release, what serves goes on serving and what trains goes on training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import chart
from demo.kubectl import Kubectl, is_true
from support.chain import Chain, fresh_namespace
from support.chart import CHART
from support.clients import Tally, asking, server_of
from support.manifests import script_training
from support.releases import Release, former_chart, standing

pytestmark = pytest.mark.release

NAMESPACE = "e2e-upgrade"
CRDS = "customresourcedefinitions.apiextensions.k8s.io"
STORE = (f"defaultStore.namespaces={{{NAMESPACE}}}", "defaultStore.name=release", "defaultStore.claim.size=1Gi")
UPGRADED = ("podAnnotations.upgraded=yes", "defaultStore.enabled=true", *STORE)

SAVES = """
import torch
import slipway.runtime

torch.distributed.init_process_group("gloo")
slipway.runtime.save(torch.nn.Linear(4, 2), torch.zeros(2, 4))
"""
WAITS = (
    """
import time
from pathlib import Path

while not Path("/tmp/finish").exists():
    time.sleep(0.2)
"""
    + SAVES
)


@pytest.fixture
def release(served: Chain, images: chart.Images) -> Iterator[Release]:
    """In the end it is again as the session had it."""
    yield Release(images)
    chart.install(images)


@pytest.fixture
def kubectl() -> Iterator[Kubectl]:
    kubectl = fresh_namespace(NAMESPACE)
    yield kubectl
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def crds(kubectl: Kubectl) -> set[str]:
    return {crd["metadata"]["uid"] for crd in kubectl.list(CRDS) if crd["spec"]["group"] == "slipway.dev"}


def uid_of_the_claim(kubectl: Kubectl) -> str:
    claim = kubectl.get("persistentvolumeclaim", "slipway-release") or {}
    assert "deletionTimestamp" not in claim["metadata"]
    return claim["metadata"]["uid"]


@pytest.mark.timeout(600)
def test_no_change_of_the_release_touches_what_serves_or_what_trains(
    served: Chain, release: Release, kubectl: Kubectl, tmp_path: Path
):
    release.upgrade(former_chart(tmp_path))
    kubectl.apply(*script_training("waits", WAITS))
    kubectl.until("trainingjob", "waits", lambda job: is_true(job, "Running"))
    workers = [pod["metadata"]["name"] for pod in kubectl.list("pod")]
    kinds, serves, trains = crds(kubectl), standing(served.kubectl), standing(kubectl)
    tally = Tally()

    def nothing_is_touched() -> None:
        assert standing(served.kubectl) == serves
        assert standing(kubectl) == trains

    with asking(server_of(served.kubectl), "http", tally, kept=False):
        release.upgrade(CHART, *UPGRADED)
        nothing_is_touched()
        store = kubectl.settled("artifactstore", "release")
        claim = uid_of_the_claim(kubectl)

        release.rollback()
        nothing_is_touched()

        release.test()
        release.uninstall()
        assert release.left() == set()
        nothing_is_touched()
        assert crds(kubectl) == kinds

        release.upgrade(CHART, *UPGRADED)
        nothing_is_touched()
        assert f"ok   store {NAMESPACE}/release is Ready" in release.test()
    assert tally.failures == []
    assert tally.answered > 100

    assert is_true(store, "Ready")
    assert uid_of_the_claim(kubectl) == claim
    kubectl.apply(*script_training("again", SAVES, nodes=1, store="release"))
    for pod in workers:
        kubectl("exec", pod, "--", "touch", "/tmp/finish")
    for name in ("waits", "again"):
        job = kubectl.settled("trainingjob", name)
        assert is_true(job, "Complete"), job["status"]
        assert [attempt["outcome"] for attempt in job["status"]["attempts"]] == ["Succeeded"]
