"""The Job controller, as far as our Jobs use it: Indexed or not, no retries, podFailurePolicy by conditions.

Sources: Job API (batch/v1), KEP-2214 (Indexed), KEP-3329 (podFailurePolicy), KEP-3939 (podReplacementPolicy Failed),
KEP-3998 (the conditions before the last ones: FailureTarget, SuccessCriteriaMet).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from slipway.api.base import wire_time
from slipway.api.kinds import Object
from slipway.api.tasks import INDEX_ENV
from slipway.local.manifests import is_going, is_ready, phase, pod_of
from slipway.plan.jobs.outcomes import BY_POLICY, DEADLINE_EXCEEDED, conditions_of
from slipway.plan.jobs.pods import INDEX_ANNOTATION, INDEX_LABEL, index_of, name_prefix

FAILURE_TARGET, SUCCESS_CRITERIA = "FailureTarget", "SuccessCriteriaMet"


@dataclass(frozen=True, slots=True)
class JobWrites:
    """What one look at a Job leads to. status: the whole new one."""

    status: Object
    create: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()


def bring_on(job: Object, pods: Sequence[Object], now: datetime) -> JobWrites:
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
        said = _condition(SUCCESS_CRITERIA, "CompletionsReached", "Reached expected number of succeeded pods", now)
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
                return _condition(FAILURE_TARGET, BY_POLICY, said, now)
    if len(failed) > int(job["spec"].get("backoffLimit", 6)):
        said = "Job has reached the specified backoff limit"
        return _condition(FAILURE_TARGET, "BackoffLimitExceeded", said, now)
    limit, began = job["spec"].get("activeDeadlineSeconds"), job.get("status", {}).get("startTime")
    if limit is not None and began and now >= datetime.fromisoformat(began) + timedelta(seconds=limit):
        return _condition(FAILURE_TARGET, DEADLINE_EXCEEDED, "Job was active longer than specified deadline", now)
    return None


def _condition(kind: str, reason: str, message: str, now: datetime) -> Object:
    at = wire_time(now)
    said = {"reason": reason, "message": message, "lastProbeTime": at, "lastTransitionTime": at}
    return {"type": kind, "status": "True", **said}
