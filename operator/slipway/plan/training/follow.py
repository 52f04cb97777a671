"""The open attempt: its Job is created and observed, until it ends or the spec ends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.errors import SpecError
from slipway.api.kinds import JOB, Object, kind_of
from slipway.api.reports import Report, shorten
from slipway.api.status import Failure
from slipway.api.trainingjob import Attempt, AttemptOutcome, Replacement, TrainingJobStatus
from slipway.plan.egress import RESTRICTED, egress_rules
from slipway.plan.jobs.lifecycle import JobPhase, Observed, observe_job, result_of
from slipway.plan.jobs.outcomes import DEADLINE_EXCEEDED, JobEnd, disruption, has_started
from slipway.plan.jobs.pending import PENDING_GRACE, is_running, pending_reason, refresh_at
from slipway.plan.jobs.pods import JobPods, image_id_of
from slipway.plan.jobs.recovery import LOST, Output, lost, recover
from slipway.plan.jobs.retry import EVICTED, NODE_LOST, NOT_STARTED, PREEMPTED, UNKNOWN, Cause, cause_of
from slipway.plan.plan import Plan, earliest
from slipway.plan.pods import Placement
from slipway.plan.references import NotYet, known_pool, known_store, placement_of
from slipway.plan.storemount import StoreMount, secret_of
from slipway.plan.training import manifests
from slipway.plan.training.attempts import ended, failed, folder
from slipway.plan.training.auxiliary import data_refs
from slipway.plan.training.replacing import (
    Replacements,
    next_replacement,
    observe_replacements,
    with_replacement,
)
from slipway.plan.training.retry import deadline, pending_deadline
from slipway.plan.training.states import ReconcileContext


@dataclass(frozen=True, slots=True)
class Followed:
    """The present state of an attempt. report: that of a success. pending_reason: why its report is not recovered.

    conflict: an object of another owner with the name of a child, while the attempt continues. replacement: a new one.
    """

    attempt: Attempt
    plan: Plan = field(default_factory=Plan)
    report: Report | None = None
    conflict: SpecError | None = None
    pending_reason: str | None = None
    replacement: Replacement | None = None


def follow(ctx: ReconcileContext, status: TrainingJobStatus, attempt: Attempt, *, may_replace: bool = True) -> Followed:
    """Follow the open attempt. Raises SpecError (NameConflict), and NotYet for a missing store or pool.

    An observed end is recorded before the spec is considered: the spec may have changed since. may_replace: True if
    lost pods are replaced.
    """

    def render(replacement: Replacement) -> Object:
        return manifests.replacement_job(ctx.owner, _job(ctx, status, attempt), replacement)

    replacements = observe_replacements(ctx, attempt, render)
    found = _follow(ctx, status, replacements, may_replace=may_replace)
    if found.attempt.outcome is not None:
        return found
    due = replacements.due if may_replace and found.replacement is None else ()
    made = Plan(create=tuple(render(one) for one in due))
    return replace(found, plan=found.plan.plus(replacements.plan).plus(made))


def _follow(
    ctx: ReconcileContext, status: TrainingJobStatus, replacements: Replacements, *, may_replace: bool
) -> Followed:
    attempt, reports = replacements.attempt, ctx.spec.image is None
    observed = observe_job(
        ctx.owner,
        attempt,
        lambda: _job(ctx, status, attempt),
        ctx.observation,
        reports=reports,
        replaced=replacements.replaced,
    )
    attempt, end = observed.record, observed.end
    if observed.phase is JobPhase.INTENDED:
        return _create_job(ctx, status, attempt)
    if observed.phase is JobPhase.LAGGING:
        return Followed(attempt, observed.plan)
    if observed.phase is JobPhase.ENDED and end is not None:
        still_wanted = may_replace and _end_if_obsolete(ctx, status, attempt) is None
        if still_wanted and (replacement := next_replacement(ctx, status, observed)) is not None:
            plan = Plan(wake_at=replacement.starts_at)
            return Followed(with_replacement(attempt, replacement), plan, replacement=replacement)
        return _close(ctx, observed, end)
    if end is not None:
        attempt = _with_failure(attempt, end.failure)
        observed = replace(observed, record=attempt)
    completed = end is not None and end.succeeded  # only its report must still be read
    # A Job that lost its ownerReference cannot be deleted: it would continue to train without an open attempt.
    ours = observed.job is None or ctx.owner.conflict(ctx.view, JOB, attempt.job) is None
    if ours and not completed and (obsolete := _end_if_obsolete(ctx, status, attempt)) is not None:
        return Followed(obsolete, observed.plan)
    if observed.phase is JobPhase.UNREPORTED:
        return _recover_report(ctx, observed, reports=reports)
    return _observe_running(ctx, observed, replacements.waiting)


def _create_job(ctx: ReconcileContext, status: TrainingJobStatus, attempt: Attempt) -> Followed:
    """Create the Job of an intent that an earlier round recorded, or end the attempt if the spec has changed."""
    if (obsolete := _end_if_obsolete(ctx, status, attempt)) is not None:
        return Followed(obsolete)
    if attempt.nodes != ctx.spec.nodes:
        return Followed(ended(attempt, AttemptOutcome.CANCELLED, ctx.now))
    plan = network_plan(ctx, attempt).plus(Plan(create=(_job(ctx, status, attempt),)))
    return Followed(attempt, plan.as_own_part())


def network_plan(ctx: ReconcileContext, attempt: Attempt) -> Plan:
    """Return a plan for the Service and the NetworkPolicy of an attempt. Raises SpecError (NameConflict)."""
    network = _network(ctx, attempt)
    for obj in network:
        ctx.owner.refuse_foreign(ctx.view, kind_of(obj), obj["metadata"]["name"])
    return Plan(apply=network)


def _job(ctx: ReconcileContext, status: TrainingJobStatus, attempt: Attempt) -> Object:
    placement = placement_of(known_pool(ctx.view, attempt.pool)) if attempt.pool else Placement()
    return manifests.training_job(
        ctx.owner,
        ctx.spec,
        attempt,
        store=_store(ctx),
        placement=placement,
        data=data_refs(ctx.spec.data, status),
        settings=ctx.settings,
    )


def _observe_running(ctx: ReconcileContext, observed: Observed[Attempt], waiting: Sequence[str]) -> Followed:
    """Return the state of an attempt that has not ended. Its first disruption is recorded, before the pod is deleted.

    waiting: why pods are missing that will be replaced.
    """
    attempt, pods, wake_at = observed.record, observed.pods.trusted, observed.plan.wake_at
    if attempt.failure is None and (found := disruption(pods)) is not None:
        attempt = attempt.model_copy(update={"failure": found})
    if attempt.running_at is None and sum(is_running(pod) for pod in pods) >= attempt.nodes:
        now_runs = {"running_at": ctx.now, "pending_reason": None, "pending_observed_at": None}
        attempt = attempt.model_copy(update={**now_runs, "image_id": image_id_of(pods)})
    if attempt.running_at is None:
        attempt, look_at = _pending(ctx, attempt, observed.pods, waiting)
        wake_at = earliest((wake_at, look_at))
    conflict = ctx.owner.conflict(ctx.view, JOB, attempt.job)
    network: list[Object] = []
    for obj in _known_network(ctx, attempt):
        taken = ctx.owner.conflict(ctx.view, kind_of(obj), obj["metadata"]["name"])
        network += [] if taken else [obj]
        conflict = conflict or taken
    plan = Plan(apply=tuple(network)).as_own_part().plus(Plan(wake_at=wake_at))
    return Followed(attempt, plan, conflict=conflict)


def _pending(
    ctx: ReconcileContext, attempt: Attempt, found: JobPods, waiting: Sequence[str]
) -> tuple[Attempt, datetime | None]:
    """Return the attempt with the reason why its pods do not all run, and when to check again.

    The reason changes rarely, not for every pod that starts: each change is a write of the status.
    """
    reason = shorten(pending_reason(found.trusted, attempt.nodes, _secret(ctx), (*found.refused, *waiting)), 256)
    if reason == attempt.pending_reason:
        return attempt, None
    due_at = attempt.started_at + PENDING_GRACE
    if attempt.pending_observed_at is not None:
        due_at = refresh_at(attempt.started_at, attempt.pending_observed_at)
    if ctx.now < due_at:
        return attempt, due_at
    return attempt.model_copy(update={"pending_reason": reason, "pending_observed_at": ctx.now}), None


def _network(ctx: ReconcileContext, attempt: Attempt) -> tuple[Object, ...]:
    """Return the Service and the NetworkPolicy of an open attempt; a single pod needs them only to restrict egress."""
    restricted = ctx.spec.egress == RESTRICTED
    policy = (manifests.network_policy(ctx.owner, _egress(ctx) if restricted else None),)
    if attempt.nodes == 1:
        return policy if restricted else ()
    return manifests.service(ctx.owner), *policy


def _known_network(ctx: ReconcileContext, attempt: Attempt) -> tuple[Object, ...]:
    """Return the same for running pods; empty if their store is gone, so that the policy does not change."""
    try:
        return _network(ctx, attempt)
    except (NotYet, SpecError):
        return ()


def _egress(ctx: ReconcileContext) -> list[Object]:
    """Return the egress rules of the store. Raises SpecError (EgressUnknown) if its addresses are not known."""
    rules = egress_rules(_store(ctx))
    if rules is None:
        problem = f"is restricted, and ArtifactStore {ctx.spec.store} has no known addresses"
        raise SpecError("spec.egress", problem, "set spec.networks of the ArtifactStore", reason="EgressUnknown")
    return rules


def _end_if_obsolete(ctx: ReconcileContext, status: TrainingJobStatus, attempt: Attempt) -> Attempt | None:
    """Return the ended attempt if the spec requires its end (deadline, suspend); None otherwise."""
    limit = deadline(ctx.spec, status)
    if limit is not None and ctx.now >= limit:
        return ended(attempt, AttemptOutcome.CANCELLED, ctx.now, Failure(reason=DEADLINE_EXCEEDED))
    give_up_at = pending_deadline(ctx.spec, status)
    if attempt.running_at is None and give_up_at is not None and ctx.now >= give_up_at:
        why = attempt.pending_reason or f"its {attempt.nodes} pods did not all run"
        return failed(attempt, Failure(reason=NOT_STARTED, message=why), ctx.now)
    if ctx.spec.suspend:
        outcome = AttemptOutcome.SUSPENDED if attempt.job_uid else AttemptOutcome.CANCELLED
        return ended(attempt, outcome, ctx.now)
    return None


def _with_failure(attempt: Attempt, failure: Failure | None) -> Attempt:
    """Return the attempt with the failure known so far, in case no report follows."""
    if attempt.failure is not None or failure is None or failure.reason == UNKNOWN:
        return attempt
    return attempt.model_copy(update={"failure": failure})


def _recover_report(ctx: ReconcileContext, observed: Observed[Attempt], *, reports: bool) -> Followed:
    """Recover the report of a Job that is gone, or whose pods are, from the store."""
    if not reports:
        return _close(ctx, observed, lost(observed.pods.refused))
    out = folder(ctx.owner, observed.record.number)
    output = Output(out, StoreMount(_store(ctx)), ctx.spec.pod_template.settings, _secret(ctx))
    observed = recover(ctx.owner, observed, output, ctx.observation)
    if observed.phase is JobPhase.ENDED and observed.end is not None:
        return _close(ctx, observed, observed.end)
    return Followed(observed.record, observed.plan, pending_reason=observed.pending)


def _close(ctx: ReconcileContext, observed: Observed[Attempt], end: JobEnd) -> Followed:
    attempt, pods = observed.record, observed.pods.trusted
    attempt = attempt.model_copy(update={"image_id": attempt.image_id or image_id_of(pods)})
    # The output of a user's image is unknown until a Step seals it.
    result = result_of(end, folder(ctx.owner, attempt.number), reports=ctx.spec.image is None)
    if result.failure is None:
        return Followed(ended(attempt, AttemptOutcome.SUCCEEDED, ctx.now), observed.plan, report=result.report)
    if end.succeeded:  # its report is the failure
        return Followed(failed(attempt, result.failure, ctx.now), observed.plan)
    failure = _or_lost_peer(attempt, _main_failure(attempt.failure, result.failure))
    return Followed(failed(attempt, _or_not_started(attempt, failure, pods), ctx.now), observed.plan)


_RENDEZVOUS_TIMEOUTS = frozenset({"RendezvousTimeout", "RendezvousTimeoutError", "RendezvousConnectionError"})
"""Exceptions of an agent that waited for the others: Slipway's own, and torch's in a user's image."""


_STORE_ERRORS = frozenset({"DistStoreError", "DistNetworkError"})
"""Exceptions of an agent, not of a worker, if an agent that has joined does not answer any more."""


def _or_lost_peer(attempt: Attempt, failure: Failure) -> Failure:
    """Return the failure, or the loss of a replaced pod if its agent was still a member of the rendezvous.

    torchrun considers an agent as lost 15 s after its last heartbeat.
    """
    raised = (failure.exception or "").rpartition(".")[2]
    if not attempt.replacements or failure.rank is not None or raised not in _STORE_ERRORS:
        return failure
    lost = attempt.replacements[-1]
    message = f"the rendezvous completed with the lost pod {lost.index} ({raised})"
    return Failure(reason=PREEMPTED, index=lost.index, message=message)


def _or_not_started(attempt: Attempt, failure: Failure, pods: Sequence[Object]) -> Failure:
    """Return the failure, or NotStarted if some pods never ran: no worker starts before the rendezvous is complete.

    A failed worker (with a known rank) shows that it was, and an OOMKilled or evicted agent failed by itself.
    """
    if attempt.running_at is not None or failure.rank is not None or failure.reason not in ("Error", "Lost", UNKNOWN):
        return failure
    if cause_of(failure) not in (Cause.OWN, Cause.UNREPORTED):
        return failure
    waits = any(not has_started(pod) for pod in pods)
    missing = attempt.pending_reason is not None and len(pods) < attempt.nodes
    if not waits and not missing and not (failure.exception in _RENDEZVOUS_TIMEOUTS and len(pods) < attempt.nodes):
        return failure
    started = sum(has_started(pod) for pod in pods)
    why = attempt.pending_reason or pending_reason(pods, attempt.nodes)
    message = why if started < attempt.nodes else f"{started} of {attempt.nodes} pods started"
    return Failure(reason=NOT_STARTED, index=failure.index, message=message)


def _main_failure(before: Failure | None, failure: Failure | None) -> Failure:
    """Return the failure to record. before: the failure that was recorded while the attempt was open.

    A disruption is the cause of later failures; another earlier failure is recorded only if the end has none.
    """
    if failure is not None and failure.reason == NODE_LOST:
        return failure
    if before is not None and (before.reason in (PREEMPTED, EVICTED) or failure in (None, LOST)):
        return before
    return failure or LOST


def _secret(ctx: ReconcileContext) -> str | None:
    """Return the name of the store's Secret; None without one, or if the store is gone."""
    try:
        return secret_of(_store(ctx))
    except (NotYet, SpecError):
        return None


def _store(ctx: ReconcileContext) -> ArtifactStoreSpec:
    return known_store(ctx.view, ctx.owner.namespace, ctx.spec.store)
