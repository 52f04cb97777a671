"""The chart's admission policy: who may make what the operator takes for its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from support.accounts import Account
from support.apiserver import ApiServer
from support.chart import NAMESPACE, of_kind, rendered

HERE, EDITOR = "admitted", Account("admitted", "editor")
OPERATOR, JOBS = Account(NAMESPACE, "slipway"), Account("kube-system", "job-controller")
OURS = {"app.kubernetes.io/managed-by": "slipway"}
POD = {"containers": [{"name": "main", "image": "x"}], "restartPolicy": "Never"}
RULES = {"podSelector": {}, "policyTypes": ["Egress"]}
PLURALS = {
    "Pod": "/api/v1/namespaces/{}/pods",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
}
STEPS = "/apis/slipway.dev/v1alpha1/namespaces/{}/steps"
STEP_SPEC = {
    "role": "evaluate-candidate",
    "task": {"task": "seal"},
    "digest": f"sha256:{'0' * 64}",
    "image": "x",
    "store": "default",
    "folder": "steps/0",
}


def made(kind: str, name: str, labels: dict[str, str], inside: dict[str, str] | None = None) -> dict[str, Any]:
    spec: Any = {"Pod": POD, "NetworkPolicy": RULES, "Step": STEP_SPEC}.get(kind)
    if spec is None:
        template = {"metadata": {"labels": {"a": "b", **(inside or {})}}, "spec": {**POD}}
        spec = {"template": template}
        if kind == "Deployment":
            template["spec"]["restartPolicy"] = "Always"
            spec["selector"] = {"matchLabels": {"a": "b"}}
    custom = {"apiVersion": "slipway.dev/v1alpha1", "kind": "Step"} if kind == "Step" else {}
    return {**custom, "metadata": {"name": name, "labels": labels}, "spec": spec}


@pytest.fixture(scope="module")
def server(apiserver: ApiServer) -> Iterator[ApiServer]:
    """With the policy of a release that serves one namespace, in force."""
    for namespace in (HERE, "elsewhere", NAMESPACE):
        apiserver.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    for account in (EDITOR, OPERATOR, JOBS):
        account.make_administrator(apiserver)
    objects = rendered({"admissionPolicy": {"enabled": True}, "namespaces": [HERE]})
    root, paths = "/apis/admissionregistration.k8s.io/v1", []
    for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"):
        path = f"{root}/{'validatingadmissionpolicies' if kind.endswith('Policy') else kind.lower() + 's'}"
        for obj in of_kind(objects, kind):
            apiserver.must("POST", path, obj, fieldValidation="Strict")
            paths.append(f"{path}/{obj['metadata']['name']}")
    due = time.monotonic() + 30
    for kind, labels in (("Pod", OURS), ("Step", {})):
        while tries(apiserver, EDITOR, kind, labels) != 403:  # it is compiled and in force some time after
            assert time.monotonic() < due
            time.sleep(0.2)
    yield apiserver
    for path in paths:
        apiserver.must("DELETE", path)


def tries(
    server: ApiServer,
    who: Account,
    kind: str,
    labels: dict[str, str],
    inside: dict[str, str] | None = None,
    where: str = HERE,
) -> int:
    path = {**PLURALS, "Step": STEPS}[kind].format(where)
    body = made(kind, "tried", labels, inside)
    return server.request("POST", path, body, as_user=who.user, dryRun="All")[0]


@pytest.mark.parametrize("kind", PLURALS)
def test_an_editor_makes_nothing_that_the_operator_takes_for_its_own(server: ApiServer, kind: str) -> None:
    assert tries(server, EDITOR, kind, OURS) == 403
    assert tries(server, EDITOR, kind, {"app.kubernetes.io/managed-by": "helm"}) == 201
    assert tries(server, EDITOR, kind, {}) == 201


@pytest.mark.parametrize("kind", ["Job", "Deployment"])
def test_an_editor_lets_no_controller_make_such_pods(server: ApiServer, kind: str) -> None:
    assert tries(server, EDITOR, kind, {}, inside=OURS) == 403


@pytest.mark.parametrize("kind", PLURALS)
def test_the_operator_and_the_controllers_do(server: ApiServer, kind: str) -> None:
    assert tries(server, OPERATOR, kind, OURS, inside=OURS) == 201
    assert tries(server, JOBS, kind, OURS, inside=OURS) == 201


def test_a_label_is_not_put_on_later_and_what_is_ours_is_not_opened(server: ApiServer) -> None:
    pods, policies = (PLURALS[kind].format(HERE) for kind in ("Pod", "NetworkPolicy"))
    server.request("POST", f"/api/v1/namespaces/{HERE}/serviceaccounts", {"metadata": {"name": "default"}})
    server.must("POST", pods, made("Pod", "plain", {}))
    patch = {"metadata": {"labels": OURS}}
    merge = {"content_type": "application/merge-patch+json", "as_user": EDITOR.user}
    assert server.request("PATCH", f"{pods}/plain", patch, **merge)[0] == 403
    assert server.request("POST", policies, made("NetworkPolicy", "ours", OURS), as_user=OPERATOR.user)[0] == 201
    opened = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "x"}}, "spec": {"egress": [{}]}}
    assert server.request("PATCH", f"{policies}/ours", opened, **merge)[0] == 403
    assert server.request("DELETE", f"{policies}/ours", as_user=EDITOR.user)[0] == 403
    assert server.request("DELETE", f"{policies}/ours", as_user=OPERATOR.user)[0] == 200


def test_nobody_but_the_operator_writes_steps(server: ApiServer) -> None:
    steps = STEPS.format(HERE)
    assert server.request("POST", steps, made("Step", "theirs", {}), as_user=EDITOR.user)[0] == 403
    assert server.request("POST", steps, made("Step", "ours", {}), as_user=OPERATOR.user)[0] == 201
    merge = {"content_type": "application/merge-patch+json", "as_user": EDITOR.user}
    done = {"status": {"phase": "Succeeded"}}
    for path, patch in (
        (f"{steps}/ours/status", done),
        (f"{steps}/ours", {"spec": {"runs": 2}}),
        (f"{steps}/ours", {"metadata": {"labels": {"slipway.dev/share": "x"}}}),
    ):
        code, answer = server.request("PATCH", path, patch, **merge)
        assert (code, "slipway.dev/retry on the owner" in answer["message"]) == (403, True)
    assert server.request("PATCH", f"{steps}/ours", {"metadata": {"annotations": {"a": "b"}}}, **merge)[0] == 200
    assert server.request("PATCH", f"{steps}/ours/status", done, **{**merge, "as_user": OPERATOR.user})[0] == 200
    assert server.request("DELETE", f"{steps}/ours", as_user=EDITOR.user)[0] == 200


def test_an_editor_makes_no_job_of_a_step(server: ApiServer) -> None:
    owned = made("Job", "owned", {})
    reference = {"apiVersion": "slipway.dev/v1alpha1", "kind": "Step", "name": "any", "uid": "u"}
    owned["metadata"]["ownerReferences"] = [reference]
    for who, code in ((EDITOR, 403), (OPERATOR, 201)):
        assert server.request("POST", PLURALS["Job"].format(HERE), owned, as_user=who.user, dryRun="All")[0] == code


def test_other_namespaces_are_none_of_its_business(server: ApiServer) -> None:
    assert tries(server, EDITOR, "NetworkPolicy", OURS, where="elsewhere") == 201
