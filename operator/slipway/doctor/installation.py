"""Checks of the installation (kinds, operator and plugins exist and have one version), and the queries they make."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from slipway.api.crds import RESOURCES, Resource, root_schema
from slipway.api.errors import Finding, Forbidden, NotFound
from slipway.api.kinds import API_VERSION, COMPRESSION_PLUGIN, DEPLOYMENT, GROUP, VERSION, Kind, Object
from slipway.api.schema import Schema, walk
from slipway.cluster.connection import Connection
from slipway.cluster.port import Cluster
from slipway.plan.plan import Settings

OPERATOR = {"app.kubernetes.io/part-of": "slipway"}
"""Labels of the operator's Deployment, set by the chart."""
_IMAGES = ("SLIPWAY_RUNTIME_IMAGE", "SLIPWAY_SERVING_IMAGE")
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_INSTALL = "helm upgrade --install slipway helm/slipway --namespace slipway-system --create-namespace"
_APPLY = "apply the folder crds/ of this version: helm upgrades, and does not take away, what is there"


async def crds(queries: ClusterQueries) -> list[Finding]:
    """Check that the CRDs are served, with the fields that this command knows."""
    try:
        found = {one.crd_name: await queries.get(f"{_CRDS}/{one.crd_name}") for one in RESOURCES}
    except Forbidden:
        return [await _served(queries)]
    missing = [one.kind.kind for one in RESOURCES if found[one.crd_name] is None]
    if missing:
        return [Finding("CRDs", "fail", f"{', '.join(missing)} of {API_VERSION} are not installed", _INSTALL)]
    wrong = [line for one in RESOURCES for line in _compared(one, found[one.crd_name] or {})]
    return wrong or [Finding("CRDs", "ok", f"{len(RESOURCES)} kinds of {API_VERSION}, with the fields of this version")]


async def _served(queries: ClusterQueries) -> Finding:
    answer = await queries.get(f"/apis/{GROUP}/{VERSION}") or {}
    plurals = {one["name"] for one in answer.get("resources", ())}
    missing = [one.kind.kind for one in RESOURCES if one.kind.plural not in plurals]
    if missing:
        return Finding("CRDs", "fail", f"{', '.join(missing)} of {API_VERSION} are not served", _INSTALL)
    return Finding("CRDs", "ok", f"{API_VERSION} is served; fields were not compared: you may not read CRDs")


def _compared(resource: Resource, crd: Object) -> Iterator[Finding]:
    kind = resource.kind.kind
    versions = {one["name"]: one for one in crd["spec"]["versions"]}
    if VERSION not in versions:
        yield Finding("CRDs", "fail", f"{kind} is served as {', '.join(versions)}, not {VERSION}", _APPLY)
        return
    theirs = _fields(versions[VERSION]["schema"]["openAPIV3Schema"])
    ours = _fields(root_schema(resource))
    if lacks := sorted(ours - theirs):
        yield Finding("CRDs", "fail", f"{kind} is older than this command: it lacks {_few(lacks)}", _APPLY)
    if more := sorted(theirs - ours):
        what = f"{kind} is newer than this command: it also has {_few(more)}"
        yield Finding("CRDs", "warn", what, "upgrade the command line: pip install --upgrade slipway-operator")


def _fields(schema: Schema) -> set[str]:
    return {node.path for node in walk(schema) if node.path and not node.path.endswith(("[]", "{}"))}


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


async def operator(queries: ClusterQueries) -> list[Finding]:
    """Check that the operator's pods run, one of them leads, and it serves this namespace."""
    try:
        found = await queries.list(DEPLOYMENT, all_namespaces=True, labels=OPERATOR)
    except Forbidden:
        what = "the operator cannot be checked: you may not list Deployments of all namespaces"
        return [Finding("operator", "warn", what, "ask an administrator of the cluster to run this")]
    if not found:
        return [Finding("operator", "fail", "the cluster has no Deployment of the chart", _INSTALL)]
    serving = [one for one in found if serves(one, queries.namespace)]
    if not serving:
        served = sorted({name for one in found for name in arguments_of(one, "--namespace")})
        cure = f"add {queries.namespace} to `namespaces` of the chart's values, or use one of those"
        what = f"it serves {', '.join(served)}, not {queries.namespace}"
        if len(found) > 1:
            what = f"none of {len(found)} operators serves {queries.namespace}, but {', '.join(served)}"
        return [Finding("operator", "fail", what, cure)]
    lines = [line for one in serving for line in await _operator(queries, one)]
    if len(serving) > 1:
        several = " and ".join(sorted(map(_name, serving)))
        cure = "uninstall one of these releases, or set `namespaces` in each so that no two have one in common"
        lines.append(Finding("operator", "fail", f"{several} serve {queries.namespace} at once", cure))
    return lines


def _name(deployment: Object) -> str:
    return f"{deployment['metadata']['namespace']}/{deployment['metadata']['name']}"


async def _operator(queries: ClusterQueries, deployment: Object) -> list[Finding]:
    meta, name = deployment["metadata"], _name(deployment)
    ready = int(deployment.get("status", {}).get("readyReplicas", 0))
    wanted = int(deployment["spec"].get("replicas", 1))
    see = f"kubectl -n {meta['namespace']} describe pods -l app.kubernetes.io/part-of=slipway"
    if ready == 0:
        return [Finding("operator", "fail", f"{name}: none of {wanted} pods is ready", see)]
    found = [Finding("operator", "ok", f"{name}: {ready} of {wanted} pods are ready")]
    if ready < wanted:
        found = [Finding("operator", "warn", f"{name}: {ready} of {wanted} pods are ready", see)]
    if not arguments_of(deployment, "--no-leader-election"):
        (lease,) = arguments_of(deployment, "--lease-name")[-1:] or ["slipway-operator"]
        found.append(await _leads(queries, meta["namespace"], lease))
    found += _version(meta.get("labels") or {})
    return found


async def _leads(queries: ClusterQueries, namespace: str, name: str) -> Finding:
    try:
        lease = await queries.get(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}")
    except Forbidden:
        return Finding("leader", "warn", f"Lease {namespace}/{name} cannot be read", "ask a user with this permission")
    spec = (lease or {}).get("spec", {})
    see = f"kubectl -n {namespace} logs -l app.kubernetes.io/part-of=slipway"
    if not spec.get("holderIdentity") or not spec.get("renewTime"):
        return Finding("leader", "fail", f"nobody holds Lease {namespace}/{name}", see)
    age = datetime.now(UTC) - datetime.fromisoformat(spec["renewTime"])
    # The leader renews well before the Lease expires; clocks of two machines differ by seconds.
    if age > timedelta(seconds=2 * int(spec.get("leaseDurationSeconds", 15))):
        what = f"{spec['holderIdentity']} has not renewed Lease {namespace}/{name} for {int(age.total_seconds())} s"
        return Finding("leader", "fail", what, see)
    return Finding("leader", "ok", f"{spec['holderIdentity']} leads")


def _version(labels: Mapping[str, str]) -> list[Finding]:
    from importlib.metadata import version

    theirs, ours = labels.get("app.kubernetes.io/version"), version("slipway-operator")
    if theirs is None or theirs == ours:
        return []
    return [
        Finding(
            "operator",
            "warn",
            f"the operator has version {theirs}, and this command {ours}",
            "use the same version of both",
        )
    ]


async def plugins(queries: ClusterQueries) -> list[Finding]:
    """Compare the plugins of the cluster with those that are installed here."""
    from importlib.metadata import entry_points

    from slipway.sdk.plugin import GROUP as POINTS
    from slipway.sdk.plugin import load_plugins

    present = await queries.list(COMPRESSION_PLUGIN)
    if not present:
        cure = "set `defaults.compressionPlugins` of the chart, or: slipway plugin manifest --all | kubectl apply -f -"
        return [
            Finding("plugins", "fail", "the cluster has no CompressionPlugin, so models cannot be compressed", cure)
        ]
    here, broken = load_plugins(list(entry_points(group=POINTS)))
    found = [
        Finding("plugins", "warn", f"{one.name} cannot be loaded here: {one.error}", "fix or uninstall it")
        for one in broken
    ]
    for obj in present:
        name, theirs = obj["metadata"]["name"], obj["spec"].get("version")
        ours = here[name].version if name in here else None
        if ours is not None and ours != theirs:
            cure = f"slipway plugin manifest {name} | kubectl apply -f -, if the image has {ours}"
            found.append(Finding("plugins", "warn", f"{name} is {theirs} in the cluster and {ours} here", cure))
    names = ", ".join(f"{obj['metadata']['name']} {obj['spec'].get('version')}" for obj in present)
    return found or [Finding("plugins", "ok", names)]


# --- The operator's Deployment -----------------------------------------------------------------------------------


def serves(deployment: Object, namespace: str) -> bool:
    """Return whether the operator of this Deployment of the chart serves the namespace."""
    served = arguments_of(deployment, "--namespace")
    return not served or namespace in served


def arguments_of(deployment: Object, option: str) -> list[str]:
    """Return the values of an option of the operator's command line (`--option=VALUE`); an empty text for a flag."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    words = [str(word).partition("=") for container in containers for word in container.get("args") or ()]
    return [value for name, _, value in words if name == option]


async def operator_settings(cluster: Cluster, namespaces: Collection[str]) -> Settings | None:
    """Return the settings of the operator that serves these namespaces; None if none can be read."""
    try:
        found = await cluster.list(DEPLOYMENT, None, OPERATOR)
    except Forbidden:
        return None
    # Several releases may be in the cluster, each with images of its own.
    found = [one for one in found if any(serves(one, namespace) for namespace in namespaces)] or found
    for deployment in found:
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            env = {one["name"]: one.get("value") for one in container.get("env", ())}
            if all(env.get(name) for name in _IMAGES):
                policy = env.get("SLIPWAY_IMAGE_PULL_POLICY") or "IfNotPresent"
                mirrors = (env.get("SLIPWAY_IMAGE_MIRRORS") or "").split()
                return Settings(env[_IMAGES[0]], env[_IMAGES[1]], policy, tuple(mirrors))
    return None


@dataclass(frozen=True, slots=True)
class ClusterQueries:
    """Queries of the checks to one cluster. namespace: the one to check."""

    cluster: Cluster
    connection: Connection
    namespace: str

    async def get(self, path: str, **query: str) -> Object | None:
        """Return None for an object that does not exist. Raises Forbidden and other ClusterErrors."""
        try:
            return dict(await self.connection.call(f"get {path}", "GET", path, query=query))
        except NotFound:
            return None

    async def items(self, path: str, **query: str) -> Sequence[Object]:
        return (await self.get(path, **query) or {}).get("items") or ()

    async def list(
        self, kind: Kind, *, all_namespaces: bool = False, labels: dict[str, str] | None = None
    ) -> list[Object]:
        namespace = self.namespace if kind.namespaced and not all_namespaces else None
        return list(await self.cluster.list(kind, namespace, labels))

    async def post(self, path: str, body: Any) -> Object:
        return dict(await self.connection.call(f"post {path}", "POST", path, body=body))
