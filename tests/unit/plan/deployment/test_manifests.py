"""What serving pods, their Deployment, Service and budget are made of."""

from __future__ import annotations

import pytest

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.modeldeployment import Revision, Serving
from slipway.api.tasks import CheckTask
from slipway.plan.deployment import manifests
from slipway.plan.observation import Snapshot
from slipway.plan.owner import Owner
from slipway.plan.references import known_store
from slipway.plan.steps.request import Demand, StepRequest, Store, job_prefix, render_step
from slipway.plan.storemount import StoreMount
from slipway.plan.tasks import job_name
from slipway.runtime.serving import frontend
from support.builders import DIGEST, NAMESPACE, SETTINGS, T0, model_deployment, store
from support.restricted import breaches

PARENT = Owner.of(model_deployment())
REVISION = Revision(name="digits-abc123-0123456789", digest=DIGEST, created_at=T0)
REPOSITORY = ArtifactRef(uri="store:///steps/x/artifact", digest=DIGEST, state=State.REPOSITORY)
STORE = StoreMount(ArtifactStoreSpec.model_validate({"persistentVolumeClaim": {"claimName": "c", "subPath": "team"}}))


def template(**serving):
    wanted = Serving.model_validate(serving)
    return manifests.serving_pod(PARENT, REVISION, REPOSITORY, wanted, STORE, SETTINGS)


def triton(**serving):
    (container,) = template(**serving)["spec"]["containers"]
    return container


@pytest.mark.parametrize(
    "serving",
    [
        {},
        {"podTemplate": {"labels": {"team": "vision"}, "annotations": {"prometheus.io/scrape": "true"}}},
    ],
)
def test_serving_pods_keep_the_restricted_profile(serving):
    assert breaches(template(**serving)["spec"]) == []


def test_the_repository_is_verified_before_triton_starts_and_triton_cannot_change_it():
    spec = template()["spec"]
    (fetch,) = spec["initContainers"]
    mounts = {one["name"]: {**one} for one in fetch["volumeMounts"]}
    packed = "steps/x/artifact"
    assert fetch["image"] == SETTINGS.runtime_image
    assert mounts["slipway-store"] == {
        "name": "slipway-store",
        "mountPath": f"/var/lib/slipway/store/{packed}",
        "subPath": f"team/{packed}",
        "readOnly": True,
    }
    assert DIGEST in next(one["value"] for one in fetch["env"] if one["name"] == "SLIPWAY_TASK")
    served = {one["name"]: one for one in triton()["volumeMounts"]}
    assert served["slipway-repository"]["readOnly"] is True
    assert "slipway-store" not in served


def test_triton_serves_what_was_fetched_and_no_store():
    container = triton()
    assert container["image"] == SETTINGS.serving_image
    assert container["command"][:4] == [
        "python3",
        "/repository/frontend.py",
        "tritonserver",
        "--model-repository=/repository/models",
    ]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "http": 8000,
        "grpc": 8001,
        "metrics": 8002,
    }


def test_a_pod_is_started_by_golden_answers_and_ready_by_its_own_model():
    container = triton()
    assert container["startupProbe"]["exec"]["command"] == ["python3", "/repository/golden/probe.py"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"
    assert container["readinessProbe"]["httpGet"]["path"] == "/v2/models/digits/ready"


def test_the_grace_period_covers_the_pre_stop_sleep_the_drain_and_tritons_own_exit():
    pre_stop = triton()["lifecycle"]["preStop"]["sleep"]["seconds"]
    exit_timeout = next(int(flag.split("=")[1]) for flag in triton()["command"] if "exit-timeout" in flag)
    assert pre_stop >= 5
    assert template()["spec"]["terminationGracePeriodSeconds"] > pre_stop + frontend.DRAIN_SECONDS + exit_timeout


def test_all_containers_ask_for_what_the_spec_says():
    spec = template(resources={"cpu": "250m", "memory": "512Mi"})["spec"]
    for container in (*spec["initContainers"], *spec["containers"]):
        assert container["resources"]["requests"] == {"cpu": "250m", "memory": "512Mi"}
        assert container["resources"]["limits"] == {"memory": "512Mi"}  # processors that are idle may be used


def test_what_the_pod_template_adds_is_there_and_overrides_no_label_of_ours():
    made = template(podTemplate={"labels": {"team": "vision"}, "nodeSelector": {"disk": "ssd"}})
    assert made["metadata"]["labels"]["team"] == "vision"
    assert made["metadata"]["labels"]["slipway.dev/revision"] == REVISION.name
    assert made["spec"]["nodeSelector"] == {"disk": "ssd"}


def test_a_deployment_is_made_of_its_frozen_record_and_todays_replicas():
    made = manifests.deployment(PARENT, REVISION.name, template(), 3)
    assert made["spec"]["template"] == template()
    assert made["spec"]["replicas"] == 3
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert made["spec"]["selector"]["matchLabels"].items() <= template()["metadata"]["labels"].items()


def test_the_record_names_images_and_renderer():
    record = manifests.controller_revision(PARENT, REVISION, template())
    assert record["data"]["images"] == {"fetch": SETTINGS.runtime_image, "triton": SETTINGS.serving_image}
    assert record["data"]["renderer"] == 1
    assert isinstance(record["revision"], int)


def test_the_service_selects_the_pods_of_one_revision_and_has_the_name_that_users_gave():
    made = manifests.service(PARENT, REVISION.name)
    assert made["metadata"]["name"] == "digits"
    assert made["spec"]["selector"].items() <= template()["metadata"]["labels"].items()
    assert made["spec"]["selector"]["slipway.dev/revision"] == REVISION.name
    assert [(port["name"], port["port"]) for port in made["spec"]["ports"]] == [
        ("http", 8000),
        ("grpc", 8001),
    ]  # no metrics: they are no client's
    assert manifests.selected_revision(made) == REVISION.name


def test_the_budget_covers_the_pods_of_every_revision():
    budget = manifests.disruption_budget(PARENT)["spec"]
    assert budget["maxUnavailable"] == 1
    assert "slipway.dev/revision" not in budget["selector"]["matchLabels"]
    assert budget["selector"]["matchLabels"].items() <= template()["metadata"]["labels"].items()


@pytest.mark.parametrize("tries", [1, 9, 10, 99, 12345])
@pytest.mark.parametrize("length", [1, 40])
def test_names_fit_into_labels_whatever_the_deployment_is_called(length, tries):
    owner = Owner.of(model_deployment("a" * length))
    name = owner.child_name("0123456789")
    assert len(name) <= 63
    stored = Store("default", known_store(Snapshot([store()]), NAMESPACE, "default"))
    made = render_step(owner, StepRequest("package", "", CheckTask(), "image", stored), Demand())
    step = Owner.of({**made, "metadata": {**made["metadata"], "uid": "x"}})
    assert len(step.name) <= 63
    assert len(job_name(job_prefix(step), tries)) + len("-q3") <= 63
