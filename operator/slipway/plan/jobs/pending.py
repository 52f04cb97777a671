"""Pods that do not run: the reasons, with a text that is stable while the cause is, and the detection of lost pods.

The Job controller does not replace a pod that is still Terminating (podReplacementPolicy Failed is the only one allowed
with a podFailurePolicy), and a pod on a lost Node stays Terminating for ever. So the planner detects such pods itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from slipway.api.kinds import Object
from slipway.api.reports import shorten
from slipway.api.status import Failure
from slipway.plan.jobs.outcomes import conditions_of, has_ended, main_state
from slipway.plan.jobs.pods import JobPods, index_of
from slipway.plan.jobs.retry import INVALID_IMAGE_NAME, NODE_LOST

PENDING_GRACE = timedelta(seconds=60)
"""Time to start before the status shows a reason; image pulls and scheduling usually take less."""

REFRESHED_AFTER = timedelta(seconds=60), timedelta(minutes=10)
"""The shortest and the longest time between two reasons in the status for the same pods."""
_EXACT = 4
"""Up to this number of pods the text has the exact count; above, quarters, so that it does not change for each pod."""

_PULLS = ("ErrImagePull", "ImagePullBackOff")
_CREATING = "ContainerCreating: its image, volumes or network are not ready; see the events of the pod"


def pending_reason(
    pods: Sequence[Object], expected: int, secret: str | None = None, refused: Sequence[str] = ()
) -> str:
    """Describe why pods do not run: `1 of 2 pods run; Unschedulable: Insufficient nvidia.com/gpu`.

    The text has the most frequent reason. expected: the number of pods. secret: name of the store's Secret, if it has
    one. refused: why other pods with the Job's UID are not trusted.
    """
    running = sum(is_running(pod) for pod in pods)
    reasons = Counter(why for pod in pods if (why := missing_secret(pod, secret) or _why(pod)) is not None)
    why = min(reasons, key=lambda text: (text == _CREATING, -reasons[text], text), default=None)
    if why is None and refused:
        why = refused[0]
    elif why is None and len(pods) < expected:
        why = f"{_at_least(expected - len(pods), expected)} are not created; see the events of the Job"
    return f"{_at_least(running, expected)} of {expected} pods run" + (f"; {why}" if why else "")


def why_pending(
    pods: JobPods, since: datetime, now: datetime, secret: str | None = None
) -> tuple[str | None, datetime | None]:
    """Return why the one pod of a Job has not run for PENDING_GRACE, or when to check for it."""
    if any(is_running(pod) for pod in pods.trusted):
        return None, None
    if now < since + PENDING_GRACE:
        return None, since + PENDING_GRACE
    return pending_reason(pods.trusted, 1, secret, pods.refused), None


def refresh_at(since: datetime, reported_at: datetime) -> datetime:
    """Return when a reported reason may be replaced by another one, at growing intervals."""
    shortest, longest = REFRESHED_AFTER
    return reported_at + min(max((reported_at - since) / 2, shortest), longest)


def never_runs(pods: Sequence[Object]) -> Failure | None:
    """Return the failure of a pod that can never run, because the name of its image is invalid; None without one."""
    for pod in pods:
        waits = main_state(pod).get("waiting") or {}
        if waits.get("reason") == INVALID_IMAGE_NAME:
            text = str(waits.get("message") or "the image's name is not valid")
            return Failure(reason=INVALID_IMAGE_NAME, index=index_of(pod), message=shorten(text, 1024))
    return None


def missing_secret(pod: Object, secret: str | None) -> str | None:
    """Return the message if a container cannot start because the store's Secret, or a key in it, is missing."""
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waits = container.get("state", {}).get("waiting") or {}
        message = str(waits.get("message", ""))
        if secret and waits.get("reason") == "CreateContainerConfigError" and secret in message:
            cure = f"create Secret {secret} with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            return f"spec.s3.secretRef of the ArtifactStore: {message}; {cure}"
    return None


def is_running(pod: Object) -> bool:
    """Return True if the pod runs, or has succeeded."""
    return pod.get("status", {}).get("phase") in ("Running", "Succeeded")


def _why(pod: Object) -> str | None:
    status = pod.get("status", {})
    if has_ended(pod):
        return None
    for container in status.get("initContainerStatuses", ()):  # added by a webhook: Slipway's Jobs have none
        if (why := _waits(container)) is not None:
            return f"init container {container['name']}: {why}"
    for container in status.get("containerStatuses", ()):
        if (why := _waits(container)) is not None:
            return why
    for condition in status.get("conditions", ()):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            text = _without_counts(condition.get("message", ""))
            return str(condition.get("reason", "Unschedulable")) + (f": {text}" if text else "")
    return None


def _waits(container: Object) -> str | None:
    waits = container.get("state", {}).get("waiting") or {}
    reason, message = str(waits.get("reason", "")), waits.get("message", "")
    if reason in ("", "PodInitializing"):
        return None
    if reason == "ContainerCreating":
        return _CREATING
    if reason in _PULLS:  # the two alternate, and so do their messages
        return f"ImagePullBackOff: {container.get('image', '')}"
    return f"{reason}: {message}" if message else reason


def _without_counts(message: str) -> str:
    """Return `0/3 nodes are available: 2 Insufficient cpu, 1 node(s) had untolerated taint. ...` without the numbers.

    They change whenever a Node is added or removed.
    """
    causes = re.sub(r"^\d+/\d+ nodes are available: ", "", message).split(". ")[0].rstrip(".")
    return re.sub(r"(^|, )\d+ ", r"\1", causes)


def _at_least(count: int, of: int) -> str:
    """Return the count; for many pods, the largest quarter below it."""
    if of <= _EXACT or count in (0, of):
        return str(count)
    quarter = of * (4 * count // of) // 4
    return f"at least {quarter}" if quarter else f"fewer than {-(-of // 4)}"


TERMINATION_SLACK = timedelta(seconds=20)
"""Time after the grace period of a pod in which a working kubelet kills it and reports its end."""
UNREACHABLE_AFTER = timedelta(minutes=5)
"""Time after which a pod on an unreachable Node counts as lost, if its tolerations prevent its deletion. It is the
default toleration of Kubernetes."""
_NODE_REASONS = ("", "NodeNotReady", "NodeLost", "NodeStatusUnknown")
"""Reasons of a Ready condition that the node controller has set to False; it keeps the empty reason of the kubelet."""


class _Lost(NamedTuple):
    at: datetime
    why: str


def lost_pod(pods: Sequence[Object], now: datetime) -> Failure | None:
    """Return the failure of the first pod that is lost with its Node; None if every pod may still report its end."""
    lost_pods = [(lost, pod) for pod in pods if (lost := _lost(pod)) is not None and lost.at <= now]
    if not lost_pods:
        return None
    lost, pod = min(lost_pods, key=lambda one: one[0].at)
    node = pod.get("spec", {}).get("nodeName")
    where = f"Node {node}" if node else "its Node"
    target = conditions_of(pod).get("DisruptionTarget", {})
    cause = ": ".join(str(target[part]) for part in ("reason", "message") if target.get(part))
    message = f"{where} does not answer: pod {pod['metadata']['name']} {lost.why}" + (f" ({cause})" if cause else "")
    return Failure(reason=NODE_LOST, index=index_of(pod), message=message[:1024])


def lost_after(pods: Sequence[Object], now: datetime) -> datetime | None:
    """Return the next time at which a pod will count as lost; None without one."""
    return min((lost.at for pod in pods if (lost := _lost(pod)) is not None and lost.at > now), default=None)


def _lost(pod: Object) -> _Lost | None:
    """Return from when a pod counts as lost if its status does not change; None if it does not."""
    meta, status = pod["metadata"], pod.get("status", {})
    if has_ended(pod) or (status.get("phase") == "Pending" and not pod.get("spec", {}).get("nodeName")):
        return None
    if status.get("reason") == NODE_LOST:
        return _Lost(datetime.min.replace(tzinfo=UTC), "is unresponsive")
    if deleted := meta.get("deletionTimestamp"):  # includes the grace period
        return _Lost(datetime.fromisoformat(deleted) + TERMINATION_SLACK, "is Terminating and its grace period is over")
    ready: Object = next((one for one in status.get("conditions") or () if one.get("type") == "Ready"), {})
    if status.get("phase") != "Unknown" and not _set_by_node_controller(ready, pod):
        return None
    since = ready.get("lastTransitionTime")
    at = datetime.fromisoformat(since) + UNREACHABLE_AFTER if since else datetime.min.replace(tzinfo=UTC)
    return _Lost(at, "is not reported any more")


def _set_by_node_controller(ready: Object, pod: Object) -> bool:
    """Return True if the node controller, not the kubelet, has set the pod to not ready."""
    if ready.get("status") == "Unknown":
        return True
    runs = "running" in main_state(pod)
    return ready.get("status") == "False" and ready.get("reason", "") in _NODE_REASONS and runs
