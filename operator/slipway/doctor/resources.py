"""Checks of what jobs and models need: stores, pools of nodes, DNS, images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slipway.api.errors import Finding, Forbidden, SpecError, pluralize
from slipway.api.kinds import ARTIFACT_STORE, GPU_POOL, MODEL_DEPLOYMENT, POD, PVC, TRAINING_JOB, Object
from slipway.api.scheduling import GPUPool
from slipway.cluster.port import gather_calls
from slipway.doctor.installation import ClusterQueries, operator_settings
from slipway.plan.observation import ClusterView, Snapshot
from slipway.plan.references import NotYet, known_store
from slipway.plan.store import SHARED_MODE
from slipway.preview.plan_preview import expected_state
from slipway.reconcile.references import MANAGED, stores_of

_WAITS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})


async def stores(queries: ClusterQueries) -> list[Finding]:
    """Check each ArtifactStore of the namespace: its claim exists, is bound and shared; its bucket has answered.

    Resources that name a missing store, or one for another use, are reported as well.
    """
    kinds = (ARTIFACT_STORE, PVC, TRAINING_JOB, MODEL_DEPLOYMENT)
    found, claims, jobs, deployments = await gather_calls(tuple(queries.list(kind) for kind in kinds))
    if not found:
        what = f"namespace {queries.namespace} has no ArtifactStore"
        cure = "create one named default: see examples/digits/store.yaml; or set `defaultStore` of the chart's values"
        return [Finding("stores", "fail", what, cure)]
    by_name = {claim["metadata"]["name"]: claim for claim in claims}
    view = Snapshot(found)
    misnamed = [finding for user in (*jobs, *deployments) for finding in _misnamed(user, view)]
    return [_bucket(store) if "s3" in store["spec"] else _store(store, by_name) for store in found] + misnamed


def _misnamed(user: Object, view: ClusterView) -> Iterator[Finding]:
    """Report stores that a resource names, but that do not exist or have another use."""
    if expected_state(user).state == "ready":
        return
    for use, name in stores_of(user):
        what = f"{user['kind']} {user['metadata']['name']}: {use.field}"
        try:
            known_store(view, user["metadata"]["namespace"], name, use)
        except NotYet:
            yield Finding(
                "stores", "fail", f'{what}: ArtifactStore "{name}" does not exist', "create it, or name another one"
            )
        except SpecError as error:
            yield Finding("stores", "fail", f"{what}: {error.problem}", error.cure)


def _bucket(store: Object) -> Finding:
    """Report the result of the operator's own check of a bucket."""
    name, bucket = store["metadata"]["name"], store["spec"]["s3"]["bucket"]
    verdict = expected_state(store)
    if verdict.good:
        return Finding("stores", "ok", f"{name}: {verdict.message or f'bucket {bucket} has answered'}")
    what = f"{name}: bucket {bucket}: {verdict.reason}: {verdict.message}"
    cure = "fix what it names: the Secret, the bucket, its policy, or the endpoint; the operator checks it again"
    return Finding("stores", "fail" if verdict.state == "stalled" else "warn", what, cure)


def _store(store: Object, claims: Mapping[str, Object]) -> Finding:
    name, wanted = store["metadata"]["name"], store["spec"]["persistentVolumeClaim"]["claimName"]
    claim = claims.get(wanted)
    if claim is None:
        cure = f"create the claim, with accessModes [{SHARED_MODE}]"
        return Finding("stores", "fail", f"{name}: PersistentVolumeClaim {wanted} does not exist", cure)
    modes = claim["spec"].get("accessModes", ())
    if SHARED_MODE not in modes:
        what = f"{name}: claim {wanted} has {', '.join(modes)}, and pods of several nodes share a store"
        return Finding("stores", "fail", what, f"name a claim with {SHARED_MODE} in a new ArtifactStore")
    phase = claim.get("status", {}).get("phase", "Pending")
    if phase != "Bound":
        see = f"kubectl describe pvc {wanted}; no class may offer {SHARED_MODE}, or it binds when the first pod comes"
        return Finding("stores", "warn", f"{name}: claim {wanted} is {phase}, not Bound", see)
    return Finding("stores", "ok", f"{name}: claim {wanted} is bound and can be shared; --deep writes to it")


async def pools(queries: ClusterQueries) -> list[Finding]:
    """Check that each GPUPool has nodes, and that these have its devices."""
    found = await queries.list(GPU_POOL)
    if not found:
        return [Finding("pools", "ok", "the cluster has no GPUPool: everything runs on processors, on any nodes")]
    try:
        nodes = await queries.items("/api/v1/nodes")
    except Forbidden:
        what = f"{pluralize(len(found), 'GPUPool')} cannot be compared with the nodes: you may not list nodes"
        return [Finding("pools", "warn", what, "ask an administrator of the cluster to run this")]
    return [_pool(pool, nodes) for pool in found]


def _pool(obj: Object, nodes: Any) -> Finding:
    name, spec = obj["metadata"]["name"], GPUPool.model_validate(obj).spec
    labels = ", ".join(f"{key}={value}" for key, value in spec.node_selector.items())
    chosen = [node for node in nodes if spec.node_selector.items() <= (node["metadata"].get("labels") or {}).items()]
    if not chosen:
        cure = f"label its nodes: kubectl label node NODE {labels.replace(', ', ' ')}"
        return Finding("pools", "fail", f"{name}: no node has {labels}", cure)
    if spec.resource is None:
        return Finding("pools", "ok", f"{name}: {pluralize(len(chosen), 'node')}, without devices")
    device, each = spec.resource.name, spec.resource.per_pod
    counts = [int(node.get("status", {}).get("allocatable", {}).get(device, 0)) for node in chosen]
    if max(counts) < each:
        nodes = pluralize(len(chosen), "node")
        what = f"{name}: a pod takes {each} {device}, and the largest of {nodes} has {max(counts)}"
        return Finding("pools", "fail", what, "install the device plugin on its nodes, or lower spec.resource.perPod")
    return Finding("pools", "ok", f"{name}: {pluralize(len(chosen), 'node')} with {sum(counts)} {device}")


async def dns(queries: ClusterQueries) -> list[Finding]:
    """Check that cluster DNS has ready endpoints; --deep resolves a name in a pod."""
    path = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices"
    doubt = "use --deep to resolve a name in a pod"
    try:
        slices = await queries.items(path, labelSelector="kubernetes.io/service-name=kube-dns")
    except Forbidden:
        return [Finding("DNS", "warn", "DNS cannot be checked: you may not read kube-system", doubt)]
    ready = [
        end
        for one in slices
        for end in one.get("endpoints") or ()
        if (end.get("conditions") or {}).get("ready") is not False
    ]
    if not slices:
        return [Finding("DNS", "warn", "kube-system has no Service kube-dns; another one may serve DNS", doubt)]
    if not ready:
        cure = "kubectl -n kube-system get pods -l k8s-app=kube-dns"
        return [Finding("DNS", "fail", "Service kube-dns has no endpoint that is ready", cure)]
    return [Finding("DNS", "ok", f"kube-dns has {pluralize(len(ready), 'endpoint')}; --deep resolves a name")]


async def images(queries: ClusterQueries) -> list[Finding]:
    """Check that no pod of ours waits for its image, and that the operator's images are named by digest."""
    return [await _pulled(queries), *await _tagged(queries)]


async def _tagged(queries: ClusterQueries) -> list[Finding]:
    known = await operator_settings(queries.cluster, (queries.namespace,))
    if known is None:  # another check reports the missing operator
        return []
    tagged = [image for image in (known.runtime_image, known.serving_image) if "@sha256:" not in image]
    if not tagged:
        return []
    what = f"{', '.join(tagged)}: named by a tag, which can change while results of the old image are reused"
    return [Finding("images", "warn", what, "set `image.digests` of the chart's values")]


async def _pulled(queries: ClusterQueries) -> Finding:
    pods = await queries.list(POD, labels=dict(MANAGED))
    waiting = [
        (pod["metadata"]["name"], one["image"], state["reason"])
        for pod in pods
        for field in ("initContainerStatuses", "containerStatuses")
        for one in pod.get("status", {}).get(field) or ()
        if (state := one.get("state", {}).get("waiting") or {}).get("reason") in _WAITS
    ]
    if not waiting:
        view = f"none of {pluralize(len(pods), 'pod')} waits for one" if pods else "there are no pods of Slipway"
        return Finding("images", "ok", f"{view}; --deep pulls the runtime image")
    pod, image, reason = waiting[0]
    cure = f"kubectl describe pod {pod}; for a private registry: podTemplate.imagePullSecrets, or the service account's"
    return Finding("images", "fail", f"{pluralize(len(waiting), 'pod')} cannot pull: {image} ({reason})", cure)
