"""What goes wrong ends in its row of the status table, names the cause, and leaves what serves alone."""

from __future__ import annotations

import pytest

from demo.kubectl import Kubectl, condition, is_true
from support.chain import Chain
from support.manifests import digits_deployment, digits_training, script_training

SMALL = {"cpu": "250m", "memory": "2Gi"}  # several pods share a test machine

RAISES_ON_RANK_1 = """
import os

def deep(n):
    if n == 0:
        raise ValueError("the loss is not finite: " + "x" * 20_000)
    deep(n - 1)

print("rank", os.environ["RANK"], flush=True)
if os.environ["RANK"] == "1":
    deep(200)
import time
time.sleep(60)
"""


@pytest.fixture
def kubectl(served: Chain) -> Kubectl:
    """The namespace in which the example serves."""
    return served.kubectl


def test_a_script_that_raises_on_rank_1_is_named_with_its_exception(kubectl: Kubectl):
    kubectl.apply(*script_training("raises", RAISES_ON_RANK_1))
    job = kubectl.settled("trainingjob", "raises")
    failure = job["status"]["attempts"][-1]["failure"]
    assert job["status"]["phase"] == "Failed"
    assert is_true(job, "Failed")
    assert is_true(job, "Stalled")
    assert (failure["rank"], failure["exception"]) == (1, "ValueError")
    assert failure["message"].startswith("the loss is not finite")
    assert "rank 1" in condition(job, "Stalled")["message"]


def test_a_failed_attempt_is_followed_by_as_many_as_the_budget_allows(kubectl: Kubectl):
    spec = {"nodes": 1, "restarts": {"max": 1, "backoff": "1s"}}
    kubectl.apply(*script_training("exits", "raise SystemExit(7)", **spec))
    job = kubectl.settled("trainingjob", "exits")
    assert [attempt["outcome"] for attempt in job["status"]["attempts"]] == ["Failed", "Failed"]
    assert job["status"]["attempts"][-1]["failure"]["exitCode"] == 7
    assert job["status"]["restarts"] == 2


def test_a_name_that_another_object_owns_is_never_taken_over(kubectl: Kubectl):
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "taken", "labels": {"owner": "another"}},
        "spec": {"ports": [{"port": 80}]},
    }
    deployment = digits_deployment("taken")
    deployment["spec"] = {"model": {"trainingJob": "digits"}, "compression": {"resources": SMALL}}
    kubectl.apply(service, deployment)
    deployment = kubectl.settled("modeldeployment", "taken")
    assert condition(deployment, "Stalled")["reason"] == "NameConflict"
    assert "Service taken" in condition(deployment, "Stalled")["message"]
    found = kubectl.get("service", "taken") or {}
    assert "ownerReferences" not in found["metadata"]
    assert found["metadata"]["labels"]["owner"] == "another"
    kubectl.delete("modeldeployment", "taken")


def test_references_that_do_not_exist_yet_are_waited_for(kubectl: Kubectl):
    kubectl.apply(digits_training("waits", pools=["nowhere"]))
    job = kubectl.until("trainingjob", "waits", lambda obj: is_true(obj, "Reconciling"))
    assert job["status"]["phase"] == "Pending"
    assert condition(job, "Reconciling")["reason"] == "PoolNotFound"
    assert "nowhere" in condition(job, "Reconciling")["message"]
    kubectl.apply(digits_deployment("waits", training_job="waits"))
    deployment = kubectl.until("modeldeployment", "waits", lambda obj: is_true(obj, "Reconciling"))
    assert condition(deployment, "Reconciling")["reason"] == "ModelNotReady"


def broken(kubectl: Kubectl, compression: dict | None = None, **spec: object) -> dict:
    """The status of the served deployment after a change that cannot work."""
    if compression is not None:
        spec["compression"] = {**compression, "resources": SMALL}
    kubectl.apply(digits_deployment("digits", **spec))
    return kubectl.settled("modeldeployment", "digits", timeout_seconds=300)


def holds(kubectl: Kubectl, deployment: dict, served: str, reason: str) -> None:
    """Degraded for the reason given, while the revision that served goes on."""
    status = deployment["status"]
    assert (status["phase"], condition(deployment, "Stalled")["reason"]) == ("Degraded", reason)
    assert is_true(deployment, "Available")
    assert status["serving"] == served
    service = kubectl.get("service", "digits") or {}
    assert served in service["spec"]["selector"].values()
    live = kubectl.get("deployment", served) or {}
    assert live["status"]["readyReplicas"] == 1


def test_a_bad_parameter_is_named_by_its_path(kubectl: Kubectl, served: Chain):
    steps = [{"plugin": "prune-structured", "params": {"ratio": 1.5}}]
    deployment = broken(kubectl, compression={"steps": steps})
    holds(kubectl, deployment, served.serving, "InvalidParams")
    assert "spec.compression.steps[0].params.ratio" in condition(deployment, "Stalled")["message"]


def test_a_plugin_that_fails_is_named_with_its_step(kubectl: Kubectl, served: Chain):
    plugin = kubectl.get("compressionplugin", "quantize-int8") or {}
    spec = {**plugin["spec"], "entryPoint": "not-installed"}
    kubectl.apply({**plugin, "metadata": {"name": "broken"}, "spec": spec})
    deployment = broken(kubectl, compression={"steps": [{"plugin": "broken"}]})
    holds(kubectl, deployment, served.serving, "StepFailed")
    message = condition(deployment, "Stalled")["message"]
    assert "broken" in message
    assert "not-installed" in message


def test_a_model_of_another_digest_is_refused(kubectl: Kubectl, served: Chain):
    trained = kubectl.get("trainingjob", "digits") or {}
    wrong = {"uri": trained["status"]["artifact"]["uri"], "digest": f"sha256:{'0' * 64}", "state": "module"}
    data = {"dataset": "digits", "split": "train"}
    deployment = broken(
        kubectl, model={"stored": wrong}, compression={"steps": [{"plugin": "quantize-int8"}], "data": data}
    )
    holds(kubectl, deployment, served.serving, "StepFailed")
    assert wrong["digest"] in condition(deployment, "Stalled")["message"]


def test_a_gate_that_refuses_leaves_the_running_revision_alone(kubectl: Kubectl, served: Chain):
    steps = [{"plugin": "prune-structured", "params": {"ratio": 0.95, "recover": {"epochs": 0}}}]
    deployment = broken(kubectl, compression={"steps": steps})
    holds(kubectl, deployment, served.serving, "GateRefused")
    message = condition(deployment, "Stalled")["message"]
    assert "0.02" in message


def test_the_former_spec_is_served_again_without_any_step(kubectl: Kubectl, served: Chain):
    jobs = {job["metadata"]["uid"] for job in kubectl.list("job")}
    deployment = broken(kubectl)
    assert is_true(deployment, "Ready")
    assert deployment["status"]["serving"] == served.serving
    assert {job["metadata"]["uid"] for job in kubectl.list("job")} <= jobs


def test_deletion_leaves_no_object(kubectl: Kubectl, served: Chain):
    assert served.serving
    for kind in ("modeldeployment", "trainingjob"):
        kubectl(*["delete", kind, "--all", "--wait=true", "--timeout=60s"], timeout_seconds=90)
    kinds = "jobs,pods,services,networkpolicies,deployments,controllerrevisions,poddisruptionbudgets"
    kubectl("wait", "--for=delete", kinds, "--selector=app.kubernetes.io/managed-by=slipway", "--timeout=90s",
            timeout_seconds=120)  # fmt: skip
    assert kubectl.list(kinds, "app.kubernetes.io/managed-by=slipway") == []
