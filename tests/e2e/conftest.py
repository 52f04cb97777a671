"""A real cluster with the chart installed, and the example trained and serving on it. See dev/with-cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from demo import chart
from support.chain import Chain, chain_of, fresh_namespace
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
