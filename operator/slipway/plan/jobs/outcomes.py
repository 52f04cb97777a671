"""The end of a Job, from its conditions and the termination messages of its pods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from slipway.api.errors import InputMissing
from slipway.api.kinds import Object
from slipway.api.reports import PEER_LOST, Report, parse_report, shorten
from slipway.api.status import Failure
from slipway.plan.jobs.pods import index_of
from slipway.plan.jobs.retry import (
    EVICTED,
    INPUT_MISSING,
    LOST_PODS,
    OOM_KILLED,
    PREEMPTED,
    START_ERROR,
    UNKNOWN,
    is_own_eviction,
)
from slipway.plan.jobs.termination import parse_termination_message
from slipway.plan.pods import CONTAINER

BY_POLICY = "PodFailurePolicy"
"""Reason of a Job that failed by a rule of its policy: a pod was disrupted, or exited with an error."""
_BY_EXIT_CODE = "failed with exit code"
"""Part of the message after an error (getPodFailurePolicyMessage in pkg/controller/job/pod_failure_policy.go)."""
DEADLINE_EXCEEDED = "DeadlineExceeded"
"""Reason of a Job that did not end within its activeDeadlineSeconds."""
_BY_KUBELET = "TerminationByKubelet"
"""Reason of DisruptionTarget if the kubelet ends a pod: node pressure, a shutdown, room for a critical pod."""
_NOT_STARTED = ("StartError", "ContainerCannotRun")
"""Reasons of containerd and dockershim for a container whose process could not be started."""
WATCH_LAG = timedelta(seconds=30)
"""Maximum lag between the watches of pods and of Jobs: pods of an ended Job count as missing only after it."""

_CONSEQUENCES = {"SIGTERM": 1, "SignalException": 1, PEER_LOST: 2}
"""Exceptions after the end of another pod: a lost connection, or a SIGTERM of the Job controller or torchrun."""
_PEER_SIGNS = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "communicator was aborted")
_SIGTERM_EXIT = 143


@dataclass(frozen=True, slots=True)
class JobEnd:
    """The end of a Job. report: that of index 0 on success; failure: that of the first failed pod."""

    succeeded: bool
    report: Report | None = None
    failure: Failure | None = None

    @property
    def report_missing(self) -> bool:
        """True if the Job ended, and the pods that remain do not have its report."""
        if self.succeeded:
            return self.report is None
        return self.failure is not None and self.failure.reason == UNKNOWN


@dataclass(frozen=True, slots=True)
class Replaced:
    """The replacements of lost pods of an Indexed Job, each a Job of one pod.

    indices: the replaced indices, whose own pods do not count any more. pods: the replacing pods. succeeded: indices
    whose replacement succeeded. failure: that of a replacement, after the other pods had time to end.
    """

    indices: frozenset[int] = frozenset()
    pods: tuple[Object, ...] = ()
    succeeded: frozenset[int] = frozenset()
    failure: Failure | None = None

    def complete(self, job: Object) -> bool:
        """Return True if every index of the Job has succeeded, some by replacements, which the Job does not show.

        Its status shows failed indices, and not even these while a lost pod is Terminating on its Node.
        """
        done = indices_of(job, "completedIndexes") | self.succeeded
        over = is_over(job) or not self.indices <= indices_of(job, "failedIndexes")
        return bool(self.indices) and over and len(done) >= int(job["spec"].get("completions", 1))


NO_REPLACEMENTS = Replaced()


def indices_of(job: Object, field: str) -> frozenset[int]:
    """Return a set of indices from the status of a Job, which has the form `1,3-5`."""
    parts = [part.partition("-") for part in (job.get("status", {}).get(field) or "").split(",") if part]
    return frozenset(index for first, _, last in parts for index in range(int(first), int(last or first) + 1))


def failed_index(
    job: Object, pods: Sequence[Object], replaced: Replaced = NO_REPLACEMENTS, before: Failure | None = None
) -> Failure | None:
    """Return the failure of an index that has failed while its Job continues; None if there is none.

    A pod that exits with an error fails the whole Job: a single index fails only by a disruption, or if the kubelet did
    not admit the pod. before: the first observed disruption; its pod may be gone.
    """
    failed = indices_of(job, "failedIndexes") - replaced.indices
    if not failed or not lingers(job) or "backoffLimitPerIndex" not in job["spec"]:
        return None
    index = min(failed)
    own = [pod for pod in pods if index_of(pod) == index]
    if (found := disruption(own) or first_failure(own)) is not None:
        return found.model_copy(update={"index": index})
    if before is not None and before.index == index:
        return before
    return Failure(reason=PREEMPTED, index=index, message=f"the pod of index {index} was taken away before it ended")


def job_end(job: Object, pods: Sequence[Object], replaced: Replaced = NO_REPLACEMENTS) -> JobEnd | None:
    """Return the end of a Job; None before its end. Its last condition follows the end of its last pod.

    A pod that still appears to run has then ended, and the other watch will deliver its event, with its report.
    """
    conditions = conditions_of(job)
    failed = conditions.get("Failed")
    if failed is not None and _by_disruption(failed):  # the pods' own reports are not needed
        return failed_end(failed, pods)
    if not all(has_ended(pod) for pod in pods):
        return None
    if "Complete" in conditions or replaced.complete(job):
        return JobEnd(True, report=success_report(pods))
    return None if failed is None else failed_end(failed, pods)


STUCK_AFTER = timedelta(seconds=120)
"""Time after the end of a Job in which its pods must end: a pod may be on a lost Node, or its event may be missing."""


def remaining(job: Object, pods: Sequence[Object], now: datetime) -> Sequence[Object]:
    """Return the pods without those that have not ended STUCK_AFTER the end of their Job, which count as gone."""
    at = stuck_at(job)
    return pods if at is None or now < at else [pod for pod in pods if has_ended(pod)]


def stuck_at(job: Object) -> datetime | None:
    """Return when pods of an ended Job that have not ended count as gone; None before the end of the Job."""
    conditions = conditions_of(job)
    over = conditions.get("Complete") or conditions.get("Failed")
    at = over.get("lastTransitionTime") if over else None
    return datetime.fromisoformat(at) + STUCK_AFTER if at else None


def failed_end(condition: Object, pods: Sequence[Object]) -> JobEnd:
    """Return the end of a Job from its condition Failed, or FailureTarget before it."""
    if _by_disruption(condition):
        found = disruption(pods)
        if found is not None and found.reason == EVICTED:
            return JobEnd(False, failure=found)
        return JobEnd(False, failure=Failure(reason=PREEMPTED, message=str(condition.get("message", ""))[:1024]))
    if condition.get("reason") == DEADLINE_EXCEEDED:  # the Job controller deletes its pods
        message = "the pod took longer than the deadline allows"
        return JobEnd(False, failure=Failure(reason=DEADLINE_EXCEEDED, message=message))
    return JobEnd(False, failure=disruption(pods) or first_failure(pods) or Failure(reason=UNKNOWN))


def _by_disruption(condition: Object) -> bool:
    return condition.get("reason") == BY_POLICY and _BY_EXIT_CODE not in str(condition.get("message", ""))


def wait_for_pods_until(job: Object, pods: Sequence[Object], now: datetime) -> datetime | None:
    """Return until when to wait for missing pods of an ended Job; None if none is missing.

    They may be gone, or their watch may lag behind that of Jobs. If the clocks differ too much, there is no wait.
    """
    end = job_end(job, pods)
    if end is None or not end.report_missing or len(pods) >= int(job.get("spec", {}).get("completions", 1)):
        return None
    conditions = conditions_of(job)
    at = _time(conditions.get("Complete", conditions.get("Failed", {})).get("lastTransitionTime"))
    return at + WATCH_LAG if abs(now - at) < WATCH_LAG else None


def first_failure(pods: Sequence[Object]) -> Failure | None:
    """Return the failure of the pod that failed first: causes before consequences, then by the time of the report.

    The time of a pod without a report is the end of its container.
    """
    failures = _failures(pods)
    return min(failures, key=_order)[1] if failures else None


def disruption(pods: Sequence[Object]) -> Failure | None:
    """Return the disruption (preemption, eviction, a taint) that ended the Job; None if a pod failed before it.

    The other pods fail as a consequence before the disrupted one has ended, so the Job's own reason may be theirs. An
    eviction because of the pod's own usage has the reason EVICTED.
    """
    disrupted = [(_time(c.get("lastTransitionTime")), index_of(pod), c) for pod in pods if (c := _target(pod))]
    if not disrupted:
        return None
    at, index, condition = min(disrupted, key=lambda found: found[0])
    if any(failed_at < at for failed_at, failure in _failures(pods) if not _consequence(failure)):
        return None
    message = str(condition.get("message", ""))
    if condition.get("reason") == _BY_KUBELET and is_own_eviction(message):
        return Failure(reason=EVICTED, index=index, message=message[:1024])
    text = ": ".join(str(condition[part]) for part in ("reason", "message") if condition.get(part))
    return Failure(reason=PREEMPTED, index=index, message=text[:1024] or None)


def is_consequence(failure: Failure) -> bool:
    """Return True if the failure is a consequence of the end of another pod, which is then the cause."""
    return _consequence(failure) > 0


def failure_of_report(report: Report, index: int | None) -> Failure:
    """Return the error of a report as a Failure. The report's outcome is `failed`."""
    error = report.error
    input_missing = error is not None and error.rank is None and error.exception == InputMissing.__name__
    return Failure(
        reason=INPUT_MISSING if input_missing else "Error",
        index=index,
        rank=error.rank if error else None,
        exception=error.exception if error else None,
        message=error.message if error else None,
        exit_code=error.exit_code if error else None,
        missing=error.missing if error else None,
    )


def describe_failure(failure: Failure) -> str:
    """Describe a failure: `rank 1 (pod 1): ValueError: boom (exit code 1)`, without unknown parts."""
    pod = None if failure.index is None else f"pod {failure.index}"
    where = pod if failure.rank is None else f"rank {failure.rank}" + (f" ({pod})" if pod else "")
    code = "" if failure.exit_code is None else f" (exit code {failure.exit_code})"
    return ": ".join(part for part in (where, failure.exception or failure.reason, failure.message) if part) + code


def describe_cause(failure: Failure) -> str:
    """Describe the failure of a Step, which has one pod: `Error: killed (exit code 137)`."""
    quiet = failure.exception is not None and failure.exit_code in (0, 1)
    return describe_failure(
        failure.model_copy(update={"index": None, "rank": None, **({"exit_code": None} if quiet else {})})
    )


def conditions_of(obj: Object) -> dict[str, Object]:
    """Return the conditions of any object with status True, by type."""
    return {c["type"]: c for c in obj.get("status", {}).get("conditions") or () if c.get("status") == "True"}


def is_over(job: Object) -> bool:
    """Return True if the Job is complete or failed."""
    return not conditions_of(job).keys().isdisjoint(("Complete", "Failed"))


def lingers(job: Object) -> bool:
    """Return True if the Job controller has not ended the Job: a pod may be lost, or can never run."""
    return not is_over(job) and "FailureTarget" not in conditions_of(job)


def has_ended(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def has_started(pod: Object) -> bool:
    """Return True if the status of the pod shows that its main container has run."""
    state = main_state(pod)
    return "running" in state or "terminated" in state or pod.get("status", {}).get("phase") in ("Running", "Succeeded")


def main_state(pod: Object) -> Object:
    """Return the state of the main container: waiting, running or terminated; empty before the kubelet reports it."""
    for status in pod.get("status", {}).get("containerStatuses") or ():
        if status["name"] == CONTAINER:
            state: Object = status.get("state", {})
            return state
    return {}


def success_report(pods: Sequence[Object]) -> Report | None:
    """Return the report of a success of index 0, independently of the other pods."""
    return next((report for pod in pods if (report := _termination_report(pod))), None)


def _termination_report(pod: Object) -> Report | None:
    """Return the report of a pod that exited with 0; None for index > 0, which writes none."""
    ended = _terminated(pod)
    if ended is None or ended.get("exitCode") != 0 or index_of(pod) not in (0, None):
        return None
    return parse_report(ended.get("message"))


def _failures(pods: Sequence[Object]) -> list[tuple[datetime, Failure]]:
    return [found for pod in pods if (found := _failure(pod))]


def _order(found: tuple[datetime, Failure]) -> tuple[int, datetime, int]:
    at, failure = found
    return _consequence(failure), at, failure.index or 0


def _consequence(failure: Failure) -> int:
    """Return 0 for a possible cause, and more for a more likely consequence."""
    if failure.message and any(sign in failure.message for sign in _PEER_SIGNS):
        return 2
    if failure.exception is None and failure.exit_code == _SIGTERM_EXIT:
        return 1
    return _CONSEQUENCES.get(failure.exception or "", 0)


def _failure(pod: Object) -> tuple[datetime, Failure] | None:
    """Return when and why the pod failed; None if it did not."""
    status = pod.get("status", {})
    ended = _terminated(pod)
    index = index_of(pod)
    if status.get("phase") == "Failed" and (ended is None or status.get("reason")):  # the kubelet sets a reason
        why = str(status.get("reason") or LOST_PODS)[:64]
        text = str(status.get("message", "")) or _init_failure(status)
        return _time((ended or {}).get("finishedAt")), Failure(reason=why, index=index, message=text[:1024] or None)
    if ended is None:
        return None
    if int(ended.get("exitCode", 0)) == 0:
        return None
    report = parse_report(ended.get("message"))
    if report is None or report.outcome != "failed":
        return _time(ended.get("finishedAt")), _unreported(ended, index)
    failure = failure_of_report(report, index)
    code = failure.exit_code if failure.exit_code is not None else int(ended["exitCode"])
    at = report.at if report.at.tzinfo else report.at.replace(tzinfo=UTC)  # a pod may write any text
    return at, failure.model_copy(update={"exit_code": code})


def _init_failure(status: Mapping[str, Any]) -> str:
    """Describe the failure of an init container, which a webhook added; "" if none failed."""
    for container in status.get("initContainerStatuses", ()):
        ended = container.get("state", {}).get("terminated") or {}
        if code := ended.get("exitCode"):
            text = ended.get("message") or ended.get("reason") or ""
            return f"init container {container['name']} ended with {code}" + (f": {text}" if text else "")
    return ""


def _unreported(ended: Mapping[str, object], index: int | None) -> Failure:
    """Return the failure of a container that ended without a report of the runtime."""
    code = int(str(ended["exitCode"]))
    if ended.get("reason") in _NOT_STARTED:
        text = shorten(str(ended.get("message") or ""), 1024)
        return Failure(reason=START_ERROR, index=index, message=text or None, exit_code=code)
    parsed = parse_termination_message(str(ended.get("message") or ""))
    reason = OOM_KILLED if ended.get("reason") == OOM_KILLED else "Signal" if code > 128 else "Error"
    return Failure(
        reason=reason,
        index=index,
        rank=parsed.rank,
        exception=parsed.exception[:256] if parsed.exception else None,
        message=shorten(parsed.message, 1024) if parsed.message else None,
        exit_code=parsed.exit_code if parsed.exit_code is not None else code,
    )


_LAST = datetime.max.replace(tzinfo=UTC)


def _time(text: object) -> datetime:
    """Return a time of the API (RFC 3339); the latest possible time if there is none."""
    return datetime.fromisoformat(str(text)) if text else _LAST


def _target(pod: Object) -> Object | None:
    """Return the condition DisruptionTarget of a pod that Kubernetes deletes (KEP-3329)."""
    return conditions_of(pod).get("DisruptionTarget")


def _terminated(pod: Object) -> Object | None:
    ended: Object | None = main_state(pod).get("terminated")
    return ended
