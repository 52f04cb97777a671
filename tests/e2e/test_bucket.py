"""The example on a bucket of S3: what is wrong with it is told before anything starts; then the same artifacts."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from demo import chart
from demo.kubectl import Kubectl, Object, condition, is_true
from support.chain import Chain, chain_of, fresh_namespace
from support.manifests import digits_deployment, digits_training

pytestmark = pytest.mark.release

KEYS = {"AWS_ACCESS_KEY_ID": "admin", "AWS_SECRET_ACCESS_KEY": "admin-secret"}
NAMESPACE = "e2e-bucket"
BUCKET = "artifacts"
CREATE_BUCKET = f"echo 's3.bucket.create -name {BUCKET}' | weed shell -master=localhost:9333"


@pytest.fixture(scope="module")
def kubectl(operator: chart.Images) -> Iterator[Kubectl]:
    """A namespace in which SeaweedFS runs, with no bucket and no Secret."""
    kubectl = fresh_namespace(NAMESPACE)
    kubectl.delete("artifactstore", "default")
    kubectl.apply(*service(seaweed_image(operator)))
    kubectl("rollout", "status", "deployment/s3", "--timeout=180s", timeout_seconds=200)
    yield kubectl
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def seaweed_image(images: chart.Images) -> str:
    """The development cluster's pods see the packages of requirements.lock, which has SeaweedFS for tests."""
    if os.environ.get("SLIPWAY_DEV_CLUSTER"):
        return images.runtime
    return os.environ.get("SLIPWAY_SEAWEEDFS_IMAGE", "chrislusf/seaweedfs:latest")


def service(image: str) -> tuple[Object, Object]:
    labels = {"app": "s3"}
    weed = {
        "name": "weed",
        "image": image,
        "command": ["weed", "server", "-dir=/data", "-s3", "-ip.bind=0.0.0.0", "-volume.max=20"],
        "args": ["-master.volumeSizeLimitMB=64", "-master.telemetry=false"],
        "env": [{"name": "HOME", "value": "/data"}, *({"name": name, "value": KEYS[name]} for name in KEYS)],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8333}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # weed takes S3_PORT for an option of its own
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [weed],
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "s3"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }
    port = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s3"}}
    return deployment, {**port, "spec": {"selector": labels, "ports": [{"port": 8333}]}}


def store() -> Object:
    s3 = {
        "bucket": BUCKET,
        "prefix": "team",
        "endpoint": f"http://s3.{NAMESPACE}.svc:8333",
        "secretRef": {"name": "s3"},
    }
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ArtifactStore",
        "metadata": {"name": "default"},
        "spec": {"s3": s3},
    }


def secret(**keys: str) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3"}, "stringData": {**KEYS, **keys}}


def reason(obj: Object) -> object:
    return condition(obj, "Ready").get("reason")


def tried_again(kubectl: Kubectl) -> Object:
    """The store's own verdict, once it has one."""
    kubectl.delete("artifactstore", "default")
    kubectl.apply(store())
    return kubectl.settled("artifactstore", "default")


def test_a_missing_secret_is_named_and_waited_for(kubectl: Kubectl):
    kubectl.apply(store(), digits_training())
    found = kubectl.until("artifactstore", "default", lambda obj: reason(obj) == "SecretNotFound")
    assert condition(found, "Ready")["message"].startswith("spec.s3.secretRef of the ArtifactStore: ")
    job = kubectl.until("trainingjob", "digits", lambda obj: reason(obj) == "StoreNotReady")
    assert "spec.s3.secretRef" in condition(job, "Ready")["message"]


@pytest.mark.parametrize(
    ("key", "field"), [("wrong", "spec.s3.secretRef"), (KEYS["AWS_SECRET_ACCESS_KEY"], "spec.s3.bucket")]
)
def test_a_wrong_key_and_a_missing_bucket_are_named_by_the_store(kubectl: Kubectl, key: str, field: str):
    kubectl.apply(secret(AWS_SECRET_ACCESS_KEY=key))
    found = tried_again(kubectl)
    assert (found["status"]["phase"], reason(found)) == ("Failed", "StoreRefused")
    assert condition(found, "Stalled")["message"].startswith(f"{field} of the ArtifactStore: ")


def test_the_example_makes_the_same_artifacts_in_a_bucket_as_on_a_claim(kubectl: Kubectl, served: Chain):
    kubectl("exec", "deployment/s3", "--", "sh", "-c", CREATE_BUCKET)
    assert is_true(tried_again(kubectl), "Ready")
    kubectl.apply(digits_training(), digits_deployment())
    kubectl.settled("trainingjob", "digits")
    kubectl.settled("modeldeployment", "digits", timeout_seconds=420)
    assert chain_of(kubectl).digests == served.digests
