"""The open attempt: carried out, watched, and closed by what is seen of it or by what the spec says now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.errors import SpecError
from slipway.api.kinds import JOB, Key, Object, kind_of
from slipway.api.reports import Report, shorten
from slipway.api.status import Failure
from slipway.api.trainingjob import Attempt, AttemptOutcome, TrainingJobStatus
from slipway.plan.egress import RESTRICTED, egress_rules
from slipway.plan.jobpods import JobPods, image_id_of, index_of, own_job, pods_of
from slipway.plan.lostnodes import lost_after, lost_pod
from slipway.plan.outcomes import (
    STUCK_AFTER,
    JobEnd,
    conditions_of,
    disruption,
    failed_end,
    failure_of_report,
    has_ended,
    has_started,
    is_consequence,
    job_end,
    remaining,
    stuck_at,
    success_report,
    unheard_until,
)
from slipway.plan.plan import Plan, earliest
from slipway.plan.pods import Placement
from slipway.plan.references import NotYet, known_pool, known_store, placement_of
from slipway.plan.rereads import LOST, Reread, end_of_report, follow_reread, told_of, why_rereading
from slipway.plan.retry import EVICTED, NODE_LOST, NOT_STARTED, PREEMPTED, UNKNOWN, Cause, cause_of
from slipway.plan.storemount import StoreMount, secret_of
from slipway.plan.tasks import misplaced
from slipway.plan.training import manifests
from slipway.plan.training.attempts import ended, failed, folder
from slipway.plan.training.retry import deadline, pending_deadline
from slipway.plan.training.round import Round
from slipway.plan.training.works import data_refs
from slipway.plan.trouble import PATIENCE, is_running, never_runs, refresh_at, trouble


@dataclass(frozen=True, slots=True)
class Followed:
    """The attempt as it is now. report: what it left, once it succeeded; trouble: why that is not read again.

    conflict: an object under the name of a child that is none, while the attempt goes on.
    """

    attempt: Attempt
    plan: Plan = field(default_factory=Plan)
    report: Report | None = None
    conflict: SpecError | None = None
    trouble: str | None = None


def follow(round_: Round, status: TrainingJobStatus, attempt: Attempt) -> Followed:
    """Raises SpecError for a name that another owns, NotYet for a store or pool that is needed now and is gone.

    What is seen goes before what is wanted: an attempt that has ended ended so, whatever the spec says by now.
    """
    job = round_.parent.own(round_.seen, JOB, attempt.job, attempt.job_uid)
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
    pods = remaining(job, pods, round_.now) if job else pods
    end = _end(job, pods, round_.now) if job else None
    if job is not None and end is None and (cut := _cut_short(pods, round_.now)) is not None:
        return _closed(round_, attempt, cut, pods)
    if end is not None:
        if job is not None and (heard_at := unheard_until(job, pods, round_.now)) is not None:
            return Followed(attempt, Plan(wake_at=heard_at))
        if round_.spec.image is not None or _tells_all(end, attempt, pods):
            return _closed(round_, attempt, end, pods)
        attempt = _remembering(attempt, end.failure)
    completed = end is not None and end.succeeded  # only its report is still to be read
    # A Job that lost its ownerReference cannot be ended by us: closed, it would train on unseen.
    ours = job is None or round_.parent.conflict(round_.seen, JOB, attempt.job) is None
    if ours and not completed and (unwanted := _unwanted(round_, status, attempt)) is not None:
        return Followed(unwanted)
    if job is None or end is not None:
        return _reread(round_, attempt, JobPods(pods, refused))
    return _watched(round_, attempt, job, JobPods(pods, refused))


def _carried_out(round_: Round, status: TrainingJobStatus, attempt: Attempt) -> Followed:
    """An intent, recorded in an earlier round. It is closed where the spec wants something else by now."""
    if (unwanted := _unwanted(round_, status, attempt)) is not None:
        return Followed(unwanted)
    if attempt.nodes != round_.spec.nodes:
        return Followed(ended(attempt, AttemptOutcome.CANCELLED, round_.now))
    plan = network_plan(round_, attempt).plus(Plan(create=(_job(round_, status, attempt),)))
    return Followed(attempt, plan.apart())


def network_plan(round_: Round, attempt: Attempt) -> Plan:
    """What the pods of the attempt meet by. Raises SpecError (NameConflict) for a name that another owns."""
    network = _network(round_, attempt)
    for obj in network:
        round_.parent.refuse_foreign(round_.seen, kind_of(obj), obj["metadata"]["name"])
    return Plan(apply=network)


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
        now_runs = {"running_at": round_.now, "pending_reason": None, "pending_observed_at": None}
        attempt = attempt.model_copy(update={**now_runs, "image_id": image_id_of(pods)})
    failing = conditions_of(job).get("FailureTarget")
    wake_at = earliest((_stuck_at(failing) if failing else stuck_at(job), lost_after(pods, round_.now)))
    if attempt.running_at is None:
        attempt, look_at = _pending(round_, attempt, JobPods(pods, refused))
        wake_at = earliest((wake_at, look_at))
    conflict = round_.parent.conflict(round_.seen, JOB, attempt.job)
    network: list[Object] = []
    for obj in _known_network(round_, attempt):
        taken = round_.parent.conflict(round_.seen, kind_of(obj), obj["metadata"]["name"])
        network += [] if taken else [obj]
        conflict = conflict or taken
    plan = Plan(apply=tuple(network)).apart().plus(Plan(wake_at=wake_at))
    return Followed(attempt, plan, conflict=conflict)


def _pending(round_: Round, attempt: Attempt, found: JobPods) -> tuple[Attempt, datetime | None]:
    """The attempt with why its pods do not all run, and when to look again though nothing happens.

    Written seldom, and not for every pod that comes to run: each change is a write of the status.
    """
    reason = shorten(trouble(found.believed, attempt.nodes, _secret(round_), found.refused), 256)
    if reason == attempt.pending_reason:
        return attempt, None
    due_at = attempt.started_at + PATIENCE
    if attempt.pending_observed_at is not None:
        due_at = refresh_at(attempt.started_at, attempt.pending_observed_at)
    if round_.now < due_at:
        return attempt, due_at
    return attempt.model_copy(update={"pending_reason": reason, "pending_observed_at": round_.now}), None


def _network(round_: Round, attempt: Attempt) -> tuple[Object, ...]:
    """Service and NetworkPolicy of an attempt on several nodes, in every round while it is open."""
    restricted = round_.spec.egress == RESTRICTED
    policy = (manifests.network_policy(round_.parent, _egress(round_) if restricted else None),)
    if attempt.nodes == 1:
        return policy if restricted else ()
    return manifests.service(round_.parent), *policy


def _known_network(round_: Round, attempt: Attempt) -> tuple[Object, ...]:
    """The same of pods that run: where their store is gone, the policy stays as it is."""
    try:
        return _network(round_, attempt)
    except (NotYet, SpecError):
        return ()


def _egress(round_: Round) -> list[Object]:
    """Raises SpecError where the store's servers are not known."""
    rules = egress_rules(_store(round_))
    if rules is None:
        problem = f"is restricted, and ArtifactStore {round_.spec.store} does not tell where its bucket is"
        raise SpecError("spec.egress", problem, "set spec.networks of the ArtifactStore", reason="EgressUnknown")
    return rules


def _unwanted(round_: Round, status: TrainingJobStatus, attempt: Attempt) -> Attempt | None:
    """The attempt, closed, where the spec wants it no longer."""
    limit = deadline(round_.spec, status)
    if limit is not None and round_.now >= limit:
        return ended(attempt, AttemptOutcome.CANCELLED, round_.now, Failure(reason="DeadlineExceeded"))
    give_up_at = pending_deadline(round_.spec, status)
    if attempt.running_at is None and give_up_at is not None and round_.now >= give_up_at:
        why = attempt.pending_reason or f"its {attempt.nodes} pods did not all run"
        return failed(attempt, Failure(reason=NOT_STARTED, message=why), round_.now)
    if round_.spec.suspend:
        outcome = AttemptOutcome.SUSPENDED if attempt.job_uid else AttemptOutcome.CANCELLED
        return ended(attempt, outcome, round_.now)
    return None


def _end(job: Object, pods: Sequence[Object], now: datetime) -> JobEnd | None:
    end = job_end(job, pods)
    failing = conditions_of(job).get("FailureTarget")
    if end is None and failing is not None and now >= _stuck_at(failing):
        return _stuck_end(failing, pods)
    return end


def _stuck_end(failing: Object, pods: Sequence[Object]) -> JobEnd:
    """The end of a Job one pod of which never ends. Where the others only tell of its loss, that is the cause."""
    end = failed_end(failing, pods)
    stuck = next((pod for pod in pods if not has_ended(pod)), None)
    if stuck is None or (end.failure is not None and end.failure.reason != UNKNOWN and not is_consequence(end.failure)):
        return end
    said = f"; the others: {end.failure.exception}" if end.failure and end.failure.exception else ""
    message = f"pod {stuck['metadata']['name']} does not end, though its Job has failed{said}"
    return JobEnd(False, failure=Failure(reason=NODE_LOST, index=index_of(stuck), message=message))


def _cut_short(pods: Sequence[Object], now: datetime) -> JobEnd | None:
    """The end of a Job that will not end by itself: of a lost Node, or of pods that can never run."""
    failure = lost_pod(pods, now) or never_runs(pods)
    if failure is None:
        return None
    if (report := success_report(pods)) is not None:  # index 0 reports when all others are done
        return JobEnd(True, report=report)
    return JobEnd(False, failure=failure)


def _stuck_at(failing: Object) -> datetime:
    """A failing Job waits for its last pod, and by then the others have told enough."""
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


def _reread(round_: Round, attempt: Attempt, found: JobPods) -> Followed:
    """The Job, or its pods, are gone before their report was read: the store may have it."""
    if round_.spec.image is not None:
        return _closed(round_, attempt, told_of(JobEnd(False, failure=LOST), found.refused), found.believed)
    out = folder(round_.parent, attempt.number)
    asked = Reread(attempt.job, attempt.job_uid or "", out, attempt.rereads, round_.spec.pod_template.settings)
    mount = StoreMount(_store(round_))
    answer, plan = follow_reread(round_.parent, asked, mount, round_.seen, round_.settings, round_.now)
    if isinstance(answer, int):
        why, look_at = why_rereading(
            round_.parent, asked, attempt.started_at, round_.seen, round_.settings, round_.now, _secret(round_)
        )
        attempt = attempt.model_copy(update={"rereads": answer})
        return Followed(attempt, plan.plus(Plan(wake_at=look_at)), trouble=why)
    end = answer if isinstance(answer, JobEnd) else end_of_report(answer)
    return _closed(round_, attempt, told_of(end, found.refused), found.believed)


def _closed(round_: Round, attempt: Attempt, end: JobEnd, pods: Sequence[Object]) -> Followed:
    report = end.report
    attempt = attempt.model_copy(update={"image_id": attempt.image_id or image_id_of(pods)})
    if round_.spec.image is not None and end.succeeded:
        report = None  # it is sealed by a pod of ours, and until then nothing is known of it
    if end.succeeded and (stray := misplaced(report, folder(round_.parent, attempt.number))) is not None:
        return Followed(failed(attempt, stray, round_.now))
    if end.succeeded and (report is None or report.outcome == "succeeded"):
        return Followed(ended(attempt, AttemptOutcome.SUCCEEDED, round_.now), report=report)
    if report is not None and report.outcome == "failed":
        failure = failure_of_report(report, 0)
    else:
        failure = _worst(attempt.failure, end.failure)
    return Followed(failed(attempt, _unless_not_started(attempt, failure, pods), round_.now))


_MET_NOBODY = frozenset({"RendezvousTimeout", "RendezvousTimeoutError", "RendezvousConnectionError"})
"""Exceptions of an agent that waited for the others: our own, and torch's where the image is the user's."""


def _unless_not_started(attempt: Attempt, failure: Failure, pods: Sequence[Object]) -> Failure:
    """The failure; where pods never ran, that is why. No worker starts before all agents have met.

    A worker that failed (its rank is known) shows that they had, and an OOMKilled or evicted agent failed by itself.
    """
    if attempt.running_at is not None or failure.rank is not None or failure.reason not in ("Error", "Lost", UNKNOWN):
        return failure
    if cause_of(failure) not in (Cause.OWN, Cause.UNTOLD):
        return failure
    waits = any(not has_started(pod) for pod in pods)
    missing = attempt.pending_reason is not None and len(pods) < attempt.nodes
    if not waits and not missing and not (failure.exception in _MET_NOBODY and len(pods) < attempt.nodes):
        return failure
    started = sum(has_started(pod) for pod in pods)
    why = attempt.pending_reason or trouble(pods, attempt.nodes)
    message = why if started < attempt.nodes else f"{started} of {attempt.nodes} pods started"
    return Failure(reason=NOT_STARTED, index=failure.index, message=message)


def _worst(before: Failure | None, failure: Failure | None) -> Failure:
    """The failure to record. before: what was remembered while the attempt was open.

    A disruption is the cause of whatever failed after it; anything else is told only where the end itself tells less.
    """
    if failure is not None and failure.reason == NODE_LOST:
        return failure
    if before is not None and (before.reason in (PREEMPTED, EVICTED) or failure in (None, LOST)):
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
