"""The Job and the Deployment controller, as far as Slipway uses them, and how both make pods from a template.

Jobs: Indexed or not, no retries, podFailurePolicy by conditions. Sources: Job API (batch/v1), KEP-2214 (Indexed),
KEP-3329 (podFailurePolicy), KEP-3939 (podReplacementPolicy Failed), KEP-3998 (FailureTarget, SuccessCriteriaMet).
Deployments own their pods directly: no ReplicaSets are made, which only keep older templates.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from slipway.api.base import wire_time
from slipway.api.kinds import POD, Object
from slipway.api.tasks import INDEX_ENV
from slipway.plan.jobs.outcomes import BY_POLICY, DEADLINE_EXCEEDED, conditions_of, indices_of
from slipway.plan.jobs.pods import INDEX_ANNOTATION, INDEX_LABEL, index_of, name_prefix

FINALIZER = "slipway.dev/local"
"""Finalizer of every pod: the pod exists until its processes have ended, as with a kubelet's grace period."""
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def render_pod(
    owner: Object, template: Object, prefix: str, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> Object:
    """Return a pod of the template, controlled by its owner. prefix: start of its name; five letters are added."""
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


def hash_template(template: Object) -> str:
    """Return ten hexadecimal digits that identify a pod template (pod-template-hash)."""
    content = json.dumps(template, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(content).hexdigest()[:10]


def is_ready(pod: Object) -> bool:
    """Return whether the pod may take traffic."""
    conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", ())}
    return conditions.get("Ready") == "True" and not is_terminating(pod)


def is_terminating(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def get_phase(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))


FAILURE_TARGET, SUCCESS_CRITERIA = "FailureTarget", "SuccessCriteriaMet"


@dataclass(frozen=True, slots=True)
class JobWrites:
    """Writes that bring a Job one step on. status: the whole new status."""

    status: Object
    create: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()


def sync_job(job: Object, pods: Sequence[Object], now: datetime) -> JobWrites:
    """Plan the next writes for a Job that is not over. pods: those that it controls."""
    status: Object = {"startTime": wire_time(now), **job.get("status", {})}
    wanted = int(job["spec"].get("completions", 1))
    failing = conditions_of(job).get(FAILURE_TARGET) or _find_failure(job, pods, now)
    succeeded = [pod for pod in pods if get_phase(pod) == "Succeeded"]
    running = [pod for pod in pods if get_phase(pod) not in ("Succeeded", "Failed")]
    create: tuple[Object, ...] = ()
    conditions: list[Object] = []
    failed = _failed_indices(job, pods)
    if failing is None and failed and not running and len(failed) + len(succeeded) >= wanted:
        failing = _job_condition(FAILURE_TARGET, "FailedIndexes", "Job has failed indexes", now)
    if failing is not None:
        conditions = [failing, *([] if running else [{**failing, "type": "Failed"}])]
    elif len(succeeded) >= wanted:
        reached = _job_condition(
            SUCCESS_CRITERIA, "CompletionsReached", "Reached expected number of succeeded pods", now
        )
        conditions = [reached, {**reached, "type": "Complete"}]
        status["completionTime"] = wire_time(now)
    else:
        create = _render_missing_pods(job, pods, wanted)
    status |= {
        "active": sum(not is_terminating(pod) for pod in running) + len(create),
        "ready": sum(is_ready(pod) for pod in running),
        "terminating": sum(is_terminating(pod) for pod in running),
        "succeeded": len(succeeded),
        "failed": sum(get_phase(pod) == "Failed" for pod in pods),
        "uncountedTerminatedPods": {},
    }
    if job["spec"].get("completionMode") == "Indexed":
        status["completedIndexes"] = intervals({index for pod in succeeded if (index := index_of(pod)) is not None})
    if "backoffLimitPerIndex" in job["spec"]:
        status["failedIndexes"] = intervals(failed)
    if conditions:
        status["conditions"] = conditions
    deleted = tuple(pod for pod in running if not is_terminating(pod)) if failing is not None else ()
    return JobWrites(status, create, deleted)


def _render_missing_pods(job: Object, pods: Sequence[Object], wanted: int) -> tuple[Object, ...]:
    """Return pods for the indices without one; a terminating pod is replaced only when it has ended."""
    if job["spec"].get("suspend"):
        return ()
    if job["spec"].get("completionMode") != "Indexed":
        return tuple(_render_pod(job, None) for _ in range(wanted - len(pods)))
    taken = {index_of(pod) for pod in pods} | _failed_indices(job, pods)
    return tuple(_render_pod(job, index) for index in range(wanted) if index not in taken)


def _render_pod(job: Object, index: int | None) -> Object:
    meta, template = job["metadata"], job["spec"]["template"]
    labels = {
        "batch.kubernetes.io/job-name": meta["name"],
        "batch.kubernetes.io/controller-uid": meta["uid"],
        "job-name": meta["name"],
        "controller-uid": meta["uid"],
    }
    if index is None:
        return render_pod(job, template, name_prefix(meta["name"], None), labels, {})
    variable = {
        "name": INDEX_ENV,
        "valueFrom": {"fieldRef": {"fieldPath": f"metadata.annotations['{INDEX_ANNOTATION}']"}},
    }
    containers = [{**one, "env": [*one.get("env", ()), variable]} for one in template["spec"]["containers"]]
    spec = {**template["spec"], "containers": containers, "hostname": f"{meta['name']}-{index}"}
    indexed = {**labels, INDEX_LABEL: str(index)}
    prefix = name_prefix(meta["name"], index)
    return render_pod(job, {**template, "spec": spec}, prefix, indexed, {INDEX_ANNOTATION: str(index)})


def intervals(indices: Collection[int]) -> str:
    """Render a set of indices as the status of a Job does: `1,3-5`; two in a row are written as both."""
    found: list[list[int]] = []
    for index in sorted(indices):
        if found and index == found[-1][-1] + 1:
            found[-1].append(index)
        else:
            found.append([index])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in found)


def _failed_indices(job: Object, pods: Sequence[Object]) -> frozenset[int]:
    """Return the indices that have failed for good, backoffLimitPerIndex being 0; their pods may be gone."""
    if "backoffLimitPerIndex" not in job["spec"]:
        return frozenset()
    now = {index for pod in pods if get_phase(pod) == "Failed" and (index := index_of(pod)) is not None}
    return indices_of(job, "failedIndexes") | now


def _find_failure(job: Object, pods: Sequence[Object], now: datetime) -> Object | None:
    """Return the condition FailureTarget if pods have failed or the deadline has passed; None otherwise."""
    failed = [pod for pod in pods if get_phase(pod) == "Failed"]
    rules = job["spec"].get("podFailurePolicy", {}).get("rules", ())
    for pod in failed:
        # The first rule that matches a pod decides about it.
        found = next(((number, why) for number, rule in enumerate(rules) if (why := _matched(rule, pod))), None)
        if found is not None and rules[found[0]]["action"] == "FailJob":
            message = f"{found[1]} matching FailJob rule at index {found[0]}"
            return _job_condition(FAILURE_TARGET, BY_POLICY, message, now)
    if len(failed) > int(job["spec"].get("backoffLimit", len(pods) if "backoffLimitPerIndex" in job["spec"] else 6)):
        message = "Job has reached the specified backoff limit"
        return _job_condition(FAILURE_TARGET, "BackoffLimitExceeded", message, now)
    limit, started = job["spec"].get("activeDeadlineSeconds"), job.get("status", {}).get("startTime")
    if limit is not None and started and now >= datetime.fromisoformat(started) + timedelta(seconds=limit):
        return _job_condition(FAILURE_TARGET, DEADLINE_EXCEEDED, "Job was active longer than specified deadline", now)
    return None


def _matched(rule: Object, pod: Object) -> str | None:
    """Return why a failed pod matches a rule of a podFailurePolicy, in the words of the Job controller."""
    name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    for condition in rule.get("onPodConditions", ()):
        if condition["type"] in conditions_of(pod):
            return f"Pod {name} has condition {condition['type']}"
    if (wanted := rule.get("onExitCodes")) is None:
        return None
    for container in pod.get("status", {}).get("containerStatuses", ()):
        code = container.get("state", {}).get("terminated", {}).get("exitCode", 0)
        if code and (code in wanted["values"]) == (wanted["operator"] == "In"):
            return f"Container {container['name']} for pod {name} failed with exit code {code}"
    return None


def _job_condition(kind: str, reason: str, message: str, now: datetime) -> Object:
    at = wire_time(now)
    times = {"lastProbeTime": at, "lastTransitionTime": at}
    return {"type": kind, "status": "True", "reason": reason, "message": message, **times}


HASH_LABEL = "pod-template-hash"


@dataclass(frozen=True, slots=True)
class DeploymentWrites:
    """Writes that bring a Deployment one step on. status: the whole new status."""

    status: Object
    create: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()


def sync_deployment(deployment: Object, pods: Sequence[Object], now: datetime) -> DeploymentWrites:
    """Plan one step of a rolling update. pods: those that it controls. maxUnavailable and maxSurge are numbers."""
    spec = deployment["spec"]
    wanted, template = int(spec["replicas"]), spec["template"]
    rolling = spec.get("strategy", {}).get("rollingUpdate", {})
    surge, unavailable = int(rolling.get("maxSurge", 1)), int(rolling.get("maxUnavailable", 0))
    digest = hash_template(template)
    staying = [pod for pod in pods if not is_terminating(pod)]
    new = [pod for pod in staying if pod["metadata"]["labels"].get(HASH_LABEL) == digest]
    old = [pod for pod in staying if pod not in new]
    room = min(wanted - len(new), wanted + (surge if old else 0) - len(staying))
    name = deployment["metadata"]["name"]
    create = tuple(render_pod(deployment, template, f"{name}-{digest}-", {HASH_LABEL: digest}, {}) for _ in range(room))
    delete = [*_choose_surplus(new, len(new) - wanted), *_choose_replaceable(old, new, wanted - unavailable)]
    left = [pod for pod in staying if pod not in delete]
    status = _status(deployment, left, [pod for pod in left if pod in new], now)
    return DeploymentWrites(status, create, tuple(delete))


def _choose_surplus(pods: Sequence[Object], count: int) -> Sequence[Object]:
    """Return the pods to delete first: those that are not ready."""
    return sorted(pods, key=is_ready)[: max(count, 0)]


def _choose_replaceable(old: Sequence[Object], new: Sequence[Object], least: int) -> Sequence[Object]:
    """Return the old pods to delete now: those that are not ready, and as many others as readiness allows."""
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
    changed = before.get("observedGeneration") != generation or any(before.get(f) != n for f, n in counts.items())
    progress = conditions.get("Progressing")
    if complete:
        progress = _deployment_condition(progress, "Progressing", True, "NewReplicaSetAvailable", now)
    elif changed or progress is None:
        progress = _deployment_condition(progress, "Progressing", True, "ReplicaSetUpdated", now, touch=True)
    elif now > progress_deadline(deployment, progress):
        progress = _deployment_condition(progress, "Progressing", False, "ProgressDeadlineExceeded", now)
    enough = ready >= wanted
    reason = "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable"
    available = _deployment_condition(conditions.get("Available"), "Available", enough, reason, now)
    return {"observedGeneration": generation, **counts, "conditions": [available, progress]}


def progress_deadline(deployment: Object, progress: Object) -> datetime:
    """Return the time after which a rollout counts as stuck."""
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
