"""How a Job ended, by its conditions and its pods' last words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slipway.api.kinds import Object
from slipway.api.reports import Report, parse_report, shorten
from slipway.api.status import Failure
from slipway.plan.pods import CONTAINER

INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"

PREEMPTED = "Preempted"
UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a Job ended. report: what index 0 reported on success; failure: the first that failed."""

    succeeded: bool
    report: Report | None = None
    failure: Failure | None = None

    @property
    def silent(self) -> bool:
        """The Job ended, but what its pods had to say is not to be had from the pods."""
        if self.succeeded:
            return self.report is None
        return self.failure is not None and self.failure.reason == UNKNOWN


def job_end(job: Object, pods: Sequence[Object]) -> JobEnd | None:
    """None while the Job is not over (its Failed condition comes after its last pod has ended)."""
    conditions = {c["type"]: c for c in job.get("status", {}).get("conditions", ()) if c.get("status") == "True"}
    if "Complete" in conditions:
        return JobEnd(True, report=next((r for pod in pods if (r := _last_word(pod))), None))
    if "Failed" not in conditions:
        return None
    condition = conditions["Failed"]
    if condition.get("reason") == "PodFailurePolicy":
        return JobEnd(False, failure=Failure(reason=PREEMPTED, message=str(condition.get("message", ""))[:1024]))
    return JobEnd(False, failure=first_failure(pods) or Failure(reason=UNKNOWN))


def first_failure(pods: Sequence[Object]) -> Failure | None:
    """The failure of the pod that failed first: by its report's time, else by when its container ended."""
    failures = [found for pod in pods if (found := _failure(pod))]
    return min(failures, key=lambda found: found[0])[1] if failures else None


def _last_word(pod: Object) -> Report | None:
    """The report of a pod that exited with 0; None for index > 0, which has nothing to say."""
    ended = _terminated(pod)
    if ended is None or ended.get("exitCode") != 0 or index_of(pod) not in (0, None):
        return None
    return parse_report(ended.get("message"))


def failure_of_report(report: Report, index: int | None) -> Failure:
    """A reported error as the status keeps it. The report's outcome is `failed`."""
    error = report.error
    return Failure(
        reason="Error",
        index=index,
        rank=error.rank if error else None,
        exception=error.exception if error else None,
        message=error.message if error else None,
        exit_code=error.exit_code if error else None,
    )


def index_of(pod: Object) -> int | None:
    meta = pod["metadata"]
    text = meta.get("labels", {}).get(INDEX_LABEL) or meta.get("annotations", {}).get(INDEX_ANNOTATION)
    return int(text) if text is not None and text.isdigit() else None


def _failure(pod: Object) -> tuple[str, Failure] | None:
    """When (RFC 3339) and why the pod failed."""
    status = pod.get("status", {})
    ended = _terminated(pod)
    index = index_of(pod)
    if ended is None:
        if status.get("phase") != "Failed":
            return None
        why = str(status.get("reason") or "Lost")[:64]
        return _LAST, Failure(reason=why, index=index, message=str(status.get("message", ""))[:1024] or None)
    code = int(ended.get("exitCode", 0))
    if code == 0:
        return None
    report = parse_report(ended.get("message"))
    if report is not None and report.outcome == "failed":
        failure = failure_of_report(report, index)
        exit_code = failure.exit_code if failure.exit_code is not None else code
        at = report.to_wire()["at"]
        return at, failure.model_copy(update={"exit_code": exit_code})
    reason = "OOMKilled" if ended.get("reason") == "OOMKilled" else "Signal" if code > 128 else "Error"
    message = shorten(str(ended.get("message") or "").strip(), 1024) or None
    return str(ended.get("finishedAt") or _LAST), Failure(reason=reason, index=index, exit_code=code, message=message)


_LAST = "9999-12-31T23:59:59Z"


def _terminated(pod: Object) -> Object | None:
    for status in pod.get("status", {}).get("containerStatuses", ()):
        if status["name"] == CONTAINER:
            ended: Object | None = status.get("state", {}).get("terminated")
            return ended
    return None
