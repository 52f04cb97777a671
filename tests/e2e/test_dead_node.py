"""A node dies: what ran on it is replaced on the living one, counts for nobody, and says why."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from demo.kubectl import Kubectl, Object, is_true
from support.chain import Chain
from support.long_step import long_deployment, running_step
from support.manifests import script_training
from support.second_node import FIRST, SECOND, SecondNode, second_node, small_pod

pytestmark = pytest.mark.release

REPLACED_WITHIN_SECONDS = 150
"""20 s until the node counts as lost, 30 s that pods tolerate it, 30 to 40 s of their grace period, 20 s for a kubelet
that is late, and the start of the next pods."""
SAVES = """
import time
from pathlib import Path
import torch
import slipway.runtime

torch.distributed.init_process_group("gloo")
while not Path("/tmp/finish").exists():
    time.sleep(0.2)
slipway.runtime.save(torch.nn.Linear(4, 2), torch.zeros(2, 4))
"""
WAITS = """
import time
import torch

torch.distributed.init_process_group("gloo")
time.sleep(900)
"""


@pytest.fixture
def node() -> Iterator[SecondNode]:
    assert os.environ.get("SLIPWAY_DEV_CLUSTER"), "the second node is the development cluster's: run by `make e2e`"
    with second_node() as node:
        try:
            yield node
        finally:
            Kubectl("default")("uncordon", FIRST)


def holder(name: str, where: str) -> Object:
    """Of two of a node's three GPUs, so that one more pod with a GPU fits there."""
    devices = {"resources": {"limits": {"nvidia.com/gpu": 2}}}
    return small_pod(name, where, "python", "-c", "import signal; signal.pause()", container=devices)


def pods_of(kubectl: Kubectl, selector: str) -> dict[str, str]:
    """The node of each pod that runs, by name; those that are being deleted left out."""
    return {
        pod["metadata"]["name"]: pod["spec"].get("nodeName", "")
        for pod in kubectl.list("pod", selector)
        if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
    }


def of_attempt(kubectl: Kubectl, job: str, number: int) -> list[str]:
    """The nodes of the running pods of one attempt."""
    status = (kubectl.get("trainingjob", job) or {})["status"]
    (attempt,) = [one for one in status["attempts"] if one["number"] == number]
    return sorted(pods_of(kubectl, f"batch.kubernetes.io/job-name={attempt['job']}").values())


def attempt_2_runs(job: Object) -> bool:
    return is_true(job, "Running") and job["status"]["attempts"][-1]["number"] == 2


@pytest.mark.timeout(900)
def test_what_a_dead_node_ran_is_replaced_on_the_living_one_uncounted_and_with_the_reason(
    served: Chain, node: SecondNode
) -> None:
    kubectl, nodes = served.kubectl, Kubectl("default")
    kubectl.apply(holder("holder-1", FIRST), holder("holder-2", SECOND))
    kubectl("wait", "--for=condition=Ready", "pod/holder-1", "pod/holder-2", "--timeout=60s", timeout_seconds=90)
    kubectl.apply(*script_training("both", WAITS, nodes=2, pools=["gpu"]))
    kubectl.until("trainingjob", "both", lambda job: is_true(job, "Running"))
    assert of_attempt(kubectl, "both", 1) == [FIRST, SECOND]

    nodes("cordon", FIRST)  # so that these two are on the other one
    kubectl.apply(*script_training("single", SAVES, nodes=1))
    kubectl.apply(long_deployment("moves"))
    kubectl.until("trainingjob", "single", lambda job: is_true(job, "Running"))
    assert of_attempt(kubectl, "single", 1) == [SECOND]
    before, _ = running_step(kubectl, "moves", node=SECOND)
    nodes("uncordon", FIRST)
    kubectl("delete", "pod", "holder-1")

    died_at = time.monotonic()
    node.kill()
    for name, where in (("single", [FIRST]), ("both", [FIRST, FIRST])):
        job = kubectl.until("trainingjob", name, attempt_2_runs, timeout_seconds=REPLACED_WITHIN_SECONDS)
        print(f"{name}: runs again {time.monotonic() - died_at:.0f} s after the node died")
        first = job["status"]["attempts"][0]
        assert (first["outcome"], first["failure"]["reason"]) == ("NodeLost", "NodeLost")
        assert SECOND in first["failure"]["message"]
        assert job["status"].get("restarts", 0) == 0
        assert of_attempt(kubectl, name, 2) == where
    after, _ = running_step(kubectl, "moves", node=FIRST, timeout_seconds=REPLACED_WITHIN_SECONDS)
    assert after["job"] != before["job"]
    assert after["tries"] == before["tries"] + 1
    print(f"the step: runs again {time.monotonic() - died_at:.0f} s after the node died")
    told = kubectl("get", "events.events.k8s.io", "--output=json")
    assert told.count("NodeLost") >= 2

    status = (kubectl.get("trainingjob", "single") or {})["status"]
    (pod,) = pods_of(kubectl, f"batch.kubernetes.io/job-name={status['attempts'][-1]['job']}")
    kubectl("exec", pod, "--", "touch", "/tmp/finish")
    done = kubectl.settled("trainingjob", "single")
    assert is_true(done, "Complete"), done["status"]
    for kind, name in (
        ("trainingjob", "both"),
        ("trainingjob", "single"),
        ("modeldeployment", "moves"),
        ("pod", "holder-2"),
    ):
        kubectl("delete", kind, name, "--wait=false")
