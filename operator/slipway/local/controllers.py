"""The Job and the Deployment controller, as far as Slipway uses them, and how both make pods from a template.

Jobs: Indexed or not, no retries, podFailurePolicy by conditions. Sources: Job API (batch/v1), KEP-2214 (Indexed),
KEP-3329 (podFailurePolicy), KEP-3939 (podReplacementPolicy Failed), KEP-3998 (FailureTarget, SuccessCriteriaMet).
Deployments own their pods directly: no ReplicaSets are made, which only keep older templates.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from slipway.api.base import wire_time
from slipway.api.kinds import POD, Object
from slipway.api.tasks import INDEX_ENV
from slipway.plan.jobs.outcomes import BY_POLICY, DEADLINE_EXCEEDED, conditions_of
from slipway.plan.jobs.pods import INDEX_ANNOTATION, INDEX_LABEL, index_of, name_prefix

FINALIZER = "slipway.dev/local"
"""On every pod: it is there until its processes have ended, as with a kubelet's grace period."""
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def pod_of(
    owner: Object, template: Object, prefix: str, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> Object:
    """A pod of the template, controlled by its owner. prefix: of its name, to which five letters are added."""
    meta = template.get("metadata", {})
    metadata: Object = {
        "name": f"{prefix}{''.join(secrets.choice(_LETTERS) for _ in range(5))}",
        "namespace": owner["metadata"]["namespace"],
        "labels": {**meta.get("labels", {}), **labels},
        "annotations": {**meta.get("annotations", {}), **annotations},
        "finalizers": [FINALIZER],
        "ownerReferences": [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    return {"apiVersion": POD.api_version, "kind": POD.kind, "metadata": metadata, "spec": template["spec"]}


def template_hash(template: Object) -> str:
    """Ten letters by which pods of one template are known (pod-template-hash)."""
    content = json.dumps(template, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(content).hexdigest()[:10]


def is_ready(pod: Object) -> bool:
    """Whether it may take traffic."""
    conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", ())}
    return conditions.get("Ready") == "True" and not is_going(pod)


def is_going(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def phase(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


FAILURE_TARGET, SUCCESS_CRITERIA = "FailureTarget", "SuccessCriteriaMet"


@dataclass(frozen=True, slots=True)
class JobWrites:
    """What one look at a Job leads to. status: the whole new one."""

    status: Object
    create: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()


def sync_job(job: Object, pods: Sequence[Object], now: datetime) -> JobWrites:
    """One look at a Job that is not over. pods: those that it controls."""
    status: Object = {"startTime": wire_time(now), **job.get("status", {})}
    wanted = int(job["spec"].get("completions", 1))
    failing = conditions_of(job).get(FAILURE_TARGET) or _failure(job, pods, now)
    succeeded = [pod for pod in pods if phase(pod) == "Succeeded"]
    running = [pod for pod in pods if phase(pod) not in ("Succeeded", "Failed")]
    create: tuple[Object, ...] = ()
    conditions: list[Object] = []
    if failing is not None:
        conditions = [failing, *([] if running else [{**failing, "type": "Failed"}])]
    elif len(succeeded) >= wanted:
        said = _job_condition(SUCCESS_CRITERIA, "CompletionsReached", "Reached expected number of succeeded pods", now)
        conditions = [said, {**said, "type": "Complete"}]
        status["completionTime"] = wire_time(now)
    else:
        create = _missing(job, pods, wanted)
    status |= {
        "active": sum(not is_going(pod) for pod in running) + len(create),
        "ready": sum(is_ready(pod) for pod in running),
        "terminating": sum(is_going(pod) for pod in running),
        "succeeded": len(succeeded),
        "failed": sum(phase(pod) == "Failed" for pod in pods),
        "uncountedTerminatedPods": {},
    }
    if conditions:
        status["conditions"] = conditions
    doomed = tuple(pod for pod in running if not is_going(pod)) if failing is not None else ()
    return JobWrites(status, create, doomed)


def _missing(job: Object, pods: Sequence[Object], wanted: int) -> tuple[Object, ...]:
    """Pods for the indices that have none; a pod that is going is replaced only when it has ended."""
    if job["spec"].get("suspend"):
        return ()
    if job["spec"].get("completionMode") != "Indexed":
        return tuple(_pod(job, None) for _ in range(wanted - len(pods)))
    taken = {index_of(pod) for pod in pods}
    return tuple(_pod(job, index) for index in range(wanted) if index not in taken)


def _pod(job: Object, index: int | None) -> Object:
    meta, template = job["metadata"], job["spec"]["template"]
    labels = {
        "batch.kubernetes.io/job-name": meta["name"],
        "batch.kubernetes.io/controller-uid": meta["uid"],
        "job-name": meta["name"],
        "controller-uid": meta["uid"],
    }
    if index is None:
        return pod_of(job, template, name_prefix(meta["name"], None), labels, {})
    variable = {
        "name": INDEX_ENV,
        "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX_ANNOTATION}']"}},
    }
    containers = [{**one, "env": [*one.get("env", ()), variable]} for one in template["spec"]["containers"]]
    spec = {**template["spec"], "containers": containers, "hostname": f"{meta['name']}-{index}"}
    told = {**labels, INDEX_LABEL: str(index)}
    prefix = name_prefix(meta["name"], index)
    return pod_of(job, {**template, "spec": spec}, prefix, told, {INDEX_ANNOTATION: str(index)})


def _failure(job: Object, pods: Sequence[Object], now: datetime) -> Object | None:
    """The condition FailureTarget once a pod has failed, backoffLimit being 0, or the deadline has passed."""
    failed = [pod for pod in pods if phase(pod) == "Failed"]
    for pod in failed:
        for number, rule in enumerate(job["spec"].get("podFailurePolicy", {}).get("rules", ())):
            matched = next(
                (c["type"] for c in rule.get("onPodConditions", ()) if c["type"] in conditions_of(pod)), None
            )
            if rule["action"] == "FailJob" and matched:
                name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
                said = f"Pod {name} has condition {matched} matching FailJob rule at index {number}"
                return _job_condition(FAILURE_TARGET, BY_POLICY, said, now)
    if len(failed) > int(job["spec"].get("backoffLimit", 6)):
        said = "Job has reached the specified backoff limit"
        return _job_condition(FAILURE_TARGET, "BackoffLimitExceeded", said, now)
    limit, began = job["spec"].get("activeDeadlineSeconds"), job.get("status", {}).get("startTime")
    if limit is not None and began and now >= datetime.fromisoformat(began) + timedelta(seconds=limit):
        return _job_condition(FAILURE_TARGET, DEADLINE_EXCEEDED, "Job was active longer than specified deadline", now)
    return None


def _job_condition(kind: str, reason: str, message: str, now: datetime) -> Object:
    at = wire_time(now)
    said = {"reason": reason, "message": message, "lastProbeTime": at, "lastTransitionTime": at}
    return {"type": kind, "status": "True", **said}


HASH_LABEL = "pod-template-hash"


@dataclass(frozen=True, slots=True)
class DeploymentWrites:
    """What one look at a Deployment leads to. status: the whole new one."""

    status: Object
    create: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()


def sync_deployment(deployment: Object, pods: Sequence[Object], now: datetime) -> DeploymentWrites:
    """One step of a rolling update (maxUnavailable and maxSurge as numbers). pods: those that it controls."""
    spec = deployment["spec"]
    wanted, template = int(spec["replicas"]), spec["template"]
    rolling = spec.get("strategy", {}).get("rollingUpdate", {})
    surge, unavailable = int(rolling.get("maxSurge", 1)), int(rolling.get("maxUnavailable", 0))
    mark = template_hash(template)
    staying = [pod for pod in pods if not is_going(pod)]
    new = [pod for pod in staying if pod["metadata"]["labels"].get(HASH_LABEL) == mark]
    old = [pod for pod in staying if pod not in new]
    room = min(wanted - len(new), wanted + (surge if old else 0) - len(staying))
    name = deployment["metadata"]["name"]
    create = tuple(pod_of(deployment, template, f"{name}-{mark}-", {HASH_LABEL: mark}, {}) for _ in range(room))
    delete = [*_surplus(new, len(new) - wanted), *_replaceable(old, new, wanted - unavailable)]
    left = [pod for pod in staying if pod not in delete]
    status = _status(deployment, left, [pod for pod in left if pod in new], now)
    return DeploymentWrites(status, create, tuple(delete))


def _surplus(pods: Sequence[Object], count: int) -> Sequence[Object]:
    """Those to give up first: the ones that are not ready."""
    return sorted(pods, key=is_ready)[: max(count, 0)]


def _replaceable(old: Sequence[Object], new: Sequence[Object], least: int) -> Sequence[Object]:
    """Old pods that may go now: those that serve nobody, and as many others as readiness allows."""
    idle = [pod for pod in old if not is_ready(pod)]
    serving = [pod for pod in old if is_ready(pod)]
    spare = len(serving) + sum(is_ready(pod) for pod in new) - least
    return [*idle, *serving[: max(spare, 0)]]


def _status(deployment: Object, pods: Sequence[Object], new: Sequence[Object], now: datetime) -> Object:
    wanted = int(deployment["spec"]["replicas"])
    ready = sum(is_ready(pod) for pod in pods)
    counts = {
        "replicas": len(pods),
        "updatedReplicas": len(new),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": max(wanted - ready, 0),
    }
    before = deployment.get("status", {})
    conditions = {c["type"]: c for c in before.get("conditions", ())}
    complete = len(pods) == len(new) == wanted and ready >= wanted
    generation = deployment["metadata"]["generation"]
    moved = before.get("observedGeneration") != generation or any(before.get(f) != n for f, n in counts.items())
    progress = conditions.get("Progressing")
    if complete:
        progress = _deployment_condition(progress, "Progressing", True, "NewReplicaSetAvailable", now)
    elif moved or progress is None:
        progress = _deployment_condition(progress, "Progressing", True, "ReplicaSetUpdated", now, touch=True)
    elif now > deadline(deployment, progress):
        progress = _deployment_condition(progress, "Progressing", False, "ProgressDeadlineExceeded", now)
    enough = ready >= wanted
    reason = "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable"
    available = _deployment_condition(conditions.get("Available"), "Available", enough, reason, now)
    return {"observedGeneration": generation, **counts, "conditions": [available, progress]}


def deadline(deployment: Object, progress: Object) -> datetime:
    """When a rollout counts as stuck."""
    seconds = int(deployment["spec"].get("progressDeadlineSeconds", 600))
    return datetime.fromisoformat(progress["lastUpdateTime"]) + timedelta(seconds=seconds)


def _deployment_condition(
    before: Object | None, kind: str, true: bool, reason: str, now: datetime, *, touch: bool = False
) -> Object:
    status, at = str(true), wire_time(now)
    if before is not None and before["status"] == status and before["reason"] == reason:
        return {**before, "lastUpdateTime": at} if touch else before
    since = before["lastTransitionTime"] if before is not None and before["status"] == status else at
    return {"type": kind, "status": status, "reason": reason, "lastUpdateTime": at, "lastTransitionTime": since}
