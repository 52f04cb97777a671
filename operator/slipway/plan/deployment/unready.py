"""The reasons why serving pods do not get ready, from their statuses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from slipway.api.errors import ArtifactError, InputMissing
from slipway.api.kinds import Object
from slipway.api.reports import parse_report, shorten
from slipway.plan.deployment.manifests import FETCH
from slipway.plan.jobs.outcomes import conditions_of
from slipway.plan.jobs.pending import missing_secret
from slipway.plan.jobs.retry import INVALID_IMAGE_NAME

_STARTING = frozenset({"ContainerCreating", "PodInitializing", "CrashLoopBackOff"})
"""Reasons of a waiting container without information: it starts, or its last end has the reason."""
_FINAL = frozenset({ArtifactError.__name__, InputMissing.__name__})
"""Exceptions of the init container `fetch` that every other try raises again."""


@dataclass(frozen=True, slots=True)
class UnreadyReason:
    """A reason why pods are not ready. final: waiting will not help, because the repository in the store is wrong."""

    message: str
    final: bool = False


def unready_reason(
    pods: Sequence[Object], secret: str | None = None, packed_at: datetime | None = None
) -> UnreadyReason | None:
    """Return the first reason of the pods that are not ready, final ones first; None if they are starting.

    packed_at: when the repository was packaged, if that is known: a pod that missed it before may find it now.
    """
    found = [reason for pod in _not_terminating(pods) for reason in _unready_reasons(pod, secret, packed_at)]
    return next((reason for reason in found if reason.final), found[0] if found else None)


def missed_at(pods: Sequence[Object], digest: str) -> datetime | None:
    """Return when a pod last did not find the repository of that digest in the store; None if all have found it."""
    ends = (
        _end(one)
        for pod in _not_terminating(pods)
        for one in pod.get("status", {}).get("initContainerStatuses", ())
        if one["name"] == FETCH
    )
    return max((at for end in ends if (at := _missed_at(end, digest)) is not None), default=None)


def _missed_at(end: Object, digest: str | None = None) -> datetime | None:
    report = parse_report(end.get("message")) if end.get("exitCode") else None
    error = report.error if report is not None else None
    if error is None or error.exception != InputMissing.__name__ or not end.get("finishedAt"):
        return None
    return datetime.fromisoformat(end["finishedAt"]) if digest is None or error.missing == digest else None


def _not_terminating(pods: Iterable[Object]) -> Iterator[Object]:
    return (pod for pod in pods if "deletionTimestamp" not in pod["metadata"])


def _end(container: Object) -> Object:
    """Return the last end of a container; empty if it has not ended."""
    found: Object = container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated")
    return found or {}


def creation_failure(deployment: Object) -> UnreadyReason | None:
    """Return why its pods are not created (a quota, a policy, a webhook); None if they are."""
    refused = conditions_of(deployment).get("ReplicaFailure")
    if refused is None:
        return None
    return UnreadyReason(f"{refused.get('reason', 'FailedCreate')}: {shorten(str(refused.get('message', '')), 300)}")


def _unready_reasons(pod: Object, secret: str | None, packed_at: datetime | None) -> Iterator[UnreadyReason]:
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if (missing := missing_secret(pod, secret)) is not None:
        yield UnreadyReason(missing)
    for one in status.get("initContainerStatuses", ()):
        yield from _container_reasons(name, one, packed_at)
    for one in status.get("containerStatuses", ()):
        if not one.get("ready"):
            yield from _container_reasons(name, one, packed_at)
    for condition in status.get("conditions", ()):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield UnreadyReason(f"pod {name} is not scheduled: {shorten(str(condition.get('message', '')), 300)}")


def _container_reasons(pod: str, container: Object, packed_at: datetime | None) -> Iterator[UnreadyReason]:
    ended, waiting = _end(container), container.get("state", {}).get("waiting", {})
    if ended.get("exitCode"):
        report = parse_report(ended.get("message"))
        if container["name"] == FETCH and report is not None and report.error is not None:
            error = f"{report.error.exception}: {report.error.message}"
            at = _missed_at(ended)
            if at is not None and packed_at is not None and at < packed_at:
                yield UnreadyReason(f"pod {pod} did not find the repository, which was packed again since: {error}")
            else:
                yield UnreadyReason(
                    f"the repository cannot be fetched: {error}", final=report.error.exception in _FINAL
                )
        else:
            text = shorten(" ".join(str(ended.get("message") or ended.get("reason") or "").split()), 300)
            yield UnreadyReason(f"container {container['name']} of pod {pod} ended with {ended['exitCode']}: {text}")
    elif waiting.get("reason") and waiting["reason"] not in _STARTING:
        text = shorten(str(waiting.get("message", "")), 300)
        final = waiting["reason"] == INVALID_IMAGE_NAME
        yield UnreadyReason(f"container {container['name']} of pod {pod}: {waiting['reason']}: {text}", final=final)
