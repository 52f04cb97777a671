"""What kubectl users see of the resources, on a real API server."""

from __future__ import annotations

import pytest

from generators.fields import EXAMPLES, read_examples
from slipway.api.crds import RESOURCES, Resource
from slipway.api.status import not_yet_observed
from slipway.api.trainingjob import Restarts
from support.apiserver import ApiServer
from support.full_objects import DIGEST, NOW
from support.places import Json

NAMESPACE = "crds"
CLUSTER_API = "/apis/slipway.dev/v1alpha1"
API = f"{CLUSTER_API}/namespaces/{NAMESPACE}"


@pytest.fixture(scope="module", autouse=True)
def namespace(apiserver: ApiServer) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    apiserver.must("POST", "/api/v1/namespaces", body)


def made(apiserver: ApiServer, kind: str, plural: str, name: str, spec: Json) -> Json:
    body = {"apiVersion": "slipway.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    return apiserver.must("POST", f"{API}/{plural}", body)


def test_a_short_manifest_is_filled_in_by_the_server(apiserver: ApiServer):
    recipe = {"recipe": {"model": {}}}
    job = made(
        apiserver,
        "TrainingJob",
        "trainingjobs",
        "short",
        {"entrypoint": recipe, "data": [{"dataset": "digits"}]},
    )
    assert job["spec"] == {
        "entrypoint": {
            "recipe": {
                "model": {"factory": "slipway.runtime.models:mlp", "args": {}},
                "optimizer": {"name": "adam", "args": {}},
                "loss": "cross_entropy",
                "epochs": 10,
                "batchSize": 32,
                "seed": 0,
            }
        },
        "nodes": 1,
        "pools": [],
        "resources": {"cpu": "1", "memory": "2Gi"},
        "data": [{"name": "train", "dataset": "digits", "split": "train"}],
        "store": "default",
        "restarts": Restarts().to_wire(),
        "egress": "open",
        "suspend": False,
        "podTemplate": {},
        "steps": {"podTemplate": {}},
    }
    assert job["status"] == not_yet_observed()


def test_a_users_status_is_not_believed(apiserver: ApiServer):
    job = apiserver.must(
        "POST",
        f"{API}/trainingjobs",
        {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": "claims"},
            "spec": {"entrypoint": {"module": {"name": "team.train"}}},
            "status": {"phase": "Succeeded", "observedGeneration": 7},
        },
    )
    assert job["status"] == not_yet_observed()


def test_kubectl_get_tells_how_far_a_job_is_and_what_is_wrong(apiserver: ApiServer):
    made(apiserver, "TrainingJob", "trainingjobs", "shown", {"entrypoint": {"module": {"name": "team.train"}}})
    ready = {
        "type": "Ready",
        "status": "False",
        "reason": "RankFailed",
        "message": "rank 1: ValueError: no such layer",
        "lastTransitionTime": NOW,
    }
    status = {
        "observedGeneration": 1,
        "phase": "Restarting",
        "workers": "1/2",
        "restarts": 2,
        "conditions": [ready],
        "artifact": {"uri": "store:///jobs/a", "digest": DIGEST},
        "metrics": {"accuracy": 0.97},
    }
    apiserver.must(
        "PATCH",
        f"{API}/trainingjobs/shown/status",
        {"status": status},
        content_type="application/merge-patch+json",
    )
    cells = printed(apiserver, "trainingjobs/shown")
    assert cells["Phase"] == "Restarting"
    assert cells["Workers"] == "1/2"
    assert cells["Restarts"] == 2
    assert cells["Reason"] == "RankFailed"
    assert cells["Message"] == "rank 1: ValueError: no such layer"
    assert cells["Accuracy"] == 0.97
    assert cells["Artifact"] == DIGEST


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind.kind)
def test_the_server_takes_the_documents_that_the_reference_has_its_examples_from(
    apiserver: ApiServer, resource: Resource
):
    kind = resource.kind
    path = f"{API if kind.namespaced else CLUSTER_API}/{kind.plural}"
    for document in read_examples(EXAMPLES)[kind.kind]:
        name = f"shown-{document['metadata']['name']}"
        apiserver.must("POST", path, {**document, "metadata": {"name": name}}, fieldValidation="Strict")
        if "status" in document:
            status = {"status": document["status"]}
            merge = "application/merge-patch+json"
            apiserver.must("PATCH", f"{path}/{name}/status", status, content_type=merge, fieldValidation="Strict")


def test_kubectl_scale_changes_the_replicas_of_a_deployment(apiserver: ApiServer):
    made(apiserver, "ModelDeployment", "modeldeployments", "scaled", {"model": {"trainingJob": "digits"}})
    path = f"{API}/modeldeployments/scaled"
    patch = {"spec": {"replicas": 5}}
    apiserver.must("PATCH", f"{path}/scale", patch, content_type="application/merge-patch+json")
    assert apiserver.must("GET", path)["spec"]["serving"]["replicas"] == 5
    assert printed(apiserver, "modeldeployments/scaled")["Replicas"] == 5


def test_an_autoscaler_finds_the_ready_replicas_and_the_pods_to_measure(apiserver: ApiServer):
    made(apiserver, "ModelDeployment", "modeldeployments", "measured", {"model": {"trainingJob": "digits"}})
    path = f"{API}/modeldeployments/measured"
    status = {"status": {"readyReplicas": 2, "selector": "slipway.dev/revision=measured-1"}}
    apiserver.must("PATCH", f"{path}/status", status, content_type="application/merge-patch+json")
    found = apiserver.must("GET", f"{path}/scale")["status"]
    assert found == {"replicas": 2, "selector": "slipway.dev/revision=measured-1"}


def printed(apiserver: ApiServer, path: str) -> Json:
    """The cells of `kubectl get -o wide`, by column."""
    table = apiserver.must("GET", f"{API}/{path}", accept="application/json;as=Table;g=meta.k8s.io;v=v1")
    names = [column["name"] for column in table["columnDefinitions"]]
    return dict(zip(names, table["rows"][0]["cells"], strict=True))
