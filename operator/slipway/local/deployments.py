"""The Deployment controller: so many pods of the newest template, replaced without loss, and how far that is.

The pods hang on the Deployment itself: ReplicaSets, which keep older templates, are what nobody here reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from slipway.api.base import wire_time
from slipway.api.kinds import Object
from slipway.local.manifests import is_going, is_ready, pod_of, template_hash

HASH_LABEL = "pod-template-hash"


@dataclass(frozen=True, slots=True)
class DeploymentWrites:
    """What one look at a Deployment leads to. status: the whole new one."""

    status: Object
    create: tuple[Object, ...] = ()
    delete: tuple[Object, ...] = ()


def bring_on(deployment: Object, pods: Sequence[Object], now: datetime) -> DeploymentWrites:
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
        progress = _condition(progress, "Progressing", True, "NewReplicaSetAvailable", now)
    elif moved or progress is None:
        progress = _condition(progress, "Progressing", True, "ReplicaSetUpdated", now, touch=True)
    elif now > deadline(deployment, progress):
        progress = _condition(progress, "Progressing", False, "ProgressDeadlineExceeded", now)
    enough = ready >= wanted
    reason = "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable"
    available = _condition(conditions.get("Available"), "Available", enough, reason, now)
    return {"observedGeneration": generation, **counts, "conditions": [available, progress]}


def deadline(deployment: Object, progress: Object) -> datetime:
    """When a rollout counts as stuck."""
    seconds = int(deployment["spec"].get("progressDeadlineSeconds", 600))
    return datetime.fromisoformat(progress["lastUpdateTime"]) + timedelta(seconds=seconds)


def _condition(
    before: Object | None, kind: str, true: bool, reason: str, now: datetime, *, touch: bool = False
) -> Object:
    status, at = str(true), wire_time(now)
    if before is not None and before["status"] == status and before["reason"] == reason:
        return {**before, "lastUpdateTime": at} if touch else before
    since = before["lastTransitionTime"] if before is not None and before["status"] == status else at
    return {"type": kind, "status": status, "reason": reason, "lastUpdateTime": at, "lastTransitionTime": since}
