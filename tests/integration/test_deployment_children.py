"""What the planner makes of ModelDeployments, asked of a real API server: accepted, kept, and safe by profile."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.api.kinds import (
    CHILDREN,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    JOB,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    Object,
    kind_of,
)
from slipway.api.modeldeployment import ModelDeploymentStatus
from slipway.cluster.apiserver import collection_path
from slipway.plan.deployment.manifests import controller_revision, deployment, selected_revision, service
from slipway.plan.owner import Owner
from slipway.reconcile.cache import trimmed
from slipway.reconcile.drift import in_sync
from support.apiserver import ApiServer, restricted_namespace
from support.builders import model_deployment
from support.deployments import DIGITS, counting, served, with_ratio, world_with

HERE = "deployment-children"
APPLY = {"content_type": "application/apply-patch+yaml", "fieldManager": "slipway", "fieldValidation": "Strict"}
SERVINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "full": {
        "replicas": 2,
        "resources": {"cpu": "1500m", "memory": "2048Mi"},
        "podTemplate": {
            "labels": {"team": "vision"},
            "annotations": {"prometheus.io/scrape": "true"},
            "nodeSelector": {"zone": "a"},
            "tolerations": [{"key": "spot", "operator": "Exists"}],
        },
    },
}


def children(serving: str) -> dict[str, list[Object]]:
    """All that a deployment has when it serves, by kind, as the planner gave it but in this test's namespace."""
    world = served(serving=SERVINGS[serving])
    made: dict[str, list[Object]] = {kind.kind: [] for kind in CHILDREN}
    for key, obj in world.objects.items():
        if key.kind in CHILDREN:
            meta = {name: obj["metadata"][name] for name in ("name", "labels", "ownerReferences")}
            body = {name: obj[name] for name in ("spec", "data", "revision") if name in obj}
            made[key.kind.kind].append(
                {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": {**meta, "namespace": HERE}, **body}
            )
    return made


@pytest.fixture(scope="module")
def namespace(apiserver: ApiServer) -> str:
    return restricted_namespace(apiserver, HERE)


def path(obj: Object) -> str:
    return collection_path(kind_of(obj), HERE)


@pytest.mark.parametrize("serving", SERVINGS)
def test_what_is_applied_lives_as_it_was_rendered_and_a_second_time_changes_nothing(
    apiserver: ApiServer, namespace: str, serving: str
) -> None:
    made = children(serving)
    for kind in (SERVICE, DEPLOYMENT, POD_DISRUPTION_BUDGET):
        (obj,) = made[kind.kind]
        target = f"{path(obj)}/{obj['metadata']['name']}"
        live = apiserver.must("PATCH", target, obj, **APPLY)
        assert in_sync(trimmed(live), obj)
        again = apiserver.must("PATCH", target, obj, **APPLY)
        assert again["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]


def test_a_service_that_only_claims_its_name_is_kept_with_a_selector_that_matches_no_pod(
    apiserver: ApiServer, namespace: str
) -> None:
    """A Service without a selector would keep whatever endpoints a user gave it."""
    claim = service(Owner.of(model_deployment("claimed")), None)
    claim["metadata"]["namespace"] = HERE
    target = f"{path(claim)}/claimed"
    live = apiserver.must("PATCH", target, claim, **APPLY)
    assert live["spec"]["selector"]["slipway.dev/revision"] == ""
    assert in_sync(trimmed(live), claim)
    assert selected_revision(live) is None


@pytest.mark.parametrize("serving", SERVINGS)
def test_the_frozen_record_gives_back_the_deployment_that_it_was_made_for(
    apiserver: ApiServer, namespace: str, serving: str
) -> None:
    made = children(serving)
    (record,), (wanted,) = made[CONTROLLER_REVISION.kind], made[DEPLOYMENT.kind]
    live = trimmed(apiserver.must("POST", path(record), record, fieldValidation="Strict"))
    owner = Owner.of(model_deployment())
    rendered = deployment(owner, live["metadata"]["name"], live["data"]["template"], wanted["spec"]["replicas"])
    assert rendered["spec"] == wanted["spec"]
    changed = {**live, "metadata": {**live["metadata"]}, "data": {"renderer": 2}}
    status, answer = apiserver.request("PUT", f"{path(record)}/{record['metadata']['name']}", changed)
    assert status == 422, answer


@pytest.mark.parametrize("serving", SERVINGS)
def test_a_record_of_what_runs_is_applied_without_rolling_it(
    apiserver: ApiServer, namespace: str, serving: str
) -> None:
    """The record was deleted: it is made again from the live Deployment, defaults included."""
    (obj,) = children(serving)[DEPLOYMENT.kind]
    target = f"{path(obj)}/{obj['metadata']['name']}"
    live = apiserver.must("PATCH", target, obj, **APPLY)
    world = served(serving=SERVINGS[serving])
    owner = Owner.of(world.objects[DIGITS])
    (revision,) = ModelDeploymentStatus.model_validate(world.status(DIGITS)).revisions
    record = controller_revision(owner, revision, trimmed(live)["spec"]["template"])
    again = deployment(owner, revision.name, record["data"]["template"], obj["spec"]["replicas"])
    again["metadata"]["namespace"] = HERE
    after = apiserver.must("PATCH", target, again, **APPLY)
    assert after["metadata"]["generation"] == live["metadata"]["generation"]


@pytest.mark.parametrize("serving", SERVINGS)
def test_pods_of_all_jobs_and_of_the_deployment_are_admitted_under_the_restricted_profile(
    apiserver: ApiServer, namespace: str, serving: str
) -> None:
    made = children(serving)
    owners = [*made[JOB.kind], *made[DEPLOYMENT.kind]]
    assert len(owners) == 11
    for obj in owners:
        template = obj["spec"]["template"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "name": obj["metadata"]["name"], "namespace": HERE},
            "spec": template["spec"],
        }
        query = {"dryRun": "All", "fieldValidation": "Strict"}
        apiserver.must("POST", f"/api/v1/namespaces/{HERE}/pods", pod, **query)
        for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
            container["securityContext"]["allowPrivilegeEscalation"] = True
            status, refusal = apiserver.request("POST", f"/api/v1/namespaces/{HERE}/pods", pod, **query)
            assert status == 403, refusal
            container["securityContext"]["allowPrivilegeEscalation"] = False


def test_every_status_on_the_way_is_accepted_by_the_schema(apiserver: ApiServer, namespace: str) -> None:
    """Compressing to Ready, then a refusal; each status that was written, under strict validation."""
    world = world_with()
    written: list[Object] = []
    world.checks.append(lambda: written.append(world.status(DIGITS)))
    world.run(DIGITS)
    world.behaviour = counting(lost=30)
    world.edit(DIGITS, with_ratio(0.9))
    world.run(DIGITS)
    assert {status["phase"] for status in written} == {"Compressing", "Evaluating", "RollingOut", "Ready", "Degraded"}
    wanted = model_deployment()
    del wanted["status"]
    wanted["metadata"] = {"name": "digits", "namespace": HERE}
    live = apiserver.must("POST", path(wanted), wanted, fieldValidation="Strict")
    distinct = [status for before, status in zip([None, *written], written, strict=False) if status != before]
    for status in distinct:
        live = apiserver.must(
            "PUT", f"{path(wanted)}/digits/status", {**live, "status": status}, fieldValidation="Strict"
        )
        assert live["status"] == status
