"""How a Job ended, by its conditions and its pods' last words."""

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
"""Why a Job failed by a rule of its policy: a pod was taken away, or exited with an error."""
_BY_EXIT_CODE = "failed with exit code"
"""In the message of the second (getPodFailurePolicyMessage in pkg/controller/job/pod_failure_policy.go)."""
DEADLINE_EXCEEDED = "DeadlineExceeded"
"""Why a Job failed that was not over within its activeDeadlineSeconds."""
_BY_KUBELET = "TerminationByKubelet"
"""The DisruptionTarget of a pod that the kubelet ends: node pressure, a shutdown, room for a critical pod."""
_NOT_STARTED = ("StartError", "ContainerCannotRun")
"""What containerd and dockershim call a container whose process could not be started."""
WATCH_LAG = timedelta(seconds=30)
"""How far the watch of pods may lag behind that of Jobs: a Job without pods has not lost them until then."""

_CONSEQUENCES = {"SIGTERM": 1, "SignalException": 1, PEER_LOST: 2}
"""Exceptions that follow from another pod's end: a lost connection, and the Job controller's or torchrun's SIGTERM."""
_PEER_SIGNS = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "communicator was aborted")
_SIGTERM_EXIT = 143


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a Job ended. report: what index 0 reported on success; failure: the first that failed."""

    succeeded: bool
    report: Report | None = None
    failure: Failure | None = None

    @property
    def report_missing(self) -> bool:
        """The Job ended, but what its pods had to say is not to be had from the pods."""
        if self.succeeded:
            return self.report is None
        return self.failure is not None and self.failure.reason == UNKNOWN


@dataclass(frozen=True, slots=True)
class Replaced:
    """What stands for the lost pods of an Indexed Job, each a Job of one pod.

    indices: those whose own pods do not count any more. pods: the ones that do. succeeded: indices whose replacement
    has ended well. failure: that of a replacement, once the others had the time to end by it.
    """

    indices: frozenset[int] = frozenset()
    pods: tuple[Object, ...] = ()
    succeeded: frozenset[int] = frozenset()
    failure: Failure | None = None

    def complete(self, job: Object) -> bool:
        """Whether every index of the Job has succeeded, some by replacements. The Job itself never says so.

        It says that indices have failed, and not even that as long as a lost pod is Terminating on its Node.
        """
        done = indices_of(job, "completedIndexes") | self.succeeded
        over = is_over(job) or not self.indices <= indices_of(job, "failedIndexes")
        return bool(self.indices) and over and len(done) >= int(job["spec"].get("completions", 1))


NOTHING_REPLACED = Replaced()


def indices_of(job: Object, field: str) -> frozenset[int]:
    """A set of indices in the status of a Job, which writes it as `1,3-5`."""
    parts = [part.partition("-") for part in (job.get("status", {}).get(field) or "").split(",") if part]
    return frozenset(index for first, _, last in parts for index in range(int(first), int(last or first) + 1))


def failed_index(
    job: Object, pods: Sequence[Object], replaced: Replaced = NOTHING_REPLACED, before: Failure | None = None
) -> Failure | None:
    """The failure of an index that has failed while its Job goes on; None where there is none.

    A pod that exits with an error fails the whole Job: what fails an index alone is a disruption, or a kubelet that
    would not run the pod. before: the disruption that was seen first; its pod may be gone.
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


def job_end(job: Object, pods: Sequence[Object], replaced: Replaced = NOTHING_REPLACED) -> JobEnd | None:
    """None while the Job is not over, or is not seen to be: its last condition comes after its last pod has ended.

    A pod that still runs by what is seen of it has ended, then, and its event, which comes by another watch, is on the
    way with what the pod had to say.
    """
    conditions = conditions_of(job)
    failed = conditions.get("Failed")
    if failed is not None and _by_disruption(failed):  # tells it all
        return failed_end(failed, pods)
    if not all(has_ended(pod) for pod in pods):
        return None
    if "Complete" in conditions or replaced.complete(job):
        return JobEnd(True, report=success_report(pods))
    return None if failed is None else failed_end(failed, pods)


STUCK_AFTER = timedelta(seconds=120)
"""How long the end of a pod may come after that of its Job: it may be on a lost Node, or its event may never come."""


def remaining(job: Object, pods: Sequence[Object], now: datetime) -> Sequence[Object]:
    """The pods without those that are not seen to have ended, though their Job has for STUCK_AFTER: they are gone."""
    at = stuck_at(job)
    return pods if at is None or now < at else [pod for pod in pods if has_ended(pod)]


def stuck_at(job: Object) -> datetime | None:
    """When pods of a Job that has ended count as gone, whatever is seen of them; None while it has not ended."""
    conditions = conditions_of(job)
    over = conditions.get("Complete") or conditions.get("Failed")
    at = over.get("lastTransitionTime") if over else None
    return datetime.fromisoformat(at) + STUCK_AFTER if at else None


def failed_end(condition: Object, pods: Sequence[Object]) -> JobEnd:
    """The end that a Job's condition Failed, or FailureTarget before it, tells of."""
    if _by_disruption(condition):
        found = disruption(pods)
        if found is not None and found.reason == EVICTED:
            return JobEnd(False, failure=found)
        return JobEnd(False, failure=Failure(reason=PREEMPTED, message=str(condition.get("message", ""))[:1024]))
    if condition.get("reason") == DEADLINE_EXCEEDED:  # its pods are deleted, and tell nothing
        message = "the pod took longer than the deadline allows"
        return JobEnd(False, failure=Failure(reason=DEADLINE_EXCEEDED, message=message))
    return JobEnd(False, failure=disruption(pods) or first_failure(pods) or Failure(reason=UNKNOWN))


def _by_disruption(condition: Object) -> bool:
    return condition.get("reason") == BY_POLICY and _BY_EXIT_CODE not in str(condition.get("message", ""))


def wait_for_pods_until(job: Object, pods: Sequence[Object], now: datetime) -> datetime | None:
    """Until when to wait for pods of a Job that has ended of which nothing was heard yet; None where none is missing.

    They may be gone, or their watch may lag behind the Job's. Where the clocks do not agree nothing is waited for.
    """
    end = job_end(job, pods)
    if end is None or not end.report_missing or len(pods) >= int(job.get("spec", {}).get("completions", 1)):
        return None
    conditions = conditions_of(job)
    at = _time(conditions.get("Complete", conditions.get("Failed", {})).get("lastTransitionTime"))
    return at + WATCH_LAG if abs(now - at) < WATCH_LAG else None


def first_failure(pods: Sequence[Object]) -> Failure | None:
    """The failure of the pod that failed first: causes before their consequences, then by the report's time.

    Where a pod left no report, the time is that of its container's end.
    """
    failures = _failures(pods)
    return min(failures, key=_order)[1] if failures else None


def disruption(pods: Sequence[Object]) -> Failure | None:
    """The disruption (preemption, eviction, a taint) that ended the work; None where a pod had failed before it.

    The other pods fail of it before the disrupted one has ended, so the Job's own reason tells of them. An eviction for
    what the pod itself used is told as such (EVICTED).
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
    told = ": ".join(str(condition[part]) for part in ("reason", "message") if condition.get(part))
    return Failure(reason=PREEMPTED, index=index, message=told[:1024] or None)


def is_consequence(failure: Failure) -> bool:
    """Whether the failure must have followed from another pod's end, which is then the one to tell of."""
    return _consequence(failure) > 0


def failure_of_report(report: Report, index: int | None) -> Failure:
    """A reported error as the status keeps it. The report's outcome is `failed`."""
    error = report.error
    lacks_input = error is not None and error.rank is None and error.exception == InputMissing.__name__
    return Failure(
        reason=INPUT_MISSING if lacks_input else "Error",
        index=index,
        rank=error.rank if error else None,
        exception=error.exception if error else None,
        message=error.message if error else None,
        exit_code=error.exit_code if error else None,
        missing=error.missing if error else None,
    )


def describe_failure(failure: Failure) -> str:
    """`rank 1 (pod 1): ValueError: boom (exit code 1)`, as much of it as is known."""
    pod = None if failure.index is None else f"pod {failure.index}"
    where = pod if failure.rank is None else f"rank {failure.rank}" + (f" ({pod})" if pod else "")
    code = "" if failure.exit_code is None else f" (exit code {failure.exit_code})"
    return ": ".join(part for part in (where, failure.exception or failure.reason, failure.message) if part) + code


def describe_cause(failure: Failure) -> str:
    """The same of a Step, which has one pod: `Error: killed (exit code 137)`. Python exits with 1 for any exception."""
    quiet = failure.exception is not None and failure.exit_code in (0, 1)
    return describe_failure(
        failure.model_copy(update={"index": None, "rank": None, **({"exit_code": None} if quiet else {})})
    )


def conditions_of(obj: Object) -> dict[str, Object]:
    """The conditions of any object that are True, by type."""
    return {c["type"]: c for c in obj.get("status", {}).get("conditions") or () if c.get("status") == "True"}


def is_over(job: Object) -> bool:
    """Whether the Job controller is done with it."""
    return not conditions_of(job).keys().isdisjoint(("Complete", "Failed"))


def lingers(job: Object) -> bool:
    """Whether a Job whose end is known goes on: a pod of it is lost with its Node, or can never run."""
    return not is_over(job) and "FailureTarget" not in conditions_of(job)


def has_ended(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def has_started(pod: Object) -> bool:
    """Whether its main container ever ran, as far as the pod tells."""
    state = main_state(pod)
    return "running" in state or "terminated" in state or pod.get("status", {}).get("phase") in ("Running", "Succeeded")


def main_state(pod: Object) -> Object:
    """The state of the container that works: waiting, running or terminated; empty before the kubelet has told it."""
    for status in pod.get("status", {}).get("containerStatuses") or ():
        if status["name"] == CONTAINER:
            state: Object = status.get("state", {})
            return state
    return {}


def success_report(pods: Sequence[Object]) -> Report | None:
    """What index 0 has reported on success, whatever became of the others."""
    return next((report for pod in pods if (report := _termination_report(pod))), None)


def _termination_report(pod: Object) -> Report | None:
    """The report of a pod that exited with 0; None for index > 0, which has nothing to say."""
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
    """0 for what may be a cause; more for what less likely is."""
    if failure.message and any(sign in failure.message for sign in _PEER_SIGNS):
        return 2
    if failure.exception is None and failure.exit_code == _SIGTERM_EXIT:
        return 1
    return _CONSEQUENCES.get(failure.exception or "", 0)


def _failure(pod: Object) -> tuple[datetime, Failure] | None:
    """When and why the pod failed."""
    status = pod.get("status", {})
    ended = _terminated(pod)
    index = index_of(pod)
    if status.get("phase") == "Failed" and (ended is None or status.get("reason")):  # a reason is the kubelet's own
        why = str(status.get("reason") or LOST_PODS)[:64]
        said = str(status.get("message", "")) or _init_failure(status)
        return _time((ended or {}).get("finishedAt")), Failure(reason=why, index=index, message=said[:1024] or None)
    if ended is None:
        return None
    if int(ended.get("exitCode", 0)) == 0:
        return None
    report = parse_report(ended.get("message"))
    if report is None or report.outcome != "failed":
        return _time(ended.get("finishedAt")), _unreported(ended, index)
    failure = failure_of_report(report, index)
    code = failure.exit_code if failure.exit_code is not None else int(ended["exitCode"])
    at = report.at if report.at.tzinfo else report.at.replace(tzinfo=UTC)  # a pod may write what it likes
    return at, failure.model_copy(update={"exit_code": code})


def _init_failure(status: Mapping[str, Any]) -> str:
    """Of a pod whose main container never began; "" where no init container failed. A webhook's: we make none."""
    for container in status.get("initContainerStatuses", ()):
        ended = container.get("state", {}).get("terminated") or {}
        if code := ended.get("exitCode"):
            said = ended.get("message") or ended.get("reason") or ""
            return f"init container {container['name']} ended with {code}" + (f": {said}" if said else "")
    return ""


def _unreported(ended: Mapping[str, object], index: int | None) -> Failure:
    """The failure of a container that ended without a report of ours."""
    code = int(str(ended["exitCode"]))
    if ended.get("reason") in _NOT_STARTED:
        said = shorten(str(ended.get("message") or ""), 1024)
        return Failure(reason=START_ERROR, index=index, message=said or None, exit_code=code)
    words = parse_termination_message(str(ended.get("message") or ""))
    reason = OOM_KILLED if ended.get("reason") == OOM_KILLED else "Signal" if code > 128 else "Error"
    return Failure(
        reason=reason,
        index=index,
        rank=words.rank,
        exception=words.exception[:256] if words.exception else None,
        message=shorten(words.message, 1024) if words.message else None,
        exit_code=words.exit_code if words.exit_code is not None else code,
    )


_LAST = datetime.max.replace(tzinfo=UTC)


def _time(text: object) -> datetime:
    """A time of the API (RFC 3339); the end of time where there is none."""
    return datetime.fromisoformat(str(text)) if text else _LAST


def _target(pod: Object) -> Object | None:
    """The condition by which Kubernetes says that it takes the pod away (KEP-3329)."""
    return conditions_of(pod).get("DisruptionTarget")


def _terminated(pod: Object) -> Object | None:
    ended: Object | None = main_state(pod).get("terminated")
    return ended
