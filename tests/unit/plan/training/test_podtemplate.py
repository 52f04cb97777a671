"""What a tenant may not do by way of a podTemplate: one attack a line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slipway.api.kinds import JOB, Object
from slipway.api.modeldeployment import ModelDeployment
from slipway.api.reading import read_written
from slipway.api.trainingjob import TrainingJob
from slipway.plan.pods import CONTAINER
from support.builders import bucket_store, model_deployment, store, training_job
from support.deployments import DIGITS, world_with
from support.training import TrainingWorld

ANY_POD: dict[str, Object] = {
    "the Job controller's labels": {"labels": {"batch.kubernetes.io/controller-uid": "x"}},
    "the Job controller's labels of old": {"labels": {"job-name": "x"}},
    "the index of a Job": {"annotations": {"batch.kubernetes.io/job-completion-index": "0"}},
    "the labels by which we find our own": {"labels": {"app.kubernetes.io/managed-by": "x"}},
    "the labels of our own": {"labels": {"slipway.dev/role": "compare"}},
    "the labels of the operator's own pods": {"labels": {"app.kubernetes.io/name": "slipway"}},
    "the task of a pod": {"annotations": {"slipway.dev/task": "{}"}},
    "another profile of AppArmor": {
        "annotations": {"container.apparmor.security.beta.kubernetes.io/main": "unconfined"}
    },
    "another profile of seccomp": {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}},
    "code of an injector": {"annotations": {"instrumentation.opentelemetry.io/inject-python": "evil/x"}},
    "code of another injector": {"annotations": {"vault.hashicorp.com/agent-inject-command-x": "sh"}},
    "a label that asks an injector": {"labels": {"admission.datadoghq.com/enabled": "true"}},
    "a priority of the cluster": {"priorityClassName": "system-node-critical"},
    "the node's network": {"hostNetwork": True},
    "the node's processes": {"hostPID": True},
    "privileges": {"securityContext": {"privileged": True}},
    "a container of its own": {"containers": [{"name": "x"}]},
    "an init container": {"initContainers": [{"name": "x"}]},
    "the service account's token": {"automountServiceAccountToken": True},
    "a folder of the node": {"volumes": [{"name": "a", "hostPath": {"path": "/"}}]},
    "an annotation as a file": {"volumes": [{"name": "a", "downwardAPI": {}}]},
    "a volume of ours": {"volumes": [{"name": "slipway-task", "emptyDir": {}}]},
    "a token by a projected volume": {"volumes": [{"name": "a", "projected": {}}]},
}
VOLUME: Object = {"volumes": [{"name": "a", "emptyDir": {}}]}
TRAINING: dict[str, Object] = {
    **{
        f"a variable {name}": {"env": [{"name": name, "value": "x"}]}
        for name in ("SLIPWAY_TASK", "SLIPWAY_STORE", "SLIPWAY_JOB_UID", "PET_RDZV_ENDPOINT", "TORCHELASTIC_RUN_ID")
    },
    **{
        f"a mount over {path}": {**VOLUME, "volumeMounts": [{"name": "a", "mountPath": path}]}
        for path in (
            *("/usr", "/usr/bin", "/usr/lib/python3", "/usr/local/lib/python3.11", "/opt/slipway/venv", "/etc", "/bin"),
            *("/lib64", "/proc", "/sys", "/dev", "/dev/shm", "/var/lib/slipway/store", "/var/lib/slipway/out", "/tmp"),
            "/var/lib/slipway/task",
            *(
                "/run/secrets/kubernetes.io/serviceaccount",
                "/var/run/secrets",
                "/",
                "//usr",
                "/a/../usr",
                "/./usr",
                "/var",
            ),
        )
    },
}
SERVING: dict[str, Object] = {
    "a variable": {"env": [{"name": "LD_PRELOAD", "value": "/x.so"}]},
    "any variable": {"env": [{"name": "A", "value": "x"}]},
    "variables of a Secret": {"envFrom": [{"secretRef": {"name": "x"}}]},
    "a volume": VOLUME,
    "a mount": {**VOLUME, "volumeMounts": [{"name": "a", "mountPath": "/opt/tritonserver"}]},
    "a sidecar's volume": {"annotations": {"sidecar.istio.io/userVolume": "[]"}},
    "an image of a sidecar": {"annotations": {"sidecar.istio.io/proxyImage": "evil"}},
    "an annotation of anybody": {"annotations": {"example.com/inject": "x"}},
}


@pytest.mark.parametrize("template", [*ANY_POD.values(), *TRAINING.values()], ids=[*ANY_POD, *TRAINING])
def test_no_training_job_asks_for_it(template: Object) -> None:
    wanted = training_job(podTemplate=template)
    with pytest.raises(ValueError, match="podTemplate"):
        read_written(TrainingJob, json.dumps({"spec": wanted["spec"]}))


@pytest.mark.parametrize("template", [*ANY_POD.values(), *SERVING.values()], ids=[*ANY_POD, *SERVING])
def test_no_model_deployment_asks_for_it(template: Object) -> None:
    wanted = model_deployment(serving={"podTemplate": template})
    with pytest.raises(ValueError, match="podTemplate"):
        read_written(ModelDeployment, json.dumps({"spec": wanted["spec"]}))


def mounted(claim: str, **more: Any) -> Object:
    return {"volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": claim, **more}}]}


KEYS = {"secretKeyRef": {"name": "keys", "key": "AWS_SECRET_ACCESS_KEY"}}
REACHES: dict[str, tuple[Object, str, str]] = {
    "the claim": (mounted("artifacts"), "volumes[0]", "PersistentVolumeClaim artifacts belongs to ArtifactStore"),
    "the claim, read-only": (mounted("artifacts", readOnly=True), "volumes[0]", "PersistentVolumeClaim artifacts"),
    "the claim of another store": (mounted("held-out"), "volumes[0]", "belongs to ArtifactStore held-out"),
    "a store's Secret as files": (
        {"volumes": [{"name": "a", "secret": {"secretName": "keys"}}]}, "volumes[0]", "Secret keys belongs to",
    ),
    "a key of it": ({"env": [{"name": "A", "valueFrom": KEYS}]}, "env[0]", "Secret keys belongs to"),
    "all keys of it": ({"envFrom": [{"secretRef": {"name": "keys"}}]}, "envFrom[0]", "Secret keys belongs to"),
}  # fmt: skip


@pytest.mark.parametrize(("template", "field", "said"), REACHES.values(), ids=REACHES)
def test_no_pod_reaches_a_store_by_its_template(template: Object, field: str, said: str) -> None:
    others = (store("held-out", claim="held-out"), bucket_store("bucket"))
    world = TrainingWorld(*others, podTemplate=template).plan()
    assert [key for key in world.objects if key.kind == JOB] == []
    told = world.says("Ready")
    assert told.startswith(f"False StoreNotShared: spec.podTemplate.{field}: ")
    assert said in told


def test_a_claim_and_a_secret_of_ones_own_are_mounted() -> None:
    template = {
        "volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "mine"}},
            {"name": "b", "secret": {"secretName": "mine"}},
        ]
    }
    world = TrainingWorld(podTemplate=template).plan()
    assert [key for key in world.objects if key.kind == JOB]


def test_our_own_variables_go_before_those_of_a_secret() -> None:
    """A container's env goes before its envFrom (Kubernetes API): the names that we set cannot be set by it."""
    world = TrainingWorld(podTemplate={"envFrom": [{"secretRef": {"name": "evil"}}]}).plan()
    (main,) = world.job()["spec"]["template"]["spec"]["containers"]
    assert {"SLIPWAY_TASK", "SLIPWAY_JOB_UID", "SLIPWAY_OUT_URI", "HOME"} <= {one["name"] for one in main["env"]}


def test_what_prepares_data_and_reads_reports_gets_nothing_of_the_users_code() -> None:
    template = {
        "labels": {"team": "vision"},
        "annotations": {"example.com/note": "x"},
        "env": [{"name": "A", "value": "x"}],
        "envFrom": [{"secretRef": {"name": "x"}}],
        "volumes": [{"name": "a", "emptyDir": {}}],
        "volumeMounts": [{"name": "a", "mountPath": "/a"}],
        "nodeSelector": {"disk": "ssd"},
    }
    world = TrainingWorld(data=[{"name": "train", "dataset": "digits"}], podTemplate=template).plan()
    (job,) = [obj for key, obj in world.objects.items() if key.kind == JOB]
    pod = job["spec"]["template"]
    (main,) = pod["spec"]["containers"]
    assert main["name"] == CONTAINER
    assert "envFrom" not in main
    assert "A" not in {one["name"] for one in main["env"]}
    assert "a" not in {one["name"] for one in pod["spec"]["volumes"]}
    assert "annotations" not in pod["metadata"]
    assert (pod["metadata"]["labels"]["team"], pod["spec"]["nodeSelector"]) == ("vision", {"disk": "ssd"})


def test_no_pod_that_decides_has_anything_of_a_users() -> None:
    world = world_with(serving={"podTemplate": {"labels": {"team": "vision"}}})
    world.run(DIGITS)
    for job in [obj for key, obj in world.objects.items() if key.kind == JOB]:
        (main,) = job["spec"]["template"]["spec"]["containers"]
        assert {one["name"] for one in main["env"]} <= {"SLIPWAY_TASK", "SLIPWAY_JOB_UID", "SLIPWAY_OUT_URI", "HOME"}
        assert "envFrom" not in main
        assert all(one["name"].startswith("slipway-") for one in job["spec"]["template"]["spec"]["volumes"])
        assert "annotations" not in job["spec"]["template"]["metadata"]
