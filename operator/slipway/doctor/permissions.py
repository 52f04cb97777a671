"""Checks of permissions: the user's by SelfSubjectAccessReview, the operator's by SubjectAccessReview."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from slipway.api.errors import Finding, Forbidden, pluralize
from slipway.api.kinds import DEPLOYMENT, GROUP
from slipway.cluster.port import gather_calls
from slipway.doctor.installation import OPERATOR, ClusterQueries, serves

_REVIEWS = "/apis/authorization.k8s.io/v1"


class Permission(NamedTuple):
    """A verb on a resource, which may be a subresource: `pods/log`."""

    verb: str
    group: str
    resource: str
    namespaced: bool = True

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}"


def _permissions(group: str, resources: str, verbs: str, *, namespaced: bool = True) -> list[Permission]:
    return [Permission(verb, group, resource, namespaced) for resource in resources.split() for verb in verbs.split()]


READS: Sequence[Permission] = (
    *_permissions(GROUP, "trainingjobs modeldeployments artifactstores steps", "get list watch"),
    *_permissions(GROUP, "gpupools compressionplugins", "get list", namespaced=False),
    *_permissions("", "pods persistentvolumeclaims", "list"),
    *_permissions("", "pods/log services", "get"),
)
"""The permissions that `status`, `logs`, `plan --live` and this command need."""
WRITES: Sequence[Permission] = (
    *_permissions(GROUP, "trainingjobs modeldeployments artifactstores", "create patch delete"),
    *_permissions("", "pods/portforward", "create"),
)
"""The permissions that `kubectl apply` of our kinds and `predict` need."""

OPERATES: Sequence[Permission] = (
    *_permissions(GROUP, "compressionplugins gpupools", "list watch", namespaced=False),
    *_permissions(GROUP, "trainingjobs modeldeployments artifactstores", "get list watch"),
    *_permissions(GROUP, "steps", "get list watch create patch delete"),
    *_permissions(GROUP, "trainingjobs/status modeldeployments/status artifactstores/status steps/status", "patch"),
    *_permissions("", "pods persistentvolumeclaims", "list watch"),
    *_permissions("batch", "jobs", "get list watch create delete"),
    *_permissions("apps", "controllerrevisions", "get list watch create delete"),
    *_permissions("", "services", "get list watch create patch delete"),
    *_permissions("apps", "deployments", "get list watch create patch delete"),
    *_permissions("networking.k8s.io", "networkpolicies", "get list watch create patch delete"),
    *_permissions("policy", "poddisruptionbudgets", "get list watch create patch"),
    *_permissions("events.k8s.io", "events", "create"),
)
"""The permissions that the chart grants the operator; a test compares the two."""


async def user_permissions(queries: ClusterQueries) -> list[Finding]:
    """Check the permissions of the user in the namespace."""

    async def ask(permission: Permission) -> bool:
        body = {
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": _attributes(permission, queries.namespace)},
        }
        return await _allowed(queries, "selfsubjectaccessreviews", body)

    reads, writes = await _refused(READS, ask), await _refused(WRITES, ask)
    edit = f"kubectl create rolebinding slipway --clusterrole=edit --user=YOU --namespace={queries.namespace}"
    if reads:
        return [Finding("your permissions", "fail", f"you may not {_few(reads)} in {queries.namespace}", edit)]
    if writes:
        return [
            Finding("your permissions", "warn", f"you may read, but not {_few(writes)} in {queries.namespace}", edit)
        ]
    return [Finding("your permissions", "ok", f"you have all permissions for Slipway in {queries.namespace}")]


async def operator_permissions(queries: ClusterQueries) -> list[Finding]:
    """Check the permissions of the operators that serve the namespace."""
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
    async def ask(permission: Permission) -> bool:
        spec = {"user": user, "resourceAttributes": _attributes(permission, queries.namespace)}
        return await _allowed(queries, "subjectaccessreviews", {"kind": "SubjectAccessReview", "spec": spec})

    try:
        refused = await _refused(OPERATES, ask)
    except Forbidden:
        what = f"permissions of {user} cannot be checked: you may not create SubjectAccessReviews"
        return Finding("operator permissions", "warn", what, "ask an administrator of the cluster to run this")
    if refused:
        cure = "upgrade the chart with its roles; with `rbac.create: false`, apply the roles that it prints"
        return Finding("operator permissions", "fail", f"{user} may not {_few(refused)} in {queries.namespace}", cure)
    return Finding("operator permissions", "ok", f"{user} has all permissions it needs in {queries.namespace}")


async def _allowed(queries: ClusterQueries, resource: str, body: dict[str, Any]) -> bool:
    answer = await queries.post(f"{_REVIEWS}/{resource}", {"apiVersion": "authorization.k8s.io/v1", **body})
    return bool(answer.get("status", {}).get("allowed"))


async def _refused(permissions: Iterable[Permission], ask: Any) -> list[Permission]:
    wanted = list(permissions)
    answers = await gather_calls(ask(permission) for permission in wanted)
    return [permission for permission, allowed in zip(wanted, answers, strict=True) if not allowed]


def _attributes(permission: Permission, namespace: str) -> dict[str, str]:
    resource, _, subresource = permission.resource.partition("/")
    found = {"verb": permission.verb, "group": permission.group, "resource": resource}
    found |= {"namespace": namespace} if permission.namespaced else {}
    return {**found, "subresource": subresource} if subresource else found


def _few(permissions: Sequence[Permission]) -> str:
    more = f" and {pluralize(len(permissions) - 3, 'other permission')}" if len(permissions) > 3 else ""
    return ", ".join(str(permission) for permission in permissions[:3]) + more
