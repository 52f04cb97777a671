"""The operator dies by SIGKILL again and again: what it makes is the same, and nothing runs twice."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo import chart
from demo.kubectl import Kubectl, Object, is_true
from support.chain import Chain, chain_of, fresh_namespace
from support.manifests import digits_deployment, digits_training
from support.operator_process import OperatorProcess, running_operator
from support.seed import SEED

pytestmark = pytest.mark.release


@pytest.fixture(scope="module", autouse=True)
def _no_other_operator(served: Chain) -> Iterator[None]:
    """The chart's own operator rests meanwhile."""
    system = Kubectl(chart.NAMESPACE)
    system("scale", "deployment/slipway", "--replicas=0")
    system("wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=slipway", "--timeout=60s", timeout_seconds=90)
    yield
    system("scale", "deployment/slipway", "--replicas=1")
    system("rollout", "status", "deployment/slipway", "--timeout=120s", timeout_seconds=150)


class Lives:
    """One operator process after another, all of one namespace."""

    def __init__(self, namespace: str, log: Path, images: chart.Images) -> None:
        self._log = log
        pods = ("--runtime-image", images.runtime, "--serving-image", images.serving)
        self._flags = ("--no-leader-election", "--namespace", namespace, *pods)

    def until_it_dies_at(self, point: str) -> None:
        """A life that ends by SIGKILL at a write of its own."""
        with running_operator(Path(os.environ["KUBECONFIG"]), self._log, *self._flags, "--crash", point) as operator:
            assert operator.wait(180) == -9, self._log.read_text()[-2000:]

    def until(self, holds: Callable[[OperatorProcess], object], *, timeout_seconds: float = 300) -> None:
        """A life that is ended from outside once the predicate holds."""
        with running_operator(Path(os.environ["KUBECONFIG"]), self._log, *self._flags) as operator:
            deadline = time.monotonic() + timeout_seconds
            while not holds(operator):
                assert operator.process.poll() is None, self._log.read_text()[-2000:]
                assert time.monotonic() < deadline, self._log.read_text()[-2000:]
                time.sleep(0.2)


def status(kubectl: Kubectl, kind: str) -> Object:
    return (kubectl.get(kind, "digits") or {}).get("status", {})


def is_ready(kubectl: Kubectl) -> bool:
    return is_true(kubectl.get("modeldeployment", "digits") or {}, "Ready")


def nothing_ran_twice(kubectl: Kubectl) -> None:
    """Every Job that exists is the one in a status, and every status has one try."""
    training = status(kubectl, "trainingjob")
    tasks = [step["status"]["run"] for step in kubectl.list("step")]
    assert [attempt["number"] for attempt in training["attempts"]] == [1]
    assert {task["tries"] for task in tasks} == {1}
    recorded = {entry["jobUID"] for entry in tasks + training["attempts"]}
    assert {job["metadata"]["uid"] for job in kubectl.list("job")} == recorded


def test_killed_at_named_points_it_makes_the_same(served: Chain, images: chart.Images, tmp_path: Path):
    kubectl = fresh_namespace("e2e-killed-at-points")
    lives = Lives(kubectl.namespace, tmp_path / "log", images)
    kubectl.apply(digits_training())
    lives.until_it_dies_at("after:patch_status:TrainingJob:1")  # an intent is written, and no child made
    lives.until_it_dies_at("after:create:Job:1")  # a child is made, and its UID not recorded
    lives.until(lambda _: status(kubectl, "trainingjob").get("phase") == "Running")  # during training
    kubectl.apply(digits_deployment())

    def in_step_2(_: OperatorProcess) -> bool:
        pods = kubectl.list("pod", "slipway.dev/role=step-1-quantize-int8")
        return any(pod["status"]["phase"] == "Running" for pod in pods)

    lives.until(in_step_2)
    lives.until_it_dies_at("before:apply:Service:1")  # before takeover
    lives.until(lambda _: is_ready(kubectl))
    assert chain_of(kubectl).digests == served.digests
    nothing_ran_twice(kubectl)
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


@pytest.mark.timeout(600)
def test_killed_at_random_moments_it_makes_the_same(served: Chain, images: chart.Images, tmp_path: Path):
    moments = random.Random(SEED)
    kubectl = fresh_namespace("e2e-killed-at-random")
    lives = Lives(kubectl.namespace, tmp_path / "log", images)
    kubectl.apply(digits_training(), digits_deployment())
    for life in range(60):
        # Ever longer: on a busy machine a start alone may take ten seconds.
        dies_at = time.monotonic() + moments.uniform(1, 15 + 2 * life)
        lives.until(lambda _, at=dies_at: time.monotonic() > at or is_ready(kubectl))
        if is_ready(kubectl):
            break
    assert chain_of(kubectl).digests == served.digests
    nothing_ran_twice(kubectl)
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")
