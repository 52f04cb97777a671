"""Why the pods of an attempt do not run, in words that stay the same as long as the cause does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

from slipway.api.kinds import Object

PATIENCE = timedelta(seconds=60)
"""Pods that take longer to run have a cause worth a write of the status; image pulls and scheduling take less."""

_PULLS = ("ErrImagePull", "ImagePullBackOff")
_QUIET = frozenset({"ContainerCreating", "PodInitializing", ""})


def trouble(pods: Sequence[Object], wanted: int, secret: str | None = None, refused: Sequence[str] = ()) -> str:
    """`1 of 2 pods run; Unschedulable: Insufficient nvidia.com/gpu`, by the first pod that says why.

    secret: that of the pods' store, where it has one. refused: why other pods under the Job's UID are not believed.
    """
    running = sum(is_running(pod) for pod in pods)
    said = next((why for pod in pods if (why := missing_secret(pod, secret) or _why(pod))), None)
    if said is None and refused:
        said = refused[0]
    elif said is None and len(pods) < wanted:
        said = f"{wanted - len(pods)} are not created; the Job's events say why"
    return f"{running} of {wanted} pods run" + (f"; {said}" if said else "")


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
    for container in status.get("initContainerStatuses", ()):  # a webhook's: we make none in a Job
        if (why := _waits(container)) is not None:
            return f"init container {container['name']}: {why}"
    for container in status.get("containerStatuses", ()):
        if (why := _waits(container)) is not None:
            return why
    for condition in status.get("conditions", ()):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"{condition.get('reason', 'Unschedulable')}: {_without_counts(condition.get('message', ''))}"
    return None


def _waits(container: Object) -> str | None:
    waits = container.get("state", {}).get("waiting") or {}
    reason, message = str(waits.get("reason", "")), waits.get("message", "")
    if reason in _QUIET:
        return None
    if reason in _PULLS:  # the two alternate, and so do their messages
        return f"ImagePullBackOff: {container.get('image', '')}"
    return f"{reason}: {message}" if message else reason


def _without_counts(message: str) -> str:
    """`0/3 nodes are available: 2 Insufficient cpu, 1 node(s) had untolerated taint. ...` without its numbers.

    They change with every node that comes or goes.
    """
    causes = re.sub(r"^\d+/\d+ nodes are available: ", "", message).split(". ")[0].rstrip(".")
    return re.sub(r"(^|, )\d+ ", r"\1", causes)
