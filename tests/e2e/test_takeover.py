"""A change of what serves costs no request: replicas come and go, a revision takes over and drains, and back again.

Four clients ask through the Service alone, over HTTP and gRPC, with a connection that they keep and with new ones. None
tries a request again, and each failure counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from demo.kubectl import Kubectl, is_true, observed
from support.chain import Chain
from support.clients import Tally, four_clients, server_of
from support.manifests import digits_deployment

SETTLED_SECONDS = 240
GONE_SECONDS = 90
"""A pod that ends waits 5 s for the proxies of the cluster, and at most 11 s more until gRPC connections are of age."""
SERVING_PODS = "slipway.dev/role=serve,slipway.dev/model-deployment=digits"


def rolled(kubectl: Kubectl, **serving: object) -> str:
    """The revision that serves once the example's own spec has these fields of `serving`, and no other pod is left."""
    deployment = digits_deployment()
    deployment["spec"]["serving"] = {**deployment["spec"].get("serving", {}), **serving}
    kubectl.apply(deployment)
    live = kubectl.until(
        "modeldeployment",
        "digits",
        lambda one: observed(one) and is_true(one, "Ready"),
        timeout_seconds=SETTLED_SECONDS,
    )
    return str(live["status"]["serving"])


def pods(kubectl: Kubectl) -> set[str]:
    return {pod["metadata"]["name"] for pod in kubectl.list("pod", SERVING_PODS)}


def replaced(kubectl: Kubectl, end: Callable[[str], object], replicas: int) -> None:
    """End one pod; return when it is gone and the others are ready."""
    victim = min(pods(kubectl))
    end(victim)
    kubectl("wait", "--for=delete", f"pod/{victim}", f"--timeout={GONE_SECONDS}s", timeout_seconds=GONE_SECONDS + 10)
    kubectl.until(
        "deployment",
        (kubectl.get("modeldeployment", "digits") or {})["status"]["serving"],
        lambda one: one["status"].get("readyReplicas") == replicas and not one["status"].get("unavailableReplicas"),
        timeout_seconds=GONE_SECONDS,
    )


def evict(kubectl: Kubectl, pod: str) -> None:
    """As `kubectl drain` does."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": kubectl.namespace}}
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}/eviction"
    kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body))


def only_pods_of(kubectl: Kubectl, revision: str) -> None:
    for one in kubectl.list("pod", f"{SERVING_PODS},slipway.dev/revision!={revision}"):
        name = one["metadata"]["name"]
        kubectl("wait", "--for=delete", f"pod/{name}", f"--timeout={GONE_SECONDS}s", timeout_seconds=GONE_SECONDS + 10)


@pytest.mark.timeout(600)
def test_no_request_fails_while_replicas_end_and_revisions_take_over_and_drain(served: Chain):
    kubectl = served.kubectl
    with four_clients(server_of(kubectl)) as tallies:
        counts = {"start": snapshot(tallies)}
        rolled(kubectl, replicas=2)
        counts["scaled up"] = snapshot(tallies)
        replaced(kubectl, lambda pod: kubectl("delete", "pod", pod, "--wait=false"), replicas=2)
        counts["a replica deleted"] = snapshot(tallies)
        replaced(kubectl, lambda pod: evict(kubectl, pod), replicas=2)
        counts["a replica evicted"] = snapshot(tallies)
        other = rolled(kubectl, maxBatchSize=32, replicas=1)
        only_pods_of(kubectl, other)
        counts["scaled down, taken over and drained"] = snapshot(tallies)
        back = rolled(kubectl)
        only_pods_of(kubectl, back)
        counts["taken back and drained"] = snapshot(tallies)
    for phase, count in counts.items():
        print(phase, count)
    assert other != served.serving == back
    assert {name: tally.failures for name, tally in tallies.items()} == {name: [] for name in tallies}
    assert min(tally.answered for tally in tallies.values()) > 200


def snapshot(tallies: dict[str, Tally]) -> dict[str, str]:
    return {name: f"{len(tally.failures)} of {len(tally.failures) + tally.answered}" for name, tally in tallies.items()}
