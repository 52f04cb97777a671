"""Tasks: one pod's work, run as a Job at most once a try, its result recorded by the digest of what decides it.

Intent first: a round that wants a task records it; the next one creates its Job; the Job's UID and end are recorded
as they are seen. A record that has ended never looks at its Job again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from slipway.api.artifacts import ArtifactRef
from slipway.api.base import Model, digest_of, short
from slipway.api.kinds import JOB, Object
from slipway.api.podtemplate import PodSettings
from slipway.api.scheduling import Resources
from slipway.api.status import TaskRun, TaskState
from slipway.api.tasks import CompressTask, DecidingTask
from slipway.plan.jobs.lifecycle import JobPhase, observe_job, result_of
from slipway.plan.jobs.outcomes import JobEnd, describe_cause, lingers
from slipway.plan.jobs.pending import why_pending
from slipway.plan.jobs.pods import JobPods, image_id_of, pods_of
from slipway.plan.jobs.recovery import Output, lost, recover, recovery_pending
from slipway.plan.jobs.retry import OOM_KILLED, Cause, Limit, RetryPolicy, Tally
from slipway.plan.observation import ClusterView, Observation
from slipway.plan.owner import ROLE_LABEL, Owner, deletion
from slipway.plan.plan import Plan, Settings
from slipway.plan.pods import RUNTIME_COMMAND, Placement, container, job, pod_template, task_env
from slipway.plan.references import RESYNC_INTERVAL
from slipway.plan.storemount import StoreMount, egress_labels
from slipway.plan.taskinput import TaskInput

_BASE_BYTES, _TIMES_READ, _GRAIN = 1 << 30, 3, 1 << 27
"""A runtime with its libraries takes half a GiB; a model or a data set stands in memory as bytes and as arrays."""


def usual_resources(task: Model) -> Resources:
    """What a pod asks for that nobody else's code runs in, by the size of what it reads, in steps of 128 MiB."""
    read = sum(ref.size_bytes or 0 for ref in artifacts_read(task))
    grains = -(-(_BASE_BYTES + _TIMES_READ * read) // _GRAIN)
    return Resources(cpu="500m", memory=f"{grains * (_GRAIN >> 20)}Mi")


RETRY_AFTER = timedelta(seconds=10)
LONGEST_WAIT = timedelta(minutes=16)
POLICY = RetryPolicy(
    limits={
        "failures": Limit(0, RETRY_AFTER, LONGEST_WAIT),  # the same inputs fail the same way
        "disruptions": Limit(None, RETRY_AFTER, LONGEST_WAIT),
        "refusals": Limit(None, RESYNC_INTERVAL, LONGEST_WAIT),
        "inputs": Limit(None, RESYNC_INTERVAL, LONGEST_WAIT),
    },
    counted_as={
        Cause.UNREPORTED: "disruptions",
        Cause.STORE_AWAY: "disruptions",
        Cause.STORE_REFUSED: "refusals",
        Cause.INPUT_ALTERED: "inputs",
    },
    reset_after=timedelta(minutes=10),
)
"""Of every task. What is mended where no watch sees it (a Secret, a policy of a bucket, a deleted artifact) is tried
again for as long as the task is wanted, and so is a task that is taken away."""
_SEEN_NOWHERE = ("refusals", "inputs")
_LONGEST_JOB = 60
"""Characters of a Job's name, so that `NAME-0` is a host name (63)."""
TRIED_AGAIN = "then it is tried again by itself, within 16 minutes"
"""What follows on the cure of a task that is `tried_again`."""


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task that is wanted, and how its pod runs.

    role: a DNS label. job: the beginning of the names of its Jobs. folder: its folder of the store; None for one of its
    own by the task's digest, which all deployments of the namespace share. deadline: of one try.
    """

    role: str
    task: Model
    image: str
    store: StoreMount
    job: str
    resources: Resources = field(default_factory=Resources)
    template: PodSettings | None = None
    placement: Placement | None = None
    folder: str | None = None
    deadline: timedelta | None = None

    @property
    def memory(self) -> str:
        """What its pod asks for; no part of the digest, since it decides no result."""
        return str(self.resources.memory)

    @property
    def digest(self) -> str:
        """Of what decides the result: the task with its inputs' digests, and the image. Not of where things lie."""
        apart = {"heldOut": self.held_out} if self.held_out else {}
        return digest_of({"task": self.task.to_content(), "image": self.image, **apart})

    @property
    def held_out(self) -> Object | None:
        """Where the store for evaluation data is, if its pod is given one."""
        return self.store.for_task(self.task).held_out_identity

    @property
    def by_others(self) -> bool:
        """Whether its pod runs the code of a plugin: figures that such a pod reports are claims, and are not kept."""
        return isinstance(self.task, CompressTask)

    @property
    def out(self) -> str:
        return self.folder or f"steps/{short(self.digest, 64)}"


def follow_task(
    owner: Owner,
    run: TaskRun | None,
    spec: TaskSpec,
    observation: Observation,
    *,
    may_start: bool = True,
) -> tuple[TaskRun, Plan]:
    """The run as it is now, and the writes that lead on.

    run: as the status of the parent holds it; None before the first. may_start: whether a Job may be made.
    Raises SpecError if another owner has the name of the Job.
    """
    now = observation.now
    if run is None:
        return intended(spec, 1, now), Plan()
    if run.state in (TaskState.SUCCEEDED, TaskState.FAILED):
        return _retried(owner, run, spec, observation.view, now)
    render = partial(_job, owner, run, spec, observation.settings)
    observed = observe_job(owner, run, render, observation)
    if observed.phase is JobPhase.INTENDED:
        return run, Plan(create=(render(),)) if may_start else Plan()
    if observed.phase is JobPhase.UNREPORTED and isinstance(spec.task, DecidingTask):
        # Others can write where its report would be: what decides is done again, and counted.
        observed = replace(observed, phase=JobPhase.ENDED, end=lost(observed.pods.refused))
    if observed.phase is JobPhase.UNREPORTED:
        output = Output(spec.out, spec.store.of_results(spec.task), spec.template)
        observed = recover(owner, observed, output, observation)
    run = observed.record.model_copy(update={"state": TaskState.RUNNING})
    if observed.phase is not JobPhase.ENDED or observed.end is None:
        return run, observed.plan
    run = run.model_copy(update={"image_id": image_id_of(observed.pods.believed)})
    return _ended(run, spec, observed.end, now), observed.plan.plus(_without_end(observed.job))


def _without_end(job: Object | None) -> Plan:
    """Delete a Job whose pod is lost with its Node, or can never run: it would never be over."""
    if job is None or not lingers(job) or "deletionTimestamp" in job["metadata"]:
        return Plan()
    return Plan(delete=(deletion(job),))


def pods_of_record(owner: Owner, record: TaskRun, observation: Observation) -> JobPods:
    """The pods of the try under way, as far as they are believed; none where its Job is gone."""
    live = observation.view.get(JOB, owner.namespace, record.job)
    if live is None or live["metadata"]["uid"] != record.job_uid:
        return JobPods((), ())
    return pods_of(live, observation)


def succeeded(record: TaskRun | None) -> bool:
    return record is not None and record.state == TaskState.SUCCEEDED


def intended(spec: TaskSpec, tries: int, now: datetime) -> TaskRun:
    """The record of a try that is to be made; the next round makes its Job."""
    return TaskRun(
        tries=tries, job=job_name(spec.job, tries), memory=spec.memory, started_at=now.replace(microsecond=0)
    )


def job_name(prefix: str, tries: int) -> str:
    """Name of the Job of a try; short enough for the host name of its pod, which adds an index."""
    number = str(tries)
    return f"{prefix[: _LONGEST_JOB - len(number)]}-{number}"


def will_retry(record: TaskRun) -> bool:
    """Whether a failed try is going to be followed by another: it was lost through no fault of its own."""
    return record.state is TaskState.FAILED and POLICY.counter(POLICY.cause(record.failure)) == "disruptions"


def starved(record: TaskRun) -> bool:
    """Whether a try ended for want of memory: as often as it is given the same, it ends the same."""
    return record.failure is not None and record.failure.reason == OOM_KILLED


def tried_again(record: TaskRun) -> bool:
    """Whether a try ended for what is mended where no watch sees it, so that it is tried again from time to time."""
    return record.state is TaskState.FAILED and POLICY.counter(POLICY.cause(record.failure)) in _SEEN_NOWHERE


def lacks_input(record: TaskRun) -> bool:
    """Whether a try ended for want of an artifact that it was given."""
    return record.state is TaskState.FAILED and POLICY.cause(record.failure) is Cause.INPUT_MISSING


def input_is_wrong(record: TaskRun) -> bool:
    """Whether a try ended for want of the right input: another one is of use once somebody has put that back."""
    return record.state is TaskState.FAILED and POLICY.cause(record.failure) in (
        Cause.INPUT_MISSING,
        Cause.INPUT_ALTERED,
    )


def retry_at(record: TaskRun) -> datetime | None:
    """When a try that has failed is followed by another; None where none follows by itself."""
    if record.state is not TaskState.FAILED or record.ended_at is None:
        return None
    tally = Tally(record.tries, record.disruptions, inputs=record.tries, refusals=record.tries)
    return POLICY.retry_at(tally, POLICY.cause(record.failure), record.ended_at)


def looked_at_again(record: TaskRun) -> datetime | None:
    """When a try that failed for whatever reason is made again after all, less and less often.

    None where it has no end.
    """
    return None if record.ended_at is None else record.ended_at + POLICY.limits["refusals"].wait(record.tries)


def why_waiting(
    owner: Owner, record: TaskRun, observation: Observation, secret: str | None = None
) -> tuple[str | None, datetime | None]:
    """Why a task does not go on, or when to look for that: pods that take a while to run need no explanation.

    secret: that of its store, where it has one.
    """
    at = retry_at(record)
    if will_retry(record) and at is not None:
        why = describe_cause(record.failure) if record.failure else "for a reason that is not known"
        return f"try {record.tries} ended: {why}; try {record.tries + 1} starts at {at:%H:%M:%S} UTC", at
    if record.state is not TaskState.RUNNING or record.started_at is None:
        return None, None
    if record.recoveries:
        return recovery_pending(owner, record, observation, secret)
    return why_pending(pods_of_record(owner, record, observation), record.started_at, observation.now, secret)


def remade(run: TaskRun, spec: TaskSpec, now: datetime) -> TaskRun:
    """The next try of a task that has succeeded: the store has lost its artifact."""
    forgiven = run.ended_at is None or now - run.ended_at >= REMADE_FORGIVEN_AFTER
    return intended(spec, run.tries + 1, now).model_copy(update={"remade": 1 if forgiven else run.remade + 1})


def may_be_remade(record: TaskRun, now: datetime) -> bool:
    """Whether a lost artifact is made again: not where whatever deletes it keeps doing so."""
    return record.remade < MAX_REMADE or (
        record.ended_at is not None and now - record.ended_at >= REMADE_FORGIVEN_AFTER
    )


MAX_REMADE = 5
REMADE_FORGIVEN_AFTER = timedelta(days=1)


def artifacts_read(task: Model) -> tuple[ArtifactRef, ...]:
    """The artifacts that a task reads."""
    found: list[ArtifactRef] = []
    for name in type(task).model_fields:
        value = getattr(task, name)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, ArtifactRef):
                found.append(one)
            elif isinstance(one, Model):
                found += artifacts_read(one)
    return tuple(found)


def missing_inputs(record: TaskRun, task: Model) -> frozenset[str]:
    """Digests of the inputs that a try did not find; all of them where it does not say which."""
    given = frozenset(ref.digest for ref in artifacts_read(task))
    told = record.failure.missing if record.failure else None
    return given & {told} if told in given else given


def _retried(owner: Owner, run: TaskRun, spec: TaskSpec, view: ClusterView, now: datetime) -> tuple[TaskRun, Plan]:
    if run.state is TaskState.SUCCEEDED or run.ended_at is None:
        return run, Plan()
    again = next_try(run, spec, now)
    if starved(run) and run.memory != spec.memory:
        return again, Plan()
    due_at = retry_at(run)
    if due_at is None or now < due_at:
        return run, Plan(wake_at=due_at)
    over = owner.own(view, JOB, run.job, run.job_uid)
    ours = over is not None and owner.conflict(view, JOB, run.job) is None
    if over is not None and ours and "deletionTimestamp" not in over["metadata"]:
        # There is no end to these tries. The next one is recorded when this Job goes, or nobody would delete it.
        return run, Plan(delete=(deletion(over),))
    return again, Plan()


def next_try(run: TaskRun, spec: TaskSpec, now: datetime) -> TaskRun:
    """The record of the try that follows a failed one."""
    kept = {"disruptions": run.disruptions, "remade": run.remade}
    return intended(spec, run.tries + 1, now).model_copy(update=kept)


def _ended(record: TaskRun, work: TaskSpec, end: JobEnd, now: datetime) -> TaskRun:
    result = result_of(end, work.out)
    if (report := result.report) is not None:
        return record.model_copy(
            update={
                "state": TaskState.SUCCEEDED,
                "ended_at": now.replace(microsecond=0),
                "artifact": _unmeasured(report.artifact) if work.by_others else report.artifact,
                "metrics": None if work.by_others else report.metrics,
                "counts": None if work.by_others else report.counts,
            }
        )
    ran = now - record.started_at if record.started_at else timedelta(0)
    cause = POLICY.cause(result.failure)
    tally = POLICY.counted(Tally(disruptions=record.disruptions), cause, ran)
    return record.model_copy(
        update={
            "state": TaskState.FAILED,
            "ended_at": now.replace(microsecond=0),
            "failure": result.failure,
            "disruptions": tally.disruptions if POLICY.counter(cause) == "disruptions" else 0,
        }
    )


def _unmeasured(artifact: ArtifactRef | None) -> ArtifactRef | None:
    """Without the size that a pod of others claims: it is measured by the first pod of ours that reads the files."""
    return artifact.model_copy(update={"size_bytes": None}) if artifact is not None else None


def _job(owner: Owner, record: TaskRun, work: TaskSpec, settings: Settings) -> Object:
    store, task = work.store.for_task(work.task, work.out), TaskInput.of(work.task)
    main = container(
        work.image,
        RUNTIME_COMMAND,
        pull_policy=settings.image_pull_policy,
        env=task_env(task, store),
        mounts=[*store.mounts, *task.mounts],
        resources=work.resources,
        devices=work.placement.devices if work.placement else None,
        template=work.template,
    )
    template = pod_template(
        [main],
        labels={**owner.labels, ROLE_LABEL: work.role, **egress_labels(store)},
        store=store,
        task=task,
        placement=work.placement,
        template=work.template,
        restartPolicy="Never",
        terminationGracePeriodSeconds=30,
    )
    return job(owner, record.job, template, role=work.role, deadline=work.deadline)
