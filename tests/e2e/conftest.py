"""A real cluster with the chart installed, and namespaces with a store. KUBECONFIG names it (see dev/with-cluster)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from demo import chart
from demo.digits import EXAMPLE
from demo.kubectl import Kubectl


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


@pytest.fixture(scope="module")
def kubectl(request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """A namespace of the module's own, under the restricted Pod Security Standard, with the store `default`."""
    name = request.module.__name__.rpartition(".")[2].removeprefix("test_").replace("_", "-")
    kubectl = Kubectl(f"e2e-{name}"[:40])
    kubectl("delete", "namespace", kubectl.namespace, "--ignore-not-found", timeout_seconds=120)
    kubectl.ensure_namespace()
    kubectl("apply", "--server-side", "-f", str(EXAMPLE / "store.yaml"))
    yield kubectl
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")
