"""Checks that need a pod: write to the store, resolve names, pull the image."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from uuid import uuid4

from slipway.api.artifactstore import ArtifactStore
from slipway.api.errors import ClusterError, Finding, Forbidden
from slipway.api.kinds import ARTIFACT_STORE, JOB, POD, Object, key_of
from slipway.api.scheduling import Resources
from slipway.api.tasks import OUT_DIR, TERMINATION_LOG
from slipway.doctor.installation import ClusterQueries, operator_settings
from slipway.plan.jobs.outcomes import conditions_of, is_over
from slipway.plan.jobs.pending import pending_reason
from slipway.plan.observation import controller_uid
from slipway.plan.pods import container, pod_template
from slipway.plan.storemount import StoreMount

EVERY_SECONDS = 1.0
_LABELS = {"app.kubernetes.io/name": "slipway-doctor"}
_FOLDER = "doctor"
_SCRIPT = f"""
import json, pathlib, socket, uuid
report = {{}}
try:
    path = pathlib.Path({OUT_DIR!r}, uuid.uuid4().hex)
    path.write_text("written")
    assert path.read_text() == "written"
    path.unlink()
except Exception as error:
    report["store"] = repr(error)
try:
    socket.getaddrinfo("kubernetes.default.svc", 443)
except Exception as error:
    report["names"] = repr(error)
pathlib.Path({TERMINATION_LOG!r}).write_text(json.dumps(report))
"""


async def probe_stores(queries: ClusterQueries, timeout_seconds: float) -> list[Finding]:
    """Run a Job of the runtime image on each store, which writes and removes a file, and delete the Jobs."""
    stores = await queries.list(ARTIFACT_STORE)
    settings = await operator_settings(queries.cluster, (queries.namespace,))
    if settings is None:
        what = "no pod was started: the operator's Deployment, which defines the runtime image, was not found"
        return [Finding("a pod", "fail", what, "install the chart, or ask for permission to list its Deployment")]
    found: list[Finding] = []
    for store in stores:
        name = store["metadata"]["name"]
        job = _job(store, queries.namespace, settings.runtime_image, settings.image_pull_policy)
        try:
            made = await queries.cluster.create(job)
        except Forbidden as error:
            return [*found, Finding("a pod", "fail", str(error), "ask a user who may create Jobs")]
        except ClusterError as error:
            return [
                *found,
                Finding("a pod", "fail", str(error), "check quotas, policies and webhooks"),
            ]
        try:
            found += await _result(queries, made, name, timeout_seconds, in_bucket="s3" in store["spec"])
        finally:
            await _delete(queries, made)
    return found


def _job(store: Object, namespace: str, image: str, pull_policy: str) -> Object:
    mount = StoreMount(ArtifactStore.model_validate({"spec": store["spec"]}).spec, _FOLDER)
    main = container(
        image,
        ("python", "-c", _SCRIPT),
        pull_policy=pull_policy,
        mounts=mount.mounts,
        resources=Resources(cpu="10m", memory="128Mi"),
    )
    template = pod_template([main], labels=_LABELS, store=mount, restartPolicy="Never")
    return {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "metadata": {"name": f"slipway-doctor-{uuid4().hex[:8]}", "namespace": namespace, "labels": _LABELS},
        "spec": {"backoffLimit": 0, "ttlSecondsAfterFinished": 600, "template": template},
    }


async def _result(
    queries: ClusterQueries, job: Object, store: str, timeout_seconds: float, *, in_bucket: bool
) -> list[Finding]:
    """Wait for the Job and return its findings. in_bucket: skip the store, which the operator itself checks."""
    try:
        async with asyncio.timeout(timeout_seconds):
            while not is_over(live := await queries.cluster.get(key_of(job))):
                await asyncio.sleep(EVERY_SECONDS)
    except TimeoutError:
        why = pending_reason(await _pods(queries, job), 1)
        what = f"store {store}: no pod has ended within {timeout_seconds:g} s: {why}"
        return [Finding("a pod", "fail", what, "fix the reason, or raise --timeout")]
    reports = [_termination_message(pod) for pod in await _pods(queries, job)]
    report = next((one for one in reports if one is not None), None)
    if report is None:
        what = f"store {store}: the pod ended without a report: {', '.join(conditions_of(live))}"
        return [Finding("a pod", "fail", what, "check that the operator's runtime image has python")]
    return [_dns_finding(report)] if in_bucket else [_store_finding(store, report), _dns_finding(report)]


def _store_finding(store: str, report: Object) -> Finding:
    if "store" in report:
        cure = "allow group 65532 to write to the volume: by fsGroup, or by the options of the export"
        return Finding("stores", "fail", f"{store}: a pod cannot write to it: {report['store']}", cure)
    return Finding("stores", "ok", f"{store}: a pod has written to it, read it again and removed it")


def _dns_finding(report: Object) -> Finding:
    if "names" in report:
        what = f"a pod cannot look up kubernetes.default.svc: {report['names']}"
        return Finding("DNS", "fail", what, "fix CoreDNS, or allow pods to query it (NetworkPolicy, port 53)")
    return Finding("DNS", "ok", "a pod has looked up kubernetes.default.svc")


def _termination_message(pod: Object) -> Object | None:
    for one in pod.get("status", {}).get("containerStatuses") or ():
        with suppress(ValueError):
            return dict(json.loads(one.get("state", {}).get("terminated", {}).get("message") or ""))
    return None


async def _pods(queries: ClusterQueries, job: Object) -> Sequence[Object]:
    pods = await queries.list(POD, labels=_LABELS)
    return [pod for pod in pods if controller_uid(pod) == job["metadata"]["uid"]]


async def _delete(queries: ClusterQueries, job: Object) -> None:
    with suppress(ClusterError):  # otherwise its TTL deletes it
        meta = (await queries.cluster.get(key_of(job)))["metadata"]
        await queries.cluster.delete(key_of(job), uid=meta["uid"], resource_version=meta["resourceVersion"])
