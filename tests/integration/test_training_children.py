"""What the planner makes of TrainingJobs, asked of a real API server: accepted, kept as rendered, safe by profile."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.api.kinds import JOB, NETWORK_POLICY, SERVICE, Object, kind_of
from slipway.cluster.apiserver import collection_path
from slipway.reconcile.drift import in_sync
from support.apiserver import ApiServer, restricted_namespace
from support.builders import pool
from support.training import TrainingWorld

HERE = "training-children"
APPLY = {"content_type": "application/apply-patch+yaml", "fieldManager": "slipway", "fieldValidation": "Strict"}

FULL_TEMPLATE: dict[str, Any] = {
    "labels": {"team": "vision"},
    "annotations": {"note": "x"},
    "env": [
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
        {"name": "LR", "value": "0.1"},
    ],
    "envFrom": [{"configMapRef": {"name": "defaults"}}],
    "volumes": [{"name": "src", "configMap": {"name": "src"}}, {"name": "cache", "emptyDir": {"sizeLimit": "1Gi"}}],
    "volumeMounts": [{"name": "src", "mountPath": "/src", "readOnly": True}, {"name": "cache", "mountPath": "/cache"}],
    "nodeSelector": {"zone": "a"},
    "tolerations": [{"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}],
    "imagePullSecrets": [{"name": "registry"}],
}
SPECS: dict[str, dict[str, Any]] = {
    "recipe": {"data": [{"name": "train", "dataset": "digits"}]},
    "pool": {"pools": ["h100"], "nodes": 2, "resources": {"cpu": "1500m", "memory": "2048Mi"}},
    "replaced": {"nodes": 3, "podTemplate": FULL_TEMPLATE},
    "own": {
        "image": "mine:1",
        "entrypoint": {"script": {"path": "/src/train.py", "args": ["--lr", "0.1"]}},
        "podTemplate": FULL_TEMPLATE,
    },
}


def children(name: str) -> list[Object]:
    """All Jobs, Services and NetworkPolicies of one life: prepare, train, seal, re-read."""
    world = TrainingWorld(pool(), name=name, **SPECS[name]).plan()
    made: dict[str, Object] = {}

    def seen() -> None:
        kinds = (JOB, SERVICE, NETWORK_POLICY)
        made.update({f"{key.kind}/{key.name}": obj for key, obj in world.objects.items() if key.kind in kinds})

    seen()
    if "data" in SPECS[name]:
        world.step()
        world.plan()
        seen()
    if name == "replaced":
        world.pod_is(0).loses(1).passes(seconds=10)
        seen()
    world.pods_run()
    if "image" in SPECS[name]:
        world.succeeds()
    else:
        world.vanishes()
    seen()
    return [rendered(obj) for obj in made.values()]


def rendered(obj: Object) -> Object:
    """As the planner gave it, in this test's namespace."""
    meta = {name: obj["metadata"][name] for name in ("name", "labels", "ownerReferences")}
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "metadata": {**meta, "namespace": HERE},
        "spec": obj["spec"],
    }


@pytest.fixture(scope="module")
def namespace(apiserver: ApiServer) -> str:
    return restricted_namespace(apiserver, HERE)


def path(obj: Object) -> str:
    return collection_path(kind_of(obj), HERE)


@pytest.mark.parametrize("name", SPECS)
def test_children_are_accepted_and_live_as_they_were_rendered(apiserver: ApiServer, namespace: str, name: str) -> None:
    made = children(name)
    assert {"Job", "NetworkPolicy"} <= {obj["kind"] for obj in made} <= {"Job", "Service", "NetworkPolicy"}
    for obj in made:
        if obj["kind"] == "Job":  # created, never applied
            live = apiserver.must("POST", path(obj), obj, fieldValidation="Strict")
        else:
            target = f"{path(obj)}/{obj['metadata']['name']}"
            live = apiserver.must("PATCH", target, obj, **APPLY)
            again = apiserver.must("PATCH", target, obj, **APPLY)
            assert again["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]
        assert in_sync(live, obj)


@pytest.mark.parametrize("name", SPECS)
def test_pods_of_all_jobs_are_admitted_under_the_restricted_profile(
    apiserver: ApiServer, namespace: str, name: str
) -> None:
    jobs = [obj for obj in children(name) if obj["kind"] == "Job"]
    assert len(jobs) >= 2
    for job in jobs:
        template = job["spec"]["template"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "name": job["metadata"]["name"], "namespace": HERE},
            "spec": template["spec"],
        }
        query = {"dryRun": "All", "fieldValidation": "Strict"}
        apiserver.must("POST", f"/api/v1/namespaces/{HERE}/pods", pod, **query)
        (container,) = pod["spec"]["containers"]
        container["securityContext"]["allowPrivilegeEscalation"] = True
        status, refusal = apiserver.request("POST", f"/api/v1/namespaces/{HERE}/pods", pod, **query)
        assert status == 403, refusal
