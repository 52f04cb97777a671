"""What pods are given of their store: a claim's mounts, or a bucket's place and keys, by reference alone."""

from __future__ import annotations

import json
from dataclasses import replace

from slipway.api.artifacts import ArtifactRef
from slipway.api.artifactstore import ArtifactStore
from slipway.api.kinds import Object
from slipway.api.podtemplate import PodTemplate
from slipway.api.tasks import CheckTask, DataRef, EvaluateTask
from slipway.plan.pods import container, pod_template, task_env
from slipway.plan.storemount import StoreMount
from slipway.plan.taskinput import TaskInput
from slipway.plan.tasks import TaskSpec
from support.builders import DIGEST, S3, bucket_store
from support.builders import store as claim_store
from support.restricted import breaches

CLAIM = ArtifactStore.model_validate(claim_store()).spec
IDENTITY = {"secretRef": None, "serviceAccountName": "trainer"}


def bucket(out: str | None = "steps/a", **s3: object) -> StoreMount:
    return StoreMount(ArtifactStore.model_validate(bucket_store(**s3)).spec, out)


def pod(mount: StoreMount, template: PodTemplate | None = None) -> Object:
    task = TaskInput.of(CheckTask())
    main = container("image:1", ["work"], pull_policy="Never", env=task_env(task, mount), mounts=mount.mounts)
    made = pod_template([main], labels={}, store=mount, template=template)
    return dict(made["spec"])


def variables(spec: Object) -> dict[str, Object]:
    return {variable["name"]: variable for variable in spec["containers"][0]["env"]}


def test_networks_of_a_held_out_store_change_neither_its_pods_nor_what_their_results_are_called() -> None:
    """They may change at any time: a Job that runs must stay the one that Slipway makes, and what is done be found."""

    def evaluating(*networks: str) -> tuple[str, list[Object]]:
        apart = bucket_store("evaluation", secretRef={"name": "evaluation-keys"})
        apart["spec"] |= {"heldOut": True, "networks": list(networks)}
        mount = replace(bucket(), held_out=ArtifactStore.model_validate(apart).spec)
        model = ArtifactRef(uri="store:///models/one", digest=DIGEST)
        task = EvaluateTask(model=model, data=DataRef(name="evaluation", artifact=model))
        return TaskSpec("evaluate", task, "image:1", mount, "job").digest, mount.for_task(task).env

    assert evaluating() == evaluating("10.4.0.0/16")


def test_a_pod_on_a_claim_mounts_its_inputs_and_its_own_folder() -> None:
    spec = pod(StoreMount(CLAIM, "steps/a", inputs=("models/one", "steps/b")))
    assert spec["volumes"] == [
        {"name": "slipway-store", "persistentVolumeClaim": {"claimName": "artifacts"}},
        {"name": "slipway-tmp", "emptyDir": {}},
    ]
    assert spec["containers"][0]["volumeMounts"] == [
        {
            "name": "slipway-store",
            "mountPath": "/var/lib/slipway/store/models/one",
            "subPath": "models/one",
            "readOnly": True,
        },
        {
            "name": "slipway-store",
            "mountPath": "/var/lib/slipway/store/steps/b",
            "subPath": "steps/b",
            "readOnly": True,
        },
        {"name": "slipway-store", "mountPath": "/var/lib/slipway/out", "subPath": "steps/a"},
        {"name": "slipway-tmp", "mountPath": "/tmp"},
    ]
    assert list(variables(spec)) == ["SLIPWAY_TASK", "SLIPWAY_JOB_UID", "SLIPWAY_OUT_URI", "HOME"]
    assert "serviceAccountName" not in spec


def test_a_pod_that_reads_and_writes_nothing_mounts_no_claim() -> None:
    spec = pod(StoreMount(CLAIM))
    assert [volume["name"] for volume in spec["volumes"]] == ["slipway-tmp"]
    assert [mount["name"] for mount in spec["containers"][0]["volumeMounts"]] == ["slipway-tmp"]


def test_the_folder_of_the_claim_that_a_store_keeps_to_comes_first() -> None:
    store = CLAIM.model_validate({"persistentVolumeClaim": {"claimName": "artifacts", "subPath": "team/one"}})
    mounts = StoreMount(store, "steps/a", inputs=("steps/b",)).mounts
    assert [mount["subPath"] for mount in mounts] == ["team/one/steps/b", "team/one/steps/a"]
    assert mounts[0]["mountPath"] == "/var/lib/slipway/store/steps/b"


def test_a_pod_on_a_bucket_mounts_no_claim_and_finds_scratch_at_the_same_paths() -> None:
    spec = pod(bucket())
    assert [volume for volume in spec["volumes"] if "emptyDir" not in volume] == []
    assert {mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]} == {
        "/var/lib/slipway/store",
        "/var/lib/slipway/out",
        "/tmp",
    }
    assert breaches(spec) == []


def test_a_reader_of_a_bucket_has_no_folder_of_its_own() -> None:
    spec = pod(bucket(out=None))
    assert [volume["name"] for volume in spec["volumes"]] == ["slipway-store", "slipway-tmp"]
    assert "SLIPWAY_OUT_URI" not in variables(spec)


def test_one_variable_says_where_the_bucket_is() -> None:
    assert json.loads(variables(pod(bucket(prefix="team/one")))["SLIPWAY_STORE"]["value"]) == {
        **S3,
        "prefix": "team/one",
    }


def test_keys_come_by_reference_and_only_the_two_are_needed() -> None:
    found = variables(pod(bucket()))
    keys = {name: found[name]["valueFrom"]["secretKeyRef"] for name in found if name.startswith("SLIPWAY_S3_")}
    assert keys == {
        "SLIPWAY_S3_ACCESS_KEY_ID": {"name": "keys", "key": "AWS_ACCESS_KEY_ID"},
        "SLIPWAY_S3_SECRET_ACCESS_KEY": {"name": "keys", "key": "AWS_SECRET_ACCESS_KEY"},
        "SLIPWAY_S3_SESSION_TOKEN": {"name": "keys", "key": "AWS_SESSION_TOKEN", "optional": True},
        "SLIPWAY_S3_CA_BUNDLE": {"name": "keys", "key": "AWS_CA_BUNDLE", "optional": True},
    }


def test_a_service_account_takes_the_place_of_keys() -> None:
    spec = pod(bucket(**IDENTITY))
    assert spec["serviceAccountName"] == "trainer"
    assert spec["automountServiceAccountToken"] is False  # a cloud's webhook mounts the token that it needs itself
    assert not any(name.startswith("SLIPWAY_S3_") for name in variables(spec))


def test_a_pod_templates_own_service_account_goes_first() -> None:
    assert pod(bucket(**IDENTITY), PodTemplate(service_account_name="mine"))["serviceAccountName"] == "mine"
