"""The life of a release: installed, upgraded and uninstalled by helm on an API server of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.apiserver import ApiServer, running
from support.chart import CHART, NAMESPACE, helm
from support.places import Json

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/slipway"
JOBS = "/apis/slipway.dev/v1alpha1/namespaces/default/trainingjobs"


@pytest.fixture(scope="module")
def empty() -> Iterator[ApiServer]:
    """Without our CRDs: those of the shared server were not made by helm."""
    with running() as server:
        yield server


def release(server: ApiServer, verb: str, *arguments: str, values: Json | None = None) -> None:
    where = ("--namespace", NAMESPACE, "--kubeconfig", str(server.kubeconfig))
    done = helm(verb, "slipway", *arguments, *where, values=values)
    assert done.returncode == 0, done.stderr


def test_a_release_leaves_resources_alone_from_its_first_install_to_its_next(empty: ApiServer):
    release(empty, "install", str(CHART), "--create-namespace")
    job = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "digits"},
        "spec": {"entrypoint": {"module": {"name": "team.train"}}},
    }
    uid = empty.must("POST", JOBS, job)["metadata"]["uid"]

    release(empty, "upgrade", str(CHART), values={"replicas": 2})
    assert empty.must("GET", DEPLOYMENT)["spec"]["replicas"] == 2

    release(empty, "uninstall")
    assert empty.request("GET", DEPLOYMENT)[0] == 404
    assert empty.must("GET", f"{JOBS}/digits")["metadata"]["uid"] == uid

    release(empty, "install", str(CHART))
    assert empty.must("GET", f"{JOBS}/digits")["metadata"]["uid"] == uid
    assert len(empty.must("GET", CRDS)["items"]) == 5
