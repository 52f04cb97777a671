"""A real cluster with the chart installed, and the example trained and serving on it. See dev/with-cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from demo import chart
from demo.digits import EXAMPLE
from demo.kubectl import Kubectl, is_true
from support.manifests import digits_deployment, digits_training


@pytest.fixture(scope="session")
def images() -> chart.Images:
    assert os.environ.get("KUBECONFIG"), "run by `make e2e`, or give KUBECONFIG"
    return chart.images()


@pytest.fixture(scope="session")
def operator(images: chart.Images) -> chart.Images:
    """The operator in a pod, under the chart's own service account."""
    chart.install(images)
    if os.environ.get("SLIPWAY_DEV_CLUSTER"):
        chart.restart()
    return images


@dataclass(frozen=True, slots=True)
class Chain:
    """The example after a run: what was made on the way, by digest."""

    kubectl: Kubectl
    serving: str
    digests: dict[str, str]


@pytest.fixture(scope="session")
def served(operator: chart.Images) -> Iterator[Chain]:
    """The example, trained and serving, by an operator that nobody disturbed."""
    kubectl = fresh_namespace("e2e-digits")
    kubectl.apply(digits_training())
    kubectl.settled("trainingjob", "digits")
    kubectl.apply(digits_deployment())
    kubectl.settled("modeldeployment", "digits", timeout_seconds=420)
    yield chain_of(kubectl)
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


def fresh_namespace(name: str) -> Kubectl:
    """A namespace under the restricted Pod Security Standard, with the store `default` and the pool `gpu`."""
    kubectl = Kubectl(name)
    kubectl("delete", "namespace", name, "--ignore-not-found", timeout_seconds=120)
    kubectl.ensure_namespace()
    kubectl("apply", "--server-side", "-f", str(EXAMPLE / "store.yaml"))
    return kubectl


def chain_of(kubectl: Kubectl) -> Chain:
    """What the example made. Fails where it does not serve."""
    job = kubectl.get("trainingjob", "digits") or {}
    deployment = kubectl.get("modeldeployment", "digits") or {}
    assert is_true(job, "Complete"), job.get("status")
    assert is_true(deployment, "Ready"), deployment.get("status")
    made = {task["name"]: task["artifact"]["digest"] for task in deployment["status"]["tasks"] if task.get("artifact")}
    return Chain(kubectl, deployment["status"]["serving"], {"model": job["status"]["artifact"]["digest"], **made})
