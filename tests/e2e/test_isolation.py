"""Who reaches the pods that Slipway makes, and whom they reach: by request, on a cluster that enforces policies."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from demo.kubectl import Kubectl, Object, is_true
from support.chain import Chain, fresh_namespace
from support.long_step import long_deployment, running_step
from support.manifests import script_training
from support.reach import listens, reached
from support.second_node import FIRST, small_pod

HERE, ELSEWHERE = "e2e-isolation", "e2e-isolation-elsewhere"
RENDEZVOUS, LISTENER = 29400, 8000
API_SERVER, DNS = "10.96.0.1:443", "10.244.0.1:53"
MEETS_AND_WAITS = """
import time
import torch

torch.distributed.init_process_group("gloo")
torch.distributed.barrier()
print("met", flush=True)
time.sleep(600)
"""
JOBS: dict[str, Object] = {
    "one": {"nodes": 2},
    "other": {"nodes": 2},
    "alone": {"nodes": 1},
    "shut-in": {"nodes": 2, "egress": "restricted"},
}
SMALL = {"cpu": "50m", "memory": "1Gi"}  # seven pods beside what the session serves
LISTENS = ("python", "-m", "http.server", str(LISTENER), "--directory=/tmp")
SLEEPS = ("python", "-c", "import signal; signal.pause()")


@pytest.fixture(scope="module")
def kubectl(served: Chain) -> Iterator[Kubectl]:
    """Two TrainingJobs of two pods that have met, one of one pod, and a pod that is no one's."""
    assert os.environ.get("SLIPWAY_DEV_CLUSTER"), "other clusters may not enforce policies: run by `make e2e`"
    kubectl, elsewhere = fresh_namespace(HERE), Kubectl(ELSEWHERE)
    elsewhere.delete("namespace", ELSEWHERE)
    elsewhere.ensure_namespace()
    for name, spec in JOBS.items():
        kubectl.apply(*script_training(name, MEETS_AND_WAITS, resources=SMALL, **spec))
    kubectl.apply(small_pod("unrelated", FIRST, *LISTENS))
    for name in JOBS:
        kubectl.until("trainingjob", name, lambda job: is_true(job, "Running"))
        (rank_0, *_) = workers(kubectl, name)
        kubectl.until("pod", rank_0["metadata"]["name"], lambda pod: "met" in kubectl("logs", pod["metadata"]["name"]))
    # With every label of a worker, in another namespace.
    labels = workers(kubectl, "one")[0]["metadata"]["labels"]
    elsewhere.apply(small_pod("foreign", FIRST, *SLEEPS, labels=labels))
    for namespace, pod in ((kubectl, "unrelated"), (elsewhere, "foreign")):
        namespace("wait", "--for=condition=Ready", f"pod/{pod}", "--timeout=60s", timeout_seconds=90)
    yield kubectl
    for namespace in (kubectl, elsewhere):
        namespace("delete", "namespace", namespace.namespace, "--wait=false")


def workers(kubectl: Kubectl, job: str) -> list[Object]:
    """Its pods, by rank."""
    pods = [
        pod
        for pod in kubectl.list("pod", "batch.kubernetes.io/job-name")
        if pod["metadata"]["name"].startswith(f"{job}-")
    ]
    return sorted(pods, key=lambda pod: int(pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]))


@pytest.mark.timeout(600)
def test_only_the_pods_of_one_job_reach_its_rendezvous_or_any_other_port_of_its_pods(kubectl: Kubectl) -> None:
    first, second = workers(kubectl, "one")
    rendezvous = f"{first['status']['podIP']}:{RENDEZVOUS}"
    everything = [
        f"{pod['status']['podIP']}:{port}"
        for pod in (first, second)
        for port in listens(kubectl, pod["metadata"]["name"])
    ]
    assert rendezvous in everything
    assert reached(kubectl, second["metadata"]["name"], rendezvous) == [rendezvous]
    outsiders = [(kubectl, "unrelated"), (Kubectl(ELSEWHERE), "foreign")]
    outsiders += [(kubectl, pod["metadata"]["name"]) for job in ("other", "alone") for pod in workers(kubectl, job)]
    assert {who: reached(namespace, who, *everything) for namespace, who in outsiders} == {
        who: [] for _, who in outsiders
    }


def test_a_job_of_one_pod_listens_to_nobody(kubectl: Kubectl) -> None:
    """It needs no NetworkPolicy, then: the stores of torch are bound to the loopback interface."""
    (pod,) = workers(kubectl, "alone")
    assert listens(kubectl, pod["metadata"]["name"]) == []


def listener(kubectl: Kubectl) -> str:
    return f"{(kubectl.get('pod', 'unrelated') or {})['status']['podIP']}:{LISTENER}"


def test_training_connects_to_anywhere_or_where_egress_is_restricted_to_its_peers_and_the_dns(kubectl: Kubectl) -> None:
    everywhere = [listener(kubectl), API_SERVER, DNS]
    (alone,) = workers(kubectl, "alone")
    assert reached(kubectl, alone["metadata"]["name"], *everywhere) == everywhere
    first, second = workers(kubectl, "shut-in")
    peer = f"{first['status']['podIP']}:{RENDEZVOUS}"
    assert reached(kubectl, second["metadata"]["name"], *everywhere, peer) == [DNS, peer]


@pytest.mark.timeout(600)
def test_the_pod_of_a_plugin_connects_to_nothing_where_the_store_is_a_claim(kubectl: Kubectl, served: Chain) -> None:
    served.kubectl.apply(long_deployment("sends"))
    _, pod = running_step(served.kubectl, "sends")
    everywhere = [listener(kubectl), API_SERVER, DNS]
    assert reached(kubectl, "unrelated", *everywhere) == everywhere
    assert reached(served.kubectl, pod["metadata"]["name"], *everywhere) == []
    served.kubectl.delete("modeldeployment", "sends")
