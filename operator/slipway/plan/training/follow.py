"""The open attempt: carried out, watched, and closed by what is seen of it or by what the spec says now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.errors import SpecError
from slipway.api.kinds import JOB, NETWORK_POLICY, SERVICE, Key, Object
from slipway.api.reports import Report
from slipway.api.status import Failure
from slipway.api.trainingjob import Attempt, AttemptOutcome, TrainingJobStatus
from slipway.plan.jobpods import JobPods, own_job, pods_of
from slipway.plan.outcomes import (
    PREEMPTED,
    UNKNOWN,
    JobEnd,
    conditions_of,
    disruption,
    failed_end,
    failure_of_report,
    is_consequence,
    job_end,
    unheard_until,
)
from slipway.plan.plan import Plan, earliest
from slipway.plan.pods import Placement
from slipway.plan.references import NotYet, known_pool, known_store, placement_of
from slipway.plan.rereads import LOST, Reread, end_of_report, follow_reread, told_of
from slipway.plan.storemount import StoreMount, secret_of
from slipway.plan.training import manifests
from slipway.plan.training.attempts import ended, failed, folder
from slipway.plan.training.retry import deadline
from slipway.plan.training.round import Round
from slipway.plan.training.works import data_refs, where_only
from slipway.plan.trouble import PATIENCE, is_running, trouble

STUCK_AFTER = timedelta(seconds=120)
"""A failing Job waits for its last pod; one on a lost node may never end, and the others have told enough by then."""


@dataclass(frozen=True, slots=True)
class Followed:
    """The attempt as it is now. report: what it left, once it succeeded; trouble: why its pods do not run."""

    attempt: Attempt
    plan: Plan = field(default_factory=Plan)
    report: Report | None = None
    trouble: str | None = None


def follow(round_: Round, status: TrainingJobStatus, attempt: Attempt) -> Followed:
    """Raises SpecError for a name that another owns, NotYet for a store or pool that is needed now and is gone.

    What is seen goes before what is wanted: an attempt that has ended ended so, whatever the spec says by now.
    """
    job = round_.parent.own(round_.seen, JOB, attempt.job)
    found = _follow(round_, status, attempt, job)
    if job is not None or attempt.job_uid is None:
        return found
    return replace(found, plan=found.plan.plus(Plan(gone=(Key(JOB, round_.parent.namespace, attempt.job),))))


def _follow(round_: Round, status: TrainingJobStatus, attempt: Attempt, job: Object | None) -> Followed:
    if attempt.job_uid is None:
        if job is None:
            return _carried_out(round_, status, attempt)
        own_job(round_.parent, job, _job(round_, status, attempt), round_.settings)
        attempt = attempt.model_copy(update={"job_uid": job["metadata"]["uid"]})
    if job is not None and job["metadata"]["uid"] != attempt.job_uid:
        job = None
    pods, refused = pods_of(round_.seen, job, round_.settings) if job else JobPods((), ())
    end = _end(job, pods, round_.now) if job else None
    if end is not None:
        if job is not None and (heard_at := unheard_until(job, pods, round_.now)) is not None:
            return Followed(attempt, Plan(wake_at=heard_at))
        if round_.spec.image is not None or _tells_all(end, attempt, pods):
            return _closed(round_, attempt, end)
        attempt = _remembering(attempt, end.failure)
    completed = end is not None and end.succeeded  # only its report is still to be read
    if not completed and (unwanted := _unwanted(round_, status, attempt)) is not None:
        return Followed(unwanted)
    if job is None or end is not None:
        return _reread(round_, attempt, refused)
    return _watched(round_, attempt, job, JobPods(pods, refused))


def _carried_out(round_: Round, status: TrainingJobStatus, attempt: Attempt) -> Followed:
    """An intent, recorded in an earlier round. It is closed where the spec wants something else by now."""
    if (unwanted := _unwanted(round_, status, attempt)) is not None:
        return Followed(unwanted)
    if attempt.nodes != round_.spec.nodes:
        return Followed(ended(attempt, AttemptOutcome.CANCELLED, round_.now))
    return Followed(attempt, Plan(apply=_network(round_, attempt), create=(_job(round_, status, attempt),)))


def _job(round_: Round, status: TrainingJobStatus, attempt: Attempt) -> Object:
    placement = placement_of(known_pool(round_.seen, attempt.pool)) if attempt.pool else Placement()
    return manifests.training_job(
        round_.parent,
        round_.spec,
        attempt,
        store=_store(round_),
        placement=placement,
        data=data_refs(round_.spec.data, status),
        settings=round_.settings,
    )


def _watched(round_: Round, attempt: Attempt, job: Object, found_pods: JobPods) -> Followed:
    """Nothing has ended it. Its first disruption is remembered: the pod that tells of it is gone before the end."""
    pods, refused = found_pods
    if attempt.failure is None and (found := disruption(pods)) is not None:
        attempt = attempt.model_copy(update={"failure": found})
    if attempt.running_at is None and sum(is_running(pod) for pod in pods) >= attempt.nodes:
        attempt = attempt.model_copy(update={"running_at": round_.now})
    failing = conditions_of(job).get("FailureTarget")
    wake_at = _stuck_at(failing) if failing else None
    said = None
    if attempt.running_at is None:
        impatient_at = attempt.started_at + PATIENCE
        if round_.now < impatient_at:
            wake_at = earliest((wake_at, impatient_at))
        else:
            said = trouble(pods, attempt.nodes, _secret(round_), refused)
    return Followed(attempt, Plan(apply=_network(round_, attempt), wake_at=wake_at), trouble=said)


def _network(round_: Round, attempt: Attempt) -> tuple[Object, ...]:
    """Service and NetworkPolicy of an attempt on several nodes, in every round while it is open.

    Raises SpecError (NameConflict).
    """
    if attempt.nodes == 1:
        return ()
    for kind in (SERVICE, NETWORK_POLICY):
        round_.parent.own(round_.seen, kind, manifests.peers_name(round_.parent))
    return manifests.service(round_.parent), manifests.network_policy(round_.parent)


def _unwanted(round_: Round, status: TrainingJobStatus, attempt: Attempt) -> Attempt | None:
    """The attempt, closed, where the spec wants it no longer."""
    limit = deadline(round_.spec, status)
    if limit is not None and round_.now >= limit:
        return ended(attempt, AttemptOutcome.CANCELLED, round_.now, Failure(reason="DeadlineExceeded"))
    if round_.spec.suspend:
        outcome = AttemptOutcome.SUSPENDED if attempt.job_uid else AttemptOutcome.CANCELLED
        return ended(attempt, outcome, round_.now)
    return None


def _end(job: Object, pods: Sequence[Object], now: datetime) -> JobEnd | None:
    end = job_end(job, pods)
    failing = conditions_of(job).get("FailureTarget")
    if end is None and failing is not None and now >= _stuck_at(failing):
        return failed_end(failing, pods)
    return end


def _stuck_at(failing: Object) -> datetime:
    return datetime.fromisoformat(failing["lastTransitionTime"]) + STUCK_AFTER


def _tells_all(end: JobEnd, attempt: Attempt, pods: Sequence[Object]) -> bool:
    """Whether what is left of the pods tells how the attempt ended, or the store must be asked.

    When a pod fails the Job controller deletes those that still run: of two that fail together, the one that did so
    first may be gone, and the other knows only that it lost its peer. An image of the user's leaves nothing to ask for.
    """
    if end.failure is not None and is_consequence(end.failure):
        return len(pods) >= attempt.nodes
    return not end.silent


def _remembering(attempt: Attempt, failure: Failure | None) -> Attempt:
    """The attempt with what is known of its end already, for it may be all that there will be."""
    if attempt.failure is not None or failure is None or failure.reason == UNKNOWN:
        return attempt
    return attempt.model_copy(update={"failure": failure})


def _reread(round_: Round, attempt: Attempt, refused: Sequence[str]) -> Followed:
    """The Job, or its pods, are gone before their report was read: the store may have it."""
    if round_.spec.image is not None:
        return _closed(round_, attempt, told_of(JobEnd(False, failure=LOST), refused))
    out = folder(round_.parent, attempt.number)
    asked = Reread(attempt.job, attempt.job_uid or "", out, attempt.rereads, where_only(round_.spec.pod_template))
    mount = StoreMount(_store(round_))
    answer, plan = follow_reread(round_.parent, asked, mount, round_.seen, round_.settings, round_.now)
    if isinstance(answer, int):
        return Followed(attempt.model_copy(update={"rereads": answer}), plan)
    end = answer if isinstance(answer, JobEnd) else end_of_report(answer)
    return _closed(round_, attempt, told_of(end, refused))


def _closed(round_: Round, attempt: Attempt, end: JobEnd) -> Followed:
    report = end.report
    if end.succeeded and (report is None or report.outcome == "succeeded"):
        return Followed(ended(attempt, AttemptOutcome.SUCCEEDED, round_.now), report=report)
    if report is not None and report.outcome == "failed":
        return Followed(failed(attempt, failure_of_report(report, 0), round_.now))
    return Followed(failed(attempt, _worst(attempt.failure, end.failure), round_.now))


def _worst(before: Failure | None, failure: Failure | None) -> Failure:
    """The failure to record. before: what was remembered while the attempt was open.

    A disruption is the cause of whatever failed after it; anything else is told only where the end itself tells less.
    """
    if before is not None and (before.reason == PREEMPTED or failure in (None, LOST)):
        return before
    return failure or LOST


def _secret(round_: Round) -> str | None:
    """None also where the store is gone: pods that are there need it no more to be told of."""
    try:
        return secret_of(_store(round_))
    except (NotYet, SpecError):
        return None


def _store(round_: Round) -> ArtifactStoreSpec:
    return known_store(round_.seen, round_.parent.namespace, round_.spec.store)
