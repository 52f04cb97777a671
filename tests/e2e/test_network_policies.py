"""NetworkPolicies hold on the development cluster, by request: between pods of both nodes, and to what is outside."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from demo.kubectl import Kubectl, Object
from support.reach import reached
from support.second_node import FIRST, second_node, small_pod

pytestmark = pytest.mark.release

HERE, ELSEWHERE = "e2e-policies", "e2e-policies-elsewhere"
SECONDS = 15
"""Until a change of a policy holds."""
ASKS = ("peer", "unrelated", "foreign")
WEB, OTHER = 8000, 9000
SERVES = f"""
import http.server, threading
for port in ({WEB}, {OTHER}):
    server = http.server.ThreadingHTTPServer(("", port), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever).start()
"""


class Pods:
    """A server and who may want to reach it; `seen` asks all of them at once."""

    def __init__(self) -> None:
        self.here, self.elsewhere = Kubectl(HERE), Kubectl(ELSEWHERE)
        self.server = ""
        self.service = ""

    def reached(self, who: str, *targets: str) -> list[str]:
        kubectl = self.elsewhere if who == "foreign" else self.here
        return reached(kubectl, who, *targets)

    def until(self, expected: dict[str, list[int]]) -> None:
        """Until each of them reaches exactly these ports of the server."""
        deadline = time.monotonic() + SECONDS
        with ThreadPoolExecutor() as pool:
            while (seen := dict(zip(ASKS, pool.map(self._ports, ASKS), strict=True))) != expected:
                assert time.monotonic() < deadline, seen

    def _ports(self, who: str) -> list[int]:
        return [int(found.rpartition(":")[2]) for found in self.reached(who, *self.targets())]

    def targets(self) -> list[str]:
        return [f"{self.server}:{port}" for port in (WEB, OTHER)]


@pytest.fixture(scope="module")
def pods() -> Iterator[Pods]:
    assert os.environ.get("SLIPWAY_DEV_CLUSTER"), "other clusters may not enforce policies: run by `make e2e`"
    pods = Pods()
    ready = {"readinessProbe": {"periodSeconds": 1, "failureThreshold": 1, "tcpSocket": {"port": WEB}}}
    ports = {"ports": [{"name": "web", "containerPort": WEB}]}
    sleeps = ("python", "-c", "import signal; signal.pause()")
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "server-service"},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": WEB}]},
    }
    with second_node() as second:
        for kubectl in (pods.here, pods.elsewhere):
            kubectl.delete("namespace", kubectl.namespace)
            kubectl.ensure_namespace()
        pods.here.apply(
            service,
            small_pod("server", FIRST, "python", "-c", SERVES, container={**ready, **ports}),
            small_pod("peer", second.name, *sleeps, labels={"role": "peer"}),
            small_pod("unrelated", FIRST, *sleeps),
        )
        pods.elsewhere.apply(small_pod("foreign", second.name, *sleeps, labels={"role": "peer"}))
        for kubectl in (pods.here, pods.elsewhere):
            kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s", timeout_seconds=90)
        pods.server = (pods.here.get("pod", "server") or {})["status"]["podIP"]
        pods.service = (pods.here.get("service", "server-service") or {})["spec"]["clusterIP"]
        yield pods
        for kubectl in (pods.here, pods.elsewhere):
            kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


@pytest.fixture(autouse=True)
def no_policy_is_left(pods: Pods) -> Iterator[None]:
    yield
    pods.here("delete", "networkpolicies", "--all")


def policy(name: str, selector: dict[str, str], **spec: Any) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": {"matchLabels": selector}, **spec},
    }


def ingress(*rules: Object, name: str = "ingress") -> Object:
    return policy(name, {"app": "server"}, policyTypes=["Ingress"], ingress=list(rules))


PEERS = {"podSelector": {"matchLabels": {"role": "peer"}}}
THERE = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ELSEWHERE}}}
EVERYWHERE = {"namespaceSelector": {}}
BOTH = [WEB, OTHER]
CASES: dict[str, tuple[list[Object], dict[str, list[int]]]] = {
    "no policy": ([], {"peer": BOTH, "unrelated": BOTH, "foreign": BOTH}),
    "no rule": ([ingress()], {"peer": [], "unrelated": [], "foreign": []}),
    "a rule for all": ([ingress({})], {"peer": BOTH, "unrelated": BOTH, "foreign": BOTH}),
    "pods of the namespace": ([ingress({"from": [PEERS]})], {"peer": BOTH, "unrelated": [], "foreign": []}),
    "all pods of another": ([ingress({"from": [THERE]})], {"peer": [], "unrelated": [], "foreign": BOTH}),
    "some pods of all": (
        [ingress({"from": [{**EVERYWHERE, **PEERS}]})],
        {"peer": BOTH, "unrelated": [], "foreign": BOTH},
    ),
    "a port by name": (
        [ingress({"from": [PEERS], "ports": [{"port": "web"}]})],
        {"peer": [WEB], "unrelated": [], "foreign": []},
    ),
    "a port by number": ([ingress({"ports": [{"port": OTHER}]})], {who: [OTHER] for who in ASKS}),
    "a range of ports": ([ingress({"ports": [{"port": 8001, "endPort": 9000}]})], {who: [OTHER] for who in ASKS}),
    "a protocol alone": ([ingress({"ports": [{"protocol": "UDP"}]})], {who: [] for who in ASKS}),
    "addresses but some": (
        [ingress({"from": [{"ipBlock": {"cidr": "10.244.0.0/16", "except": ["10.244.1.0/24"]}}]})],
        {"peer": [], "unrelated": BOTH, "foreign": []},
    ),
    "policies that add up": (
        [ingress({"from": [PEERS]}), ingress({"from": [THERE], "ports": [{"port": WEB}]}, name="second")],
        {"peer": BOTH, "unrelated": [], "foreign": [WEB]},
    ),
    "an expression": (
        [ingress({"from": [{"podSelector": {"matchExpressions": [{"key": "role", "operator": "DoesNotExist"}]}}]})],
        {"peer": [], "unrelated": BOTH, "foreign": []},
    ),
    "another pod's policy": (
        [policy("other", {"app": "unrelated"}, policyTypes=["Ingress"])],
        {"peer": BOTH, "unrelated": BOTH, "foreign": BOTH},
    ),
    "no way out": (
        [policy("out", {"app": "unrelated"}, policyTypes=["Egress"])],
        {"peer": BOTH, "unrelated": [], "foreign": BOTH},
    ),
    "one way out": (
        [policy("out", {"app": "unrelated"}, egress=[{"to": [{"podSelector": {}}], "ports": [{"port": "web"}]}])],
        {"peer": BOTH, "unrelated": [WEB], "foreign": BOTH},
    ),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("policies", "expected"), CASES.values(), ids=CASES)
def test_pods_reach_what_the_policies_allow(pods: Pods, policies: list[Object], expected: dict[str, list[int]]) -> None:
    if policies:
        pods.here.apply(*policies)
    pods.until(expected)


@pytest.mark.timeout(120)
def test_an_isolated_pod_still_passes_its_probes_and_its_peers_come_by_the_service(pods: Pods) -> None:
    pods.here.apply(ingress({"from": [PEERS]}))
    pods.until({"peer": BOTH, "unrelated": [], "foreign": []})
    by_service = f"{pods.service}:80"
    assert pods.reached("peer", by_service) == [by_service]
    assert pods.reached("unrelated", by_service) == []
    time.sleep(3)  # three periods of the probe, and the first failure would have made it unready
    server = pods.here.get("pod", "server") or {}
    assert server["status"]["containerStatuses"][0]["ready"]
    ready = next(one for one in server["status"]["conditions"] if one["type"] == "Ready")
    assert ready["status"] == "True"


@pytest.mark.timeout(120)
def test_a_pod_that_may_only_resolve_names_reaches_no_service_of_the_node(pods: Pods) -> None:
    api = "10.96.0.1:443"
    assert pods.reached("peer", api) == [api]
    dns = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    pods.here.apply(policy("dns", {"app": "peer"}, policyTypes=["Egress"], egress=[{"ports": dns}]))
    pods.until({"peer": [], "unrelated": BOTH, "foreign": BOTH})
    assert pods.reached("peer", api) == []
    resolve = "import socket; print(socket.gethostbyname('server-service'))"
    assert pods.here("exec", "peer", "--", "python", "-c", resolve).strip() == pods.service
