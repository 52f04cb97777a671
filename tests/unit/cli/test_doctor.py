"""`slipway doctor`: a healthy cluster is well; each illness is named, with its cure."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from typer.testing import Result

from slipway.api.crds import RESOURCES, crd
from slipway.api.kinds import ARTIFACT_STORE, DEPLOYMENT, POD, Object
from slipway.local.admission import describe_installed_plugins
from support.builders import (
    DIGEST,
    HELD_OUT,
    T0,
    claim,
    model_deployment,
    pool,
    resource,
    store,
    training_job,
    wire_time,
)
from support.kubehttp import KubeHttp

Slipway = Callable[..., Result]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/slipway-system/leases/slipway-operator"
MINE = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
THEIRS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices"


@dataclass
class Patient:
    """A cluster in which all is well; a test changes what it is about. refused: rights as `verb resource`."""

    objects: dict[str, Object] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.objects |= {"operator": operator(), "store": store(), "claim": claim(), "pool": pool()}
        self.objects |= describe_installed_plugins()[0]
        self.answers |= {f"{CRDS}/{one.crd_name}": crd(one) for one in RESOURCES}
        self.answers |= {
            LEASE: lease(timedelta(seconds=2)),
            MINE: self._review,
            THEIRS: self._review,
            SLICES: {"items": [{"endpoints": [{"conditions": {"ready": True}}]}]},
            "/api/v1/nodes": {"items": [node("h100", 8)]},
        }

    def _review(self, body: Object) -> Object:
        asked = body["spec"]["resourceAttributes"]
        resource = "/".join(asked[part] for part in ("resource", "subresource") if part in asked)
        return {"status": {"allowed": f"{asked['verb']} {resource}" not in self.refused}}

    def server(self) -> KubeHttp:
        return KubeHttp([list(self.objects.values())], answers=self.answers)


def operator(*args: str, ready: int = 1, runtime: str = f"r@{DIGEST}") -> Object:
    labels = {"app.kubernetes.io/part-of": "slipway"}
    images = [
        {"name": "SLIPWAY_RUNTIME_IMAGE", "value": runtime},
        {"name": "SLIPWAY_SERVING_IMAGE", "value": f"s@{DIGEST}"},
    ]
    pod = {"serviceAccountName": "slipway", "containers": [{"name": "operator", "args": list(args), "env": images}]}
    made = resource(DEPLOYMENT, "slipway", status={"readyReplicas": ready}, replicas=1, template={"spec": pod})
    made["metadata"] |= {"namespace": "slipway-system", "labels": labels}
    return made


def lease(age: timedelta) -> Object:
    renewed = (datetime.now(UTC) - age).isoformat()  # noqa: TID251 - leaders renew by the clock of the world
    return {"spec": {"holderIdentity": "slipway-1", "renewTime": renewed, "leaseDurationSeconds": 15}}


def node(accelerator: str, devices: int) -> Object:
    status = {"allocatable": {"nvidia.com/gpu": str(devices)}}
    return {"metadata": {"name": "node", "labels": {"accelerator": accelerator}}, "status": status}


@pytest.fixture
def patient() -> Patient:
    return Patient()


def examined(slipway: Slipway, patient: Patient, code: int) -> list[tuple[str, str, str]]:
    """Check, result, and what is said with the cure."""
    result = slipway(patient.server(), "doctor", "-o", "json")
    assert result.exit_code == code, result.output
    found = json.loads(result.stdout)
    assert all(one["cure"] for one in found if one["level"] != "ok")
    return [(one["check"], one["level"], f"{one['what']}; {one['cure']}") for one in found]


def test_a_healthy_cluster_is_well_in_every_respect(slipway: Slipway, patient: Patient) -> None:
    found = examined(slipway, patient, 0)
    assert {level for _, level, _ in found} == {"ok"}
    checks = {check for check, _, _ in found}
    assert checks == {
        "CRDs", "operator", "leader", "your permissions", "operator permissions", "DNS",
        "pools", "stores", "images", "plugins",
    }  # fmt: skip


def test_a_store_in_its_right_use_is_well_and_what_is_ready_needs_none(slipway: Slipway, patient: Patient) -> None:
    apart = store("held-out")
    patient.objects["held-out"] = {**apart, "spec": {**apart["spec"], "heldOut": True}}
    patient.objects["deployment"] = evaluated_in("held-out")
    patient.objects["done"] = training_job("done", store="gone", status={"conditions": [ready()]})
    assert {level for _, level, _ in examined(slipway, patient, 0)} == {"ok"}


def ready() -> Object:
    return {"type": "Ready", "status": "True", "reason": "Succeeded", "lastTransitionTime": wire_time(T0)}


def test_people_read_a_table(slipway: Slipway, patient: Patient) -> None:
    lines = slipway(patient.server(), "doctor").stdout.splitlines()
    assert lines[0].split() == ["CHECK", "RESULT", "WHAT"]
    assert ["pools", "ok", "h100:", "1", "node", "with", "8", "nvidia.com/gpu"] in [line.split() for line in lines]


def without_crd(patient: Patient) -> None:
    del patient.answers[f"{CRDS}/gpupools.slipway.dev"]


def older_crd(patient: Patient) -> None:
    old = copy.deepcopy(patient.answers[f"{CRDS}/gpupools.slipway.dev"])
    del old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["tolerations"]
    patient.answers[f"{CRDS}/gpupools.slipway.dev"] = old


def newer_crd(patient: Patient) -> None:
    new = copy.deepcopy(patient.answers[f"{CRDS}/gpupools.slipway.dev"])
    fields = new["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    fields["cost"] = {"type": "number"}
    patient.answers[f"{CRDS}/gpupools.slipway.dev"] = new


def set_object(name: str, obj: Object | None) -> Callable[[Patient], None]:
    def change(patient: Patient) -> None:
        if obj is None:
            del patient.objects[name]
        else:
            patient.objects[name] = obj

    return change


def answer(path: str, body: Any) -> Callable[[Patient], None]:
    return lambda patient: patient.answers.update({path: body})


def refuse(*rights: str) -> Callable[[Patient], None]:
    return lambda patient: patient.refused.update(rights)


def stuck_pod() -> Object:
    waiting = {"name": "main", "image": "r:2", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    made = resource(POD, "digits-1-0", status={"containerStatuses": [waiting]})
    made["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "slipway"}
    return made


def bucket(condition: str) -> Object:
    said = {"reason": "StoreRefused", "message": "no such key", "lastTransitionTime": wire_time(T0)}
    status = {"conditions": [{"type": condition, "status": "True", **said}]}
    return resource(ARTIFACT_STORE, "default", status=status, s3={"bucket": "models", "secretRef": {"name": "keys"}})


def evaluated_in(store: str) -> Object:
    """A ModelDeployment whose evaluation data lies in that store."""
    return model_deployment(evaluation={**HELD_OUT, "store": store})


def other_version() -> Object:
    body = copy.deepcopy(describe_installed_plugins()[0]["quantize-int8"])
    body["spec"]["version"] = "0.9"
    return body


ILL = {
    "a CRD is missing": (without_crd, "CRDs", "fail", "GPUPool of slipway.dev/v1alpha1 are not installed"),
    "a CRD is old": (older_crd, "CRDs", "fail", "GPUPool is older than this command: it lacks spec.tolerations"),
    "a CRD is new": (newer_crd, "CRDs", "warn", "GPUPool is newer than this command: it also has spec.cost"),
    "no operator": (set_object("operator", None), "operator", "fail", "no Deployment of the chart"),
    "no pod of the operator is ready": (
        set_object("operator", operator(ready=0)), "operator", "fail", "slipway: none of 1 pods is ready",
    ),
    "it serves other namespaces": (
        set_object("operator", operator("--namespace=a", "--namespace=b")), "operator", "fail",
        "it serves a, b, not team; add team to `namespaces` of the chart's values",
    ),
    "nobody leads": (answer(LEASE, {"spec": {}}), "leader", "fail", "nobody holds Lease slipway-system/"),
    "the leader is dead": (answer(LEASE, lease(timedelta(minutes=5))), "leader", "fail", "has not renewed Lease"),
    "the user may not read": (refuse("get pods/log"), "your permissions", "fail", "you may not get pods/log in"),
    "the user may only read": (
        refuse("patch trainingjobs"), "your permissions", "warn",
        "you may read, but not patch trainingjobs.slipway.dev",
    ),
    "the operator may not write": (
        refuse("create jobs"), "operator permissions", "fail",
        "system:serviceaccount:slipway-system:slipway may not create jobs.batch in team; upgrade the chart",
    ),
    "no DNS": (answer(SLICES, {"items": [{"endpoints": []}]}), "DNS", "fail", "kube-dns has no endpoint that is ready"),
    "no Service kube-dns": (answer(SLICES, {"items": []}), "DNS", "warn", "no Service kube-dns"),
    "no node of the pool": (
        answer("/api/v1/nodes", {"items": [node("a100", 8)]}), "pools", "fail", "no node has accelerator=h100; label",
    ),
    "no devices on its nodes": (
        answer("/api/v1/nodes", {"items": [node("h100", 0)]}), "pools", "fail", "install the device plugin",
    ),
    "no store": (set_object("store", None), "stores", "fail", "namespace team has no ArtifactStore"),
    "no claim": (set_object("claim", None), "stores", "fail", "default: PersistentVolumeClaim artifacts does not"),
    "a store that is named and not there": (
        set_object("deployment", model_deployment(store="other")), "stores", "fail",
        'ModelDeployment digits: spec.store: ArtifactStore "other" does not exist; create it',
    ),
    "a store for evaluation data that is not there": (
        set_object("deployment", evaluated_in("held-out")), "stores", "fail",
        'ModelDeployment digits: spec.evaluation.store: ArtifactStore "held-out" does not exist; create it',
    ),
    "a store for evaluation data that is open to all pods": (
        set_object("deployment", evaluated_in("default")), "stores", "fail",
        'spec.evaluation.store: ArtifactStore "default" is open to all pods; name a store with spec.heldOut: true',
    ),
    "a claim for one node": (set_object("claim", claim(modes=("ReadWriteOnce",))), "stores", "fail", "ReadWriteOnce"),
    "a claim that is not bound": (
        set_object("claim", {**claim(), "status": {"phase": "Pending"}}), "stores", "warn", "is Pending, not Bound",
    ),
    "a bucket that refuses": (
        set_object("store", bucket("Stalled")), "stores", "fail", "bucket models: StoreRefused: no such key; fix",
    ),
    "a bucket that is away": (set_object("store", bucket("Reconciling")), "stores", "warn", "StoreRefused"),
    "an image that nobody can pull": (set_object("pod", stuck_pod()), "images", "fail", "r:2 (ImagePullBackOff)"),
    "an image by its tag alone": (
        set_object("operator", operator(runtime="r:1")), "images", "warn", "r:1: named by a tag",
    ),
    "another version of a plugin": (
        set_object("quantize-int8", other_version()), "plugins", "warn", "quantize-int8 is 0.9 in the cluster and 1.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "check", "level", "said"), ILL.values(), ids=ILL)
def test_each_illness_is_named_with_its_cure(
    slipway: Slipway, patient: Patient, change: Callable[[Patient], None], check: str, level: str, said: str
) -> None:
    change(patient)
    found = examined(slipway, patient, 1 if level == "fail" else 0)
    (told,) = [line for line in found if line[1] != "ok"]
    assert told[:2] == (check, level)
    assert said in told[2]


def test_without_our_kinds_nothing_else_is_asked_for(slipway: Slipway) -> None:
    result = slipway(KubeHttp([[]]), "doctor")
    assert result.exit_code == 1
    assert "are not installed; helm upgrade --install" in result.stdout
    assert len(result.stdout.splitlines()) == 2


def beside(namespace: str, *args: str) -> Callable[[Patient], None]:
    """A second release, in another namespace."""
    second = operator(*args)
    second["metadata"] |= {"namespace": namespace}
    return set_object("second operator", second)


def test_a_release_that_serves_other_namespaces_is_no_illness(slipway: Slipway, patient: Patient) -> None:
    beside("south", "--namespace=other")(patient)
    assert {level for _, level, _ in examined(slipway, patient, 0)} == {"ok"}


def test_two_releases_that_serve_one_namespace_are_named(slipway: Slipway, patient: Patient) -> None:
    beside("south", "--namespace=team", "--no-leader-election")(patient)
    (told,) = [line for line in examined(slipway, patient, 1) if line[1] != "ok"]
    assert told[2].startswith("slipway-system/slipway and south/slipway serve team at once; uninstall one")


def test_releases_that_do_not_serve_the_namespace_are_one_illness(slipway: Slipway, patient: Patient) -> None:
    set_object("operator", operator("--namespace=a"))(patient)
    beside("south", "--namespace=b")(patient)
    (told,) = [line for line in examined(slipway, patient, 1) if line[1] != "ok"]
    assert told[2].startswith("none of 2 operators serves team, but a, b; add team to `namespaces`")


def test_without_an_operator_no_pod_is_started_and_the_other_findings_are_shown(
    slipway: Slipway, patient: Patient
) -> None:
    set_object("operator", None)(patient)
    result = slipway(patient.server(), "doctor", "--deep", "-o", "json")
    assert (result.exit_code, result.stderr) == (1, "")
    failed = [(one["check"], one["what"]) for one in json.loads(result.stdout) if one["level"] == "fail"]
    assert [check for check, _ in failed] == ["operator", "a pod"]
    assert failed[1][1].startswith("no pod was started: the operator's Deployment, which defines the runtime image,")
