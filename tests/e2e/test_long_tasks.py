"""What a user writes may be longer than a variable of a process: the pods get it by a file, to the letter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo import chart
from demo.kubectl import Kubectl, condition, is_true
from support.chain import fresh_namespace
from support.long_tasks import long_training, was_given
from support.manifests import digits_deployment, digits_training

pytestmark = pytest.mark.release

OPEN = "takes-anything"
"""A CompressionPlugin without a schema, with the code of prune-structured, which refuses parameters of others."""


@pytest.fixture(scope="module")
def kubectl(operator: chart.Images) -> Iterator[Kubectl]:
    kubectl = fresh_namespace("e2e-long")
    shipped = kubectl.get("compressionplugin", "prune-structured") or {}
    spec = {**shipped["spec"], "parameters": {"type": "object"}}
    meta = {"apiVersion": shipped["apiVersion"], "kind": shipped["kind"], "metadata": {"name": OPEN}}
    kubectl.apply({**meta, "spec": spec})
    yield kubectl
    kubectl.delete("compressionplugin", OPEN)
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false")


def test_torchrun_workers_of_two_pods_get_200_kb_of_arguments_to_the_letter(kubectl: Kubectl) -> None:
    kubectl.apply(*long_training("long"))
    job = kubectl.until("trainingjob", "long", lambda job: is_true(job, "Failed"))
    assert was_given(job), job["status"]


@pytest.mark.timeout(600)
def test_a_step_gets_200_kb_of_parameters_and_a_megabyte_is_refused_by_its_field(kubectl: Kubectl) -> None:
    recipe = digits_training()["spec"]["entrypoint"]["recipe"]
    kubectl.apply(digits_training(nodes=1, entrypoint={"recipe": {**recipe, "epochs": 1}}))
    kubectl.settled("trainingjob", "digits")

    def step(size: int) -> dict[str, object]:
        params = {"ratio": 0.5, "padding": "$(HOME) $$ " + "x" * size}
        # Other tests' servers have most of the node.
        return {"steps": [{"plugin": OPEN, "params": params}], "resources": {"cpu": "100m", "memory": "1Gi"}}

    kubectl.apply(digits_deployment(compression=step(200_000)))
    told = condition(kubectl.settled("modeldeployment", "digits"), "Stalled")
    assert told["reason"] == "StepFailed"
    assert "padding: Extra inputs are not permitted" in told["message"]  # the words of the plugin's own model

    kubectl.apply(digits_deployment(compression=step(1_000_000)))
    told = condition(kubectl.settled("modeldeployment", "digits"), "Stalled")
    assert told["reason"] == "InvalidParams"
    assert "spec.compression.steps[0].params: is 1000052 bytes of JSON; the maximum is 229376" in told["message"]
