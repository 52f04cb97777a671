"""Pods that do not run: why, in words that stay the same as long as the cause does, and when they count as lost.

The Job controller replaces no pod that is still Terminating (podReplacementPolicy Failed, the only one that goes with a
podFailurePolicy), and on a lost Node a pod stays Terminating for ever. So the planner looks for such pods itself.
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
"""Pods that take longer to run have a cause worth a write of the status; image pulls and scheduling take less."""

REFRESHED_AFTER = timedelta(seconds=60), timedelta(minutes=10)
"""The shortest and the longest time between two texts about the same pods."""
_EXACT = 4
"""Of so many pods each one is counted; of more, quarters: a text for every pod would be a write for every pod."""

_PULLS = ("ErrImagePull", "ImagePullBackOff")
_CREATING = "ContainerCreating: its image, volumes or network are not ready; the pod's events say which"


def pending_reason(pods: Sequence[Object], wanted: int, secret: str | None = None, refused: Sequence[str] = ()) -> str:
    """`1 of 2 pods run; Unschedulable: Insufficient nvidia.com/gpu`, by what most pods say.

    secret: that of the pods' store, where it has one. refused: why other pods under the Job's UID are not believed.
    """
    running = sum(is_running(pod) for pod in pods)
    said = Counter(why for pod in pods if (why := missing_secret(pod, secret) or _why(pod)) is not None)
    why = min(said, key=lambda text: (text == _CREATING, -said[text], text), default=None)
    if why is None and refused:
        why = refused[0]
    elif why is None and len(pods) < wanted:
        why = f"{_at_least(wanted - len(pods), wanted)} are not created; the Job's events say why"
    return f"{_at_least(running, wanted)} of {wanted} pods run" + (f"; {why}" if why else "")


def why_pending(
    found: JobPods, since: datetime, now: datetime, secret: str | None = None
) -> tuple[str | None, datetime | None]:
    """Why a Job's one pod does not run, once that has lasted for PENDING_GRACE, or when to look for that."""
    if any(is_running(pod) for pod in found.believed):
        return None, None
    if now < since + PENDING_GRACE:
        return None, since + PENDING_GRACE
    return pending_reason(found.believed, 1, secret, found.refused), None


def refresh_at(since: datetime, told_at: datetime) -> datetime:
    """When a text about pods that do not run may be replaced by another: the longer it lasts, the less often."""
    shortest, longest = REFRESHED_AFTER
    return told_at + min(max((told_at - since) / 2, shortest), longest)


def never_runs(pods: Sequence[Object]) -> Failure | None:
    """The failure of a pod that waits for what can never come: its image's name is none."""
    for pod in pods:
        waits = main_state(pod).get("waiting") or {}
        if waits.get("reason") == INVALID_IMAGE_NAME:
            said = str(waits.get("message") or "the image's name is not valid")
            return Failure(reason=INVALID_IMAGE_NAME, index=index_of(pod), message=shorten(said, 1024))
    return None


def missing_secret(pod: Object, secret: str | None) -> str | None:
    """Why a container cannot start, where it is for want of the store's Secret or of a key in it."""
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waits = container.get("state", {}).get("waiting") or {}
        message = str(waits.get("message", ""))
        if secret and waits.get("reason") == "CreateContainerConfigError" and secret in message:
            cure = f"create Secret {secret} with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            return f"spec.s3.secretRef of the ArtifactStore: {message}; {cure}"
    return None


def is_running(pod: Object) -> bool:
    """Whether it runs, or has run to its end."""
    return pod.get("status", {}).get("phase") in ("Running", "Succeeded")


def _why(pod: Object) -> str | None:
    status = pod.get("status", {})
    if has_ended(pod):
        return None
    for container in status.get("initContainerStatuses", ()):  # a webhook's: we make none in a Job
        if (why := _waits(container)) is not None:
            return f"init container {container['name']}: {why}"
    for container in status.get("containerStatuses", ()):
        if (why := _waits(container)) is not None:
            return why
    for condition in status.get("conditions", ()):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            said = _without_counts(condition.get("message", ""))
            return str(condition.get("reason", "Unschedulable")) + (f": {said}" if said else "")
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
    """`0/3 nodes are available: 2 Insufficient cpu, 1 node(s) had untolerated taint. ...` without its numbers.

    They change with every node that comes or goes.
    """
    causes = re.sub(r"^\d+/\d+ nodes are available: ", "", message).split(". ")[0].rstrip(".")
    return re.sub(r"(^|, )\d+ ", r"\1", causes)


def _at_least(count: int, of: int) -> str:
    """The count; of many pods, the quarter that is reached."""
    if of <= _EXACT or count in (0, of):
        return str(count)
    quarter = of * (4 * count // of) // 4
    return f"at least {quarter}" if quarter else f"fewer than {-(-of // 4)}"


TERMINATION_SLACK = timedelta(seconds=20)
"""A kubelet that lives kills a pod at the end of its grace period and says so; by so much it may be late."""
UNREACHABLE_AFTER = timedelta(minutes=5)
"""A pod that tolerates its Node's taints for ever is never deleted: it is given up after as long as Kubernetes itself
gives a pod without tolerations of its own."""
_NODE_SAYS = ("", "NodeNotReady", "NodeLost", "NodeStatusUnknown")
"""Reasons of a Ready condition that the node controller has turned: it leaves the kubelet's, which was empty."""


class _Lost(NamedTuple):
    at: datetime
    why: str


def lost_pod(pods: Sequence[Object], now: datetime) -> Failure | None:
    """The failure of the first pod that is lost with its Node; None where every pod may still tell of its end."""
    found = [(lost, pod) for pod in pods if (lost := _lost(pod)) is not None and lost.at <= now]
    if not found:
        return None
    lost, pod = min(found, key=lambda one: one[0].at)
    node = pod.get("spec", {}).get("nodeName")
    where = f"Node {node}" if node else "its Node"
    target = conditions_of(pod).get("DisruptionTarget", {})
    told = ": ".join(str(target[part]) for part in ("reason", "message") if target.get(part))
    message = f"{where} does not answer: pod {pod['metadata']['name']} {lost.why}" + (f" ({told})" if told else "")
    return Failure(reason=NODE_LOST, index=index_of(pod), message=message[:1024])


def lost_after(pods: Sequence[Object], now: datetime) -> datetime | None:
    """When to look again: the next time at which a pod will count as lost, where it does not end before."""
    return min((lost.at for pod in pods if (lost := _lost(pod)) is not None and lost.at > now), default=None)


def _lost(pod: Object) -> _Lost | None:
    """From when on a pod counts as lost, if nothing is heard of it until then."""
    meta, status = pod["metadata"], pod.get("status", {})
    if has_ended(pod) or (status.get("phase") == "Pending" and not pod.get("spec", {}).get("nodeName")):
        return None
    if status.get("reason") == NODE_LOST:
        return _Lost(datetime.min.replace(tzinfo=UTC), "is unresponsive")
    if deleted := meta.get("deletionTimestamp"):  # its grace period is in it
        return _Lost(datetime.fromisoformat(deleted) + TERMINATION_SLACK, "is Terminating and its grace period is over")
    ready: Object = next((one for one in status.get("conditions") or () if one.get("type") == "Ready"), {})
    if status.get("phase") != "Unknown" and not _turned(ready, pod):
        return None
    since = ready.get("lastTransitionTime")
    at = datetime.fromisoformat(since) + UNREACHABLE_AFTER if since else datetime.min.replace(tzinfo=UTC)
    return _Lost(at, "is not reported any more")


def _turned(ready: Object, pod: Object) -> bool:
    """Whether the node controller, not the kubelet, says that the pod is not ready: its container runs all the same."""
    if ready.get("status") == "Unknown":
        return True
    runs = "running" in main_state(pod)
    return ready.get("status") == "False" and ready.get("reason", "") in _NODE_SAYS and runs
