"""The Steps of a training: preparation of data, and sealing of the output of a user's image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from slipway.api.artifacts import ArtifactRef, NamedDataSource, State
from slipway.api.base import Model
from slipway.api.errors import SpecError
from slipway.api.status import TaskRun
from slipway.api.tasks import PrepareTask, SealTask
from slipway.api.trainingjob import Attempt, AttemptOutcome, PreparedData, TrainingJobStatus
from slipway.plan.jobs.outcomes import describe_cause
from slipway.plan.steps.request import StepRequest, Store
from slipway.plan.steps.tracking import StepSet, Tracked, pods_cure
from slipway.plan.tasks import RETRY_NOTE, retries_itself
from slipway.plan.training.attempts import folder, newest
from slipway.plan.training.states import ReconcileContext


class Progress(NamedTuple):
    """The status with the results of the Steps so far.

    pending: the Steps that are not done, with the reason if their pods do not run. error: why a Step failed. sealed:
    the run that sealed the output.
    """

    status: TrainingJobStatus
    pending: tuple[str, ...] = ()
    error: SpecError | None = None
    sealed: TaskRun | None = None


def prepare(ctx: ReconcileContext, store: Store, status: TrainingJobStatus, steps: StepSet) -> Progress:
    """Request the preparation of all built-in data sets. Prepared data is reused, also after a change of the image."""
    attempt = newest(status)
    prepared, pending, error = {one.name: one for one in status.data}, [], None
    for source in ctx.spec.data:
        if source.dataset is None:
            continue
        known = prepared.get(source.name)
        if known is not None and not _is_lost(known, attempt):
            continue
        if known is not None and attempt is not None and attempt.ended_at is not None:
            steps.mark_missing(known.artifact.digest, attempt.ended_at)
        task = PrepareTask(dataset=source.dataset, split=source.split)
        tracked = steps.follow(_request(ctx, f"prepare-{source.name}", task, store))
        run = tracked.run
        if tracked.succeeded and run is not None and run.artifact is not None:
            prepared[source.name] = PreparedData(name=source.name, artifact=run.artifact)
            continue
        prepared.pop(source.name, None)
        pending.append(_label(tracked))
        blame = (f"spec.data[{source.name}]", "PrepareFailed", "see the log of its pod")
        error = error or _error(tracked, *blame)
    return Progress(status.model_copy(update={"data": tuple(prepared.values())}), tuple(pending), error)


def seal(ctx: ReconcileContext, store: Store, status: TrainingJobStatus, attempt: Attempt, steps: StepSet) -> Progress:
    """Request the sealing of the output of a user's image."""
    request = _request(ctx, "seal", SealTask(), store, folder=folder(ctx.owner, attempt.number))
    tracked = steps.follow(request)
    if tracked.succeeded and tracked.run is not None and tracked.run.artifact is not None:
        return Progress(status, sealed=tracked.run)
    cure = "let the script leave one model in SLIPWAY_OUTPUT_DIR"
    return Progress(status, (_label(tracked),), _error(tracked, "spec.entrypoint", "SealFailed", cure))


def data_refs(sources: tuple[NamedDataSource, ...], status: TrainingJobStatus) -> Mapping[str, ArtifactRef]:
    """Return the artifact of each data set, after all are prepared."""
    made = {one.name: one.artifact for one in status.data}
    refs = {}
    for source in sources:
        if source.stored is not None:
            refs[source.name] = ArtifactRef(uri=source.stored.uri, digest=source.stored.digest, state=State.DATASET)
        elif source.name in made:
            refs[source.name] = made[source.name]
    return refs


def _is_lost(known: PreparedData, attempt: Attempt | None) -> bool:
    """Return True if the newest attempt did not find the prepared data in the store."""
    if attempt is None or attempt.outcome is not AttemptOutcome.INPUT_MISSING:
        return False
    missing = attempt.failure.missing if attempt.failure else None
    return missing in (None, known.artifact.digest)


def _label(tracked: Tracked) -> str:
    return tracked.request.role + (f" ({tracked.pending})" if tracked.pending else "")


def _error(tracked: Tracked, field: str, reason: str, cure: str) -> SpecError | None:
    """Return why a Step failed; None while it may succeed."""
    run, role = tracked.run, tracked.request.role
    if tracked.error is not None:
        problem = f"step {role} cannot run: {tracked.error.message}"
        return SpecError(field, problem, f"see step/{tracked.name}", reason=tracked.error.reason)
    if run is None or not (tracked.failed or tracked.succeeded):
        return None
    why = describe_cause(run.failure) if run.failure else "it left no artifact"
    cure = pods_cure(tracked) or (RETRY_NOTE if retries_itself(run) else cure)
    return SpecError(field, f"step {role} failed: {why}", cure, reason=reason)


def _request(ctx: ReconcileContext, role: str, task: Model, store: Store, folder: str | None = None) -> StepRequest:
    return StepRequest(role, role, task, ctx.settings.runtime_image, store, folder=folder, pods_field="spec.steps")
