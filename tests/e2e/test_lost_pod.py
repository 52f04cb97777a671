"""A pod that is evicted before all pods of its attempt run is replaced, and the attempt goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from demo import chart
from demo.kubectl import Kubectl, Object, is_true
from support.chain import fresh_namespace
from support.manifests import script_training
from support.second_node import FIRST, small_pod

pytestmark = pytest.mark.release

MEETS = """
import os
import torch
import slipway.runtime

torch.distributed.init_process_group("gloo")
torch.distributed.barrier()
if os.environ["RANK"] == "0":
    slipway.runtime.save(torch.nn.Linear(4, 2), torch.zeros(2, 4))
torch.distributed.destroy_process_group()
"""
INDEX = "batch.kubernetes.io/job-completion-index"


@pytest.fixture
def kubectl(operator: chart.Images) -> Iterator[Kubectl]:
    assert os.environ.get("SLIPWAY_DEV_CLUSTER"), (
        "it counts the three GPUs of the development cluster: run by `make e2e`"
    )
    kubectl = fresh_namespace("e2e-lost-pod")
    yield kubectl
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


def pods_of(kubectl: Kubectl) -> dict[int, Object]:
    """The pods of the training by index; of a replaced one the newest."""
    pods = sorted(
        kubectl.list("pod", "slipway.dev/role=train"), key=lambda pod: str(pod["metadata"]["creationTimestamp"])
    )
    return {int(pod["metadata"]["labels"][INDEX]): pod for pod in pods}


def two_run(job: Object, kubectl: Kubectl) -> bool:
    phases = [pod["status"]["phase"] for pod in pods_of(kubectl).values()]
    return sorted(phases) == ["Pending", "Running", "Running"] and bool(job.get("status"))


def evict(kubectl: Kubectl, pod: str) -> None:
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": kubectl.namespace},
    }
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}/eviction"
    kubectl("create", "--raw", path, "--filename=-", stdin=json.dumps(eviction))


@pytest.mark.timeout(300)
def test_a_pod_that_is_evicted_while_another_waits_for_room_is_replaced_in_the_same_attempt(kubectl: Kubectl) -> None:
    holder = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
    kubectl.apply(small_pod("holder", FIRST, "python", "-c", "import signal; signal.pause()", container=holder))
    kubectl("wait", "--for=condition=Ready", "pod/holder", "--timeout=60s", timeout_seconds=90)
    kubectl.apply(*script_training("meets", MEETS, nodes=3, pools=["gpu"]))
    kubectl.until("trainingjob", "meets", lambda job: two_run(job, kubectl))
    index, pod = next((i, one) for i, one in pods_of(kubectl).items() if i and one["status"]["phase"] == "Running")

    evict(kubectl, pod["metadata"]["name"])
    kubectl.until("trainingjob", "meets", lambda job: bool(job["status"]["attempts"][0].get("replacements")))
    kubectl("delete", "pod", "holder", "--wait=false")
    job = kubectl.settled("trainingjob", "meets")

    assert is_true(job, "Complete"), job["status"]
    (attempt,) = job["status"]["attempts"]
    (replacement,) = attempt["replacements"]
    assert (replacement["index"], replacement["number"]) == (index, 1)
    assert replacement["failure"]["reason"] == "Preempted"
    assert job["status"].get("restarts", 0) == 0
    assert job["status"]["disruptions"] == 1
    newest = pods_of(kubectl)[index]
    assert newest["metadata"]["labels"]["batch.kubernetes.io/job-name"] == replacement["job"]
    assert newest["spec"]["hostname"] == f"{attempt['job']}-{index}"
    ended = kubectl.get("job", attempt["job"]) or {}
    assert ended["status"]["failedIndexes"] == str(index)
