"""Pods whose Node does not answer any more: nobody will ever say that they have ended.

The Job controller replaces no pod that is still Terminating (podReplacementPolicy Failed, the only one that goes with a
podFailurePolicy), and on a lost Node a pod is Terminating for ever. So the planner looks for such pods itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from slipway.api.kinds import Object
from slipway.api.status import Failure
from slipway.plan.jobs.outcomes import conditions_of, has_ended, main_state
from slipway.plan.jobs.pods import index_of
from slipway.plan.jobs.retry import NODE_LOST

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
