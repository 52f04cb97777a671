"""What is done beside the training itself, as tasks of one pod: preparing data, and sealing a user's output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.base import Model
from slipway.api.datasource import NamedDataSource
from slipway.api.errors import SpecError
from slipway.api.status import TaskRecord, TaskState
from slipway.api.tasks import PrepareTask, SealTask
from slipway.api.trainingjob import Attempt, AttemptOutcome, TrainingJobStatus
from slipway.plan.egress import keep_policy
from slipway.plan.plan import Plan
from slipway.plan.storemount import StoreMount, secret_of
from slipway.plan.tasks import (
    SMALL,
    TRIED_AGAIN,
    Work,
    follow_task,
    may_be_remade,
    remade,
    succeeded,
    tried_again,
    why_waiting,
    will_retry,
)
from slipway.plan.training.attempts import folder, newest, told
from slipway.plan.training.round import Round

SEAL = "seal"


class Progress(NamedTuple):
    """The ledger with the tasks as they are now, and what brings them on.

    pending: those not done by name, with why their pods do not run where that has lasted. error: why one of them
    never will be.
    """

    status: TrainingJobStatus
    plan: Plan
    pending: tuple[str, ...] = ()
    error: SpecError | None = None


def prepare(round_: Round, store: ArtifactStoreSpec, status: TrainingJobStatus) -> Progress:
    """Bring on the preparation of all built-in data sets. Raises SpecError for a Job's name that another owns."""
    progress = Progress(status, Plan())
    for source in round_.spec.data:
        if source.dataset is None:
            continue
        work = _work(round_, prepare_name(source), PrepareTask(dataset=source.dataset, split=source.split), store)
        cure = "the log of its pod says more"
        progress = _brought_on(round_, progress, work, _Blame(f"spec.data[{source.name}]", "PrepareFailed", cure))
    return progress


def data_refs(sources: tuple[NamedDataSource, ...], status: TrainingJobStatus) -> dict[str, ArtifactRef]:
    """Where each data set lies, all being prepared."""
    made = {record.name: record.artifact for record in status.tasks}
    refs = {}
    for source in sources:
        if source.stored is not None:
            refs[source.name] = ArtifactRef(uri=source.stored.uri, digest=source.stored.digest, state=State.DATASET)
        elif (ref := made.get(prepare_name(source))) is not None:
            refs[source.name] = ref
    return refs


def seal(round_: Round, store: ArtifactStoreSpec, status: TrainingJobStatus, attempt: Attempt) -> Progress:
    """Bring on the sealing of what a user's image left. Raises SpecError for a Job's name that another owns."""
    work = _work(round_, SEAL, SealTask(), store, out=folder(round_.parent, attempt.number))
    cure = "let the script leave one model in SLIPWAY_OUTPUT_DIR"
    return _brought_on(round_, Progress(status, Plan()), work, _Blame("spec.entrypoint", "SealFailed", cure))


def prepare_name(source: NamedDataSource) -> str:
    return f"prepare-{source.name}"


def with_task(status: TrainingJobStatus, record: TaskRecord) -> TrainingJobStatus:
    names = [known.name for known in status.tasks]
    if record.name not in names:
        return status.model_copy(update={"tasks": (*status.tasks, record)})
    tasks = tuple(record if known.name == record.name else known for known in status.tasks)
    return status.model_copy(update={"tasks": tasks})


def known_tasks(status: TrainingJobStatus) -> Mapping[str, TaskRecord]:
    return {record.name: record for record in status.tasks}


class _Blame(NamedTuple):
    """What the user is told where a task fails for good."""

    field: str
    reason: str
    cure: str


def _brought_on(round_: Round, before: Progress, work: Work, blame: _Blame) -> Progress:
    record = known_tasks(before.status).get(work.name)
    if record is not None and record.state is TaskState.FAILED and record.digest != work.digest:
        record = None  # a new runtime image may do what the old one could not
    if record is not None and _was_lost(record, before.status) and may_be_remade(record, round_.now):
        record, plan = remade(round_.parent, record, work, round_.now), Plan()
    else:
        record, plan = follow_task(round_.parent, record, work, round_.seen, round_.settings, round_.now)
    done = succeeded(record) and record.artifact is not None
    if record.state in (TaskState.INTENDED, TaskState.RUNNING):
        policy = keep_policy(round_.parent, work.store.spec, round_.seen)
        plan = plan if before.plan.apply else plan.plus(policy)
    why, wake_at = why_waiting(
        round_.parent, record, round_.seen, round_.settings, round_.now, secret_of(work.store.spec)
    )
    label = record.name + (f" ({why})" if why else "")
    return Progress(
        with_task(before.status, record),
        before.plan.plus(plan).plus(Plan(wake_at=wake_at)),
        before.pending if done else (*before.pending, label),
        before.error or (None if done else _error(record, blame)),
    )


def _was_lost(record: TaskRecord, status: TrainingJobStatus) -> bool:
    """Whether the newest attempt did not find in the store what this task had made before."""
    attempt = newest(status)
    if attempt is None or attempt.outcome is not AttemptOutcome.INPUT_MISSING or not succeeded(record):
        return False
    told_missing = attempt.failure.missing if attempt.failure else None
    named = record.artifact is not None and told_missing in (None, record.artifact.digest)
    older = record.ended_at is None or attempt.ended_at is None or record.ended_at <= attempt.ended_at
    return named and older


def _error(record: TaskRecord, blame: _Blame) -> SpecError | None:
    """Why a task will never be done; None while it may be."""
    if record.state not in (TaskState.SUCCEEDED, TaskState.FAILED) or will_retry(record):
        return None
    why = told(record.failure) if record.failure else "it left no artifact"
    cure = TRIED_AGAIN if tried_again(record) else blame.cure
    return SpecError(blame.field, f"task {record.name} failed: {why}", cure, reason=blame.reason)


def _work(round_: Round, name: str, task: Model, store: ArtifactStoreSpec, out: str | None = None) -> Work:
    return Work(
        name=name,
        task=task,
        image=round_.settings.runtime_image,
        store=StoreMount(store),
        resources=SMALL,
        template=round_.spec.pod_template.settings,
        folder=out,
    )
