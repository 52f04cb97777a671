"""A simulation of the other controllers: every Job succeeds at once, and every Deployment gets ready.

The digest of a result, which no preview can know, is computed from the inputs of its task: equal tasks make equal
artifacts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.base import digest_of, wire_time
from slipway.api.kinds import DEPLOYMENT, JOB, POD, Object, key_of
from slipway.api.reports import PairedCounts, Report
from slipway.api.tasks import OUT_URI_ENV, parse_task
from slipway.cluster.twin import Twin
from slipway.plan.jobs.outcomes import is_over
from slipway.plan.jobs.pods import INDEX_LABEL, name_prefix
from slipway.plan.observation import controller_uid
from slipway.plan.pods import CONTAINER
from slipway.plan.taskinput import task_text

BETTER = PairedCounts(n=1000, baseline_right=900, lost=0, gained=100)
"""The counts of every comparison: those of a candidate that no gate refuses."""
MODEL = State.MODULE
"""The assumed state of every trained model: `slipway.runtime.save` and recipes write a module."""

_RESULTS: Mapping[str, State] = {
    "prepare": State.DATASET,
    "train": MODEL,
    "seal": MODEL,
    "evaluate": State.PREDICTIONS,
    "package": State.REPOSITORY,
}


async def advance(twin: Twin, produces: Mapping[str, State], now: datetime) -> bool:
    """Complete the Jobs and make the Deployments ready. Return True if anything changed.

    produces: the state of a compressed model, by the entry point of the plugin.
    """
    advanced = False
    for job in await twin.list(JOB):
        if not is_over(job) and "deletionTimestamp" not in job["metadata"]:
            await _succeed(twin, job, produces, now)
            advanced = True
    for deployment in await twin.list(DEPLOYMENT):
        advanced = _get_ready(twin, deployment) or advanced
    return advanced


def task_of(job: Object) -> Object:
    """Return the task of a Job's pods; empty for a Job that runs a user's image."""
    template = job.get("spec", {}).get("template", {})
    return dict(json.loads(task_text(template, _main(job)) or "{}"))


def _env(job: Object) -> dict[str, str]:
    return {one["name"]: one["value"] for one in _main(job).get("env", ()) if "value" in one}


def _main(job: Object) -> Mapping[str, Any]:
    """Return the main container of a Job; empty without a template, which the cache does not store."""
    containers = job.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ())
    return next((one for one in containers if one["name"] == CONTAINER), {})


async def _succeed(twin: Twin, job: Object, produces: Mapping[str, State], now: datetime) -> None:
    meta = job["metadata"]
    pods = [pod for pod in await twin.list(POD, meta["namespace"]) if controller_uid(pod) == meta["uid"]]
    for pod in pods:
        twin.remove(key_of(pod))
    message = json.dumps(_report(job, produces, now).to_wire())
    for index in range(int(job["spec"].get("completions", 1))):
        twin.add(_ended_pod(job, index, message if index == 0 else ""))
    at = wire_time(now)
    done = [{"type": "Complete", "status": "True", "lastTransitionTime": at, "lastProbeTime": at}]

    def complete(obj: Object) -> None:
        obj["status"] = {**obj.get("status", {}), "conditions": done, "completionTime": at}

    twin.edit(key_of(job), complete)


def _report(job: Object, produces: Mapping[str, State], now: datetime) -> Report:
    task, env = task_of(job), _env(job)
    if task.get("task") == "compare":
        return Report(outcome="succeeded", at=now, counts=BETTER)
    if task.get("task") == "check":
        return Report(outcome="succeeded", at=now)
    if task.get("task") == "recover":  # a lost task runs again
        return Report(outcome="none", at=now)
    state = produces.get(task.get("entryPoint", ""), State.ONNX) if task.get("task") == "compress" else None
    state = state or _RESULTS.get(task.get("task", "train"), MODEL)
    # The rendezvous and the folder name the attempt, and do not change the result.
    content = parse_task(json.dumps(task)).to_content() if task else {}
    made_from = {name: value for name, value in content.items() if name != "rendezvous"} or job["metadata"]["name"]
    uri = env.get(OUT_URI_ENV, f"store:///made/{job['metadata']['name']}") + "/artifact"
    artifact = ArtifactRef(uri=uri, digest=digest_of({"made from": made_from}), state=state)
    return Report(outcome="succeeded", at=now, artifact=artifact)


def _ended_pod(job: Object, index: int, message: str) -> Object:
    meta = job["metadata"]
    owner = {field: job[field] for field in ("apiVersion", "kind")} | {"name": meta["name"], "uid": meta["uid"]}
    labels = {**job["spec"].get("template", {}).get("metadata", {}).get("labels", {}), INDEX_LABEL: str(index)}
    indexed = job["spec"].get("completionMode") == "Indexed"
    ended = {"terminated": {"exitCode": 0, "reason": "Completed", "message": message}}
    return {
        "apiVersion": POD.api_version,
        "kind": POD.kind,
        "metadata": {
            "name": f"{name_prefix(meta['name'], index if indexed else None)}00000",
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": [{**owner, "controller": True}],
        },
        "spec": job["spec"].get("template", {}).get("spec", {}),
        "status": {"phase": "Succeeded", "containerStatuses": [{"name": CONTAINER, "state": ended}]},
    }


def _get_ready(twin: Twin, deployment: Object) -> bool:
    replicas = int(deployment["spec"].get("replicas", 1))
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas)
    status = {"observedGeneration": deployment["metadata"]["generation"], **counts, "conditions": []}
    if deployment.get("status") == status:
        return False

    def ready(obj: Object) -> None:
        obj["status"] = status

    twin.edit(key_of(deployment), ready)
    return True
