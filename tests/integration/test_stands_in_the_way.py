"""What stands in the operator's way on a real kube-apiserver: refusals, lost labels, names that others hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.apiserver import ApiServer
from support.operator_process import OperatorProcess, running_operator
from support.training_cluster import TrainingCluster, wait_for

MERGE = {"content_type": "application/merge-patch+json"}
STORE = {
    "apiVersion": "slipway.dev/v1alpha1",
    "kind": "ArtifactStore",
    "metadata": {"name": "default"},
    "spec": {"persistentVolumeClaim": {"claimName": "models"}},
}
CLAIM = {
    "metadata": {"name": "models"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
}


@pytest.fixture(scope="module")
def operator(apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """With the real planners; what watches do not show is looked at all the time, lists are never compared."""
    log = tmp_path_factory.mktemp("operator") / "log"
    with running_operator(apiserver.kubeconfig, log, "--no-leader-election", "--revisit-seconds", "0.2") as started:
        started.wait_until_ready()
        yield started


@pytest.fixture
def cluster(operator: OperatorProcess, apiserver: ApiServer) -> TrainingCluster:
    cluster = TrainingCluster(apiserver)
    core, ours = f"/api/v1/namespaces/{cluster.namespace}", cluster.training_jobs.removesuffix("trainingjobs")
    apiserver.must("POST", f"{core}/persistentvolumeclaims", CLAIM)
    apiserver.must("POST", f"{ours}artifactstores", STORE)
    return cluster


def only_job(cluster: TrainingCluster) -> Any:
    (job,) = wait_for(lambda: cluster.items(cluster.jobs), "the Job")
    return job


def tried(cluster: TrainingCluster) -> str:
    """What the server says of a Job that anybody would create now."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.test/any:1"}]}
    job = {"metadata": {"name": "tried"}, "spec": {"template": {"spec": pod}}}
    return str(cluster.server.request("POST", cluster.jobs, job, dryRun="All")[1].get("message", ""))


def test_a_quota_that_refuses_the_job_is_told_once_and_the_job_is_made_when_it_is_gone(
    cluster: TrainingCluster,
) -> None:
    quotas = f"/api/v1/namespaces/{cluster.namespace}/resourcequotas"
    none = {"count/jobs.batch": "0"}
    cluster.server.must("POST", quotas, {"metadata": {"name": "none"}, "spec": {"hard": none}})
    # As the quota controller does it; admission refuses some time after, when it has seen both.
    cluster.server.must("PATCH", f"{quotas}/none/status", {"status": {"hard": none, "used": none}}, **MERGE)
    wait_for(lambda: "exceeded quota" in tried(cluster), "the quota")
    cluster.train()

    def refused() -> list[Any]:
        return [event for event in cluster.items(cluster.events) if event["reason"] == "Refused"]

    (event,) = wait_for(refused, "the Event")
    assert event["type"] == "Warning"
    assert (event["regarding"]["kind"], event["regarding"]["name"]) == ("TrainingJob", "train")
    attempt = cluster.status()["attempts"][0]
    assert f"the API server refused to create jobs {cluster.namespace}/{attempt['job']}: 403" in event["note"]
    assert "exceeded quota: none" in event["note"]
    wait_for(lambda: condition(cluster, "ChildRefused")[:2] == ("True", "Refused"), "the condition")
    assert condition(cluster, "ChildRefused")[2].startswith(f"create Job {attempt['job']} was refused")
    assert "exceeded quota: none" in condition(cluster, "Ready")[2]
    cluster.server.must("DELETE", f"{quotas}/none")
    assert only_job(cluster)["metadata"]["name"] == attempt["job"]
    wait_for(lambda: condition(cluster, "ChildRefused")[0] == "False", "the condition to go")
    assert len(refused()) == 1


def condition(cluster: TrainingCluster, kind: str) -> tuple[str, str, str]:
    """Status, reason and message."""
    found = (one for one in cluster.status().get("conditions", ()) if one["type"] == kind)
    return next(((one["status"], one["reason"], one.get("message", "")) for one in found), ("", "", ""))


def test_a_job_that_lost_its_owner_is_a_conflict_until_it_has_it_back(cluster: TrainingCluster) -> None:
    cluster.train()
    job = only_job(cluster)
    wait_for(lambda: cluster.status()["attempts"][0].get("jobUID"), "the Job's UID")
    path = f"{cluster.jobs}/{job['metadata']['name']}"
    cluster.server.must("PATCH", path, {"metadata": {"ownerReferences": None}}, **MERGE)
    wait_for(lambda: condition(cluster, "Stalled")[:2] == ("True", "NameConflict"), "the conflict")
    assert f"Job {job['metadata']['name']}" in condition(cluster, "Stalled")[2]
    owners = job["metadata"]["ownerReferences"]
    cluster.server.must("PATCH", path, {"metadata": {"ownerReferences": owners}}, **MERGE)
    wait_for(lambda: condition(cluster, "Stalled")[0] == "False", "the training to go on")
    assert cluster.server.must("GET", path)["metadata"]["uid"] == job["metadata"]["uid"]


def test_a_service_whose_label_was_taken_gets_it_back(cluster: TrainingCluster) -> None:
    cluster.train(nodes=2)
    only_job(cluster)
    (service,) = cluster.items(cluster.services)
    path = f"{cluster.services}/{service['metadata']['name']}"
    cluster.server.must("PATCH", path, {"metadata": {"labels": None}}, **MERGE)
    wait_for(
        lambda: cluster.server.must("GET", path)["metadata"].get("labels") == service["metadata"]["labels"],
        "the labels",
    )
    assert cluster.server.must("GET", path)["metadata"]["uid"] == service["metadata"]["uid"]


def test_a_job_whose_label_was_taken_is_followed_to_its_end(cluster: TrainingCluster) -> None:
    cluster.train()
    job = only_job(cluster)
    wait_for(lambda: cluster.status()["attempts"][0].get("jobUID"), "the Job's UID")
    path = f"{cluster.jobs}/{job['metadata']['name']}"
    cluster.server.must("PATCH", path, {"metadata": {"labels": None}}, **MERGE)
    cluster.finish_job()
    wait_for(lambda: len(cluster.items(cluster.jobs)) == 2, "the Job that seals what it left")
    (attempt,) = cluster.status()["attempts"]
    assert attempt["jobUID"] == job["metadata"]["uid"]
    assert attempt["outcome"] == "Succeeded"


def test_a_deployment_goes_on_when_the_name_of_its_service_is_free(cluster: TrainingCluster) -> None:
    taken = {"metadata": {"name": "digits"}, "spec": {"ports": [{"port": 80}], "selector": {"app": "another"}}}
    cluster.server.must("POST", cluster.services, taken)
    deployments = cluster.training_jobs.replace("trainingjobs", "modeldeployments")
    body = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "digits"},
        "spec": {"model": {"trainingJob": "digits"}},
    }
    cluster.server.must("POST", deployments, body)

    def stalled() -> tuple[str, str]:
        status = cluster.server.must("GET", f"{deployments}/digits")["status"]
        return next(
            ((one["status"], one["reason"]) for one in status.get("conditions", ()) if one["type"] == "Stalled"),
            ("", ""),
        )

    wait_for(lambda: stalled() == ("True", "NameConflict"), "the conflict")
    cluster.server.must("DELETE", f"{cluster.services}/digits")
    wait_for(lambda: stalled()[0] == "False", "the deployment to go on")
    (service,) = cluster.items(cluster.services)
    assert service["metadata"]["ownerReferences"][0]["kind"] == "ModelDeployment"


def test_a_status_of_a_next_version_stops_nothing_after_its_crd_is_rolled_back(cluster: TrainingCluster) -> None:
    cluster.train()
    only_job(cluster)
    wait_for(lambda: cluster.status()["attempts"][0].get("jobUID"), "the Job's UID")
    crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/trainingjobs.slipway.dev"
    before = cluster.server.must("GET", crd)["spec"]
    status = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties"
    newer = [
        {"op": "remove", "path": f"{status}/attempts/items/properties/outcome/enum"},
        {"op": "remove", "path": f"{status}/phase/enum"},
    ]
    cluster.server.must("PATCH", crd, newer, content_type="application/json-patch+json")
    attempts = [{**cluster.status()["attempts"][0], "outcome": "Migrated"}]
    written = {"status": {"phase": "Migrating", "attempts": attempts}}

    def taken() -> bool:
        path = f"{cluster.training_jobs}/train/status"
        return bool(cluster.server.request("PATCH", path, written, **MERGE)[0] == 200)

    wait_for(taken, "the newer CRD")
    cluster.server.must("PATCH", crd, {"spec": before}, **MERGE)
    wait_for(lambda: cluster.status()["phase"] == "Pending", "the operator to go on")
    cluster.finish_job()
    wait_for(lambda: len(cluster.items(cluster.jobs)) == 2, "the Job that seals what it left")
    wait_for(lambda: cluster.status()["attempts"][0].get("outcome") == "Succeeded", "the outcome, told a moment later")
