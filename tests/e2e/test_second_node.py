"""The second node of the development cluster: a node like the first one, which can be cut off, killed and fixed."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from demo.kubectl import Kubectl, KubectlError, Object
from support.reach import reached
from support.second_node import FIRST, SECOND, SecondNode, second_node, small_pod

pytestmark = pytest.mark.release

SERVES = ("python", "-m", "http.server", "8000", "--directory=/store")

# kube-proxy learns of a Service's new endpoint within a second or two.
ASK = """
import time, urllib.request
ends_at = time.monotonic() + 10
while True:
    try:
        print(urllib.request.urlopen("http://{host}/", timeout=5).status)
        break
    except OSError:
        if time.monotonic() > ends_at:
            raise
        time.sleep(0.2)
"""


@pytest.fixture(scope="module")
def node() -> Iterator[SecondNode]:
    assert os.environ.get("SLIPWAY_DEV_CLUSTER"), "the second node is the development cluster's: run by `make e2e`"
    with second_node() as node:
        yield node


@pytest.fixture(scope="module")
def kubectl(node: SecondNode) -> Iterator[Kubectl]:
    """A namespace with a pod on each node, which share a volume, and a Service for each."""
    kubectl = Kubectl("e2e-second-node")
    kubectl.delete("namespace", kubectl.namespace)
    kubectl.ensure_namespace()
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "store"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    container = {
        "volumeMounts": [{"name": "store", "mountPath": "/store"}],
        "readinessProbe": {"periodSeconds": 1, "tcpSocket": {"port": 8000}},
    }
    volume = {"volumes": [{"name": "store", "persistentVolumeClaim": {"claimName": "store"}}]}
    pods = [
        small_pod(name, where, *SERVES, container=container, **volume)
        for name, where in (("first", FIRST), ("second", node.name))
    ]
    services = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": f"{name}-service"},  # a pod knows itself by its own name
            "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8000}]},
        }
        for name in ("first", "second")
    ]
    kubectl.apply(claim, *services, *pods)
    kubectl("wait", "--for=condition=Ready", "pod/first", "pod/second", "--timeout=60s", timeout_seconds=90)
    yield kubectl
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


def python(kubectl: Kubectl, pod: str, code: str) -> str:
    return kubectl("exec", pod, "--", "python", "-c", code).strip()


@pytest.mark.parametrize("asks", ["first", "second"])
@pytest.mark.parametrize("answers", ["first", "second"])
def test_pods_of_both_nodes_reach_each_other_by_address_and_by_service(
    kubectl: Kubectl, asks: str, answers: str
) -> None:
    pod = kubectl.get("pod", answers) or {}
    for host in (f"{pod['status']['podIP']}:8000", f"{answers}-service"):
        assert python(kubectl, asks, ASK.format(host=host)) == "200"


def test_a_claim_is_the_same_folder_on_both_nodes(kubectl: Kubectl) -> None:
    python(kubectl, "second", "import pathlib; pathlib.Path('/store/file').write_text('shared')")
    assert python(kubectl, "first", "import pathlib; print(pathlib.Path('/store/file').read_text())") == "shared"


def evicts(node: Object) -> bool:
    """Return True if pods are evicted from a node that does not answer: that taint comes a moment after NoSchedule."""
    taints = [(taint["key"], taint["effect"]) for taint in node["spec"].get("taints", ())]
    return ("node.kubernetes.io/unreachable", "NoExecute") in taints


@pytest.mark.timeout(180)
def test_a_node_that_is_cut_off_is_lost_and_its_pods_have_gone_on_when_it_is_back(
    kubectl: Kubectl, node: SecondNode
) -> None:
    before = kubectl.get("pod", "second") or {}
    node.cut()
    try:
        kubectl.until("node", SECOND, evicts)
        with pytest.raises(KubectlError):
            kubectl("logs", "second", "--request-timeout=3s")
    finally:
        node.start()
    after = kubectl.until("pod", "second", lambda pod: pod["status"]["containerStatuses"][0]["ready"])
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.timeout(180)
def test_nothing_of_a_killed_node_runs_until_it_is_started_again(kubectl: Kubectl, node: SecondNode) -> None:
    target = f"{(kubectl.get('pod', 'second') or {})['status']['podIP']}:8000"
    assert reached(kubectl, "first", target) == [target]
    node.kill()
    assert reached(kubectl, "first", target) == []
    node.start()
    kubectl.until("pod", "second", lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] == 1)
