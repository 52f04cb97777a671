"""Checks of permissions: the user's by SelfSubjectAccessReview, the operator's by SubjectAccessReview."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from slipway.api.errors import Finding, Forbidden, pluralize
from slipway.api.kinds import DEPLOYMENT, GROUP
from slipway.cluster.port import gather_calls
from slipway.doctor.installation import OPERATOR, ClusterQueries, serves

_REVIEWS = "/apis/authorization.k8s.io/v1"


class Right(NamedTuple):
    """resource may name a subresource: `pods/log`."""

    verb: str
    group: str
    resource: str
    namespaced: bool = True

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}"


def _rights(group: str, resources: str, verbs: str, *, namespaced: bool = True) -> list[Right]:
    return [Right(verb, group, resource, namespaced) for resource in resources.split() for verb in verbs.split()]


READS: Sequence[Right] = (
    *_rights(GROUP, "trainingjobs modeldeployments artifactstores steps", "get list watch"),
    *_rights(GROUP, "gpupools compressionplugins", "get list", namespaced=False),
    *_rights("", "pods persistentvolumeclaims", "list"),
    *_rights("", "pods/log services", "get"),
)
"""The rights that `status`, `logs`, `plan --live` and this command need."""
WRITES: Sequence[Right] = (
    *_rights(GROUP, "trainingjobs modeldeployments artifactstores", "create patch delete"),
    *_rights("", "pods/portforward", "create"),
)
"""The rights that `kubectl apply` of our kinds and `predict` need."""

OPERATES: Sequence[Right] = (
    *_rights(GROUP, "compressionplugins gpupools", "list watch", namespaced=False),
    *_rights(GROUP, "trainingjobs modeldeployments artifactstores", "get list watch"),
    *_rights(GROUP, "steps", "get list watch create patch delete"),
    *_rights(GROUP, "trainingjobs/status modeldeployments/status artifactstores/status steps/status", "patch"),
    *_rights("", "pods persistentvolumeclaims", "list watch"),
    *_rights("batch", "jobs", "get list watch create delete"),
    *_rights("apps", "controllerrevisions", "get list watch create delete"),
    *_rights("", "services", "get list watch create patch delete"),
    *_rights("apps", "deployments", "get list watch create patch delete"),
    *_rights("networking.k8s.io", "networkpolicies", "get list watch create patch delete"),
    *_rights("policy", "poddisruptionbudgets", "get list watch create patch"),
    *_rights("events.k8s.io", "events", "create"),
)
"""The rights that the chart grants the operator; a test compares the two."""


async def user_permissions(queries: ClusterQueries) -> list[Finding]:
    async def ask(right: Right) -> bool:
        body = {
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": _attributes(right, queries.namespace)},
        }
        return await _allowed(queries, "selfsubjectaccessreviews", body)

    reads, writes = await _refused(READS, ask), await _refused(WRITES, ask)
    edit = f"kubectl create rolebinding slipway --clusterrole=edit --user=YOU --namespace={queries.namespace}"
    if reads:
        return [Finding("your rights", "fail", f"you may not {_few(reads)} in {queries.namespace}", edit)]
    if writes:
        return [Finding("your rights", "warn", f"you may only read: not {_few(writes)} in {queries.namespace}", edit)]
    return [Finding("your rights", "ok", f"you may read and write what is needed in {queries.namespace}")]


async def operator_permissions(queries: ClusterQueries) -> list[Finding]:
    try:
        found = await queries.list(DEPLOYMENT, all_namespaces=True, labels=OPERATOR)
    except Forbidden:
        return []  # the check of the operator reports it
    findings = []
    for deployment in [one for one in found if serves(one, queries.namespace)]:
        namespace = deployment["metadata"]["namespace"]
        account = deployment["spec"]["template"]["spec"].get("serviceAccountName", "default")
        findings.append(await _account_finding(queries, f"system:serviceaccount:{namespace}:{account}"))
    return findings


async def _account_finding(queries: ClusterQueries, user: str) -> Finding:
    async def ask(right: Right) -> bool:
        spec = {"user": user, "resourceAttributes": _attributes(right, queries.namespace)}
        return await _allowed(queries, "subjectaccessreviews", {"kind": "SubjectAccessReview", "spec": spec})

    try:
        refused = await _refused(OPERATES, ask)
    except Forbidden:
        what = f"those of {user} cannot be asked for: you may not create SubjectAccessReviews"
        return Finding("operator's rights", "warn", what, "ask an administrator of the cluster to run this")
    if refused:
        cure = "upgrade the chart with its roles, or apply those that it prints where `rbac.create` is false"
        return Finding("operator's rights", "fail", f"{user} may not {_few(refused)} in {queries.namespace}", cure)
    return Finding("operator's rights", "ok", f"{user} may do what it must in {queries.namespace}")


async def _allowed(queries: ClusterQueries, resource: str, body: dict[str, Any]) -> bool:
    answer = await queries.post(f"{_REVIEWS}/{resource}", {"apiVersion": "authorization.k8s.io/v1", **body})
    return bool(answer.get("status", {}).get("allowed"))


async def _refused(rights: Iterable[Right], ask: Any) -> list[Right]:
    wanted = list(rights)
    answers = await gather_calls(ask(right) for right in wanted)
    return [right for right, allowed in zip(wanted, answers, strict=True) if not allowed]


def _attributes(right: Right, namespace: str) -> dict[str, str]:
    resource, _, subresource = right.resource.partition("/")
    found = {"verb": right.verb, "group": right.group, "resource": resource}
    found |= {"namespace": namespace} if right.namespaced else {}
    return {**found, "subresource": subresource} if subresource else found


def _few(rights: Sequence[Right]) -> str:
    more = f" and {pluralize(len(rights) - 3, 'other right')}" if len(rights) > 3 else ""
    return ", ".join(str(right) for right in rights[:3]) + more
