"""Tasks: the work of one pod, run as one Job for each try, with its result recorded by the digest of its inputs.

One round records the intent, and the next one creates the Job; later rounds record the Job's UID and its end. The
planner never reads the Job of an ended record again.
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
"""The runtime with its libraries takes half a GiB; a model or a data set is in memory as bytes and as arrays."""


def usual_resources(task: Model) -> Resources:
    """Return the requests of a pod that runs no plugin, from the size of its inputs, in steps of 128 MiB."""
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
"""The retry policy of every task. Retries have no end after a failure that the user fixes without a watch event (a
Secret, a policy of a bucket, a deleted artifact), and after a disruption."""
_UNWATCHED = ("refusals", "inputs")
_LONGEST_JOB = 60
"""Characters of a Job's name, so that `NAME-0` is a host name (63)."""
RETRY_NOTE = "Slipway retries within 16 minutes"
"""Message for a task that `retries_itself`."""


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task to run, with the settings of its pod.

    role: a DNS label. job: prefix of the names of its Jobs. folder: its folder in the store; None for one named by the
    task's digest, which all deployments of the namespace share. deadline: time limit of one try.
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
        """The memory request of its pod, which is not a part of the digest."""
        return str(self.resources.memory)

    @property
    def digest(self) -> str:
        """The digest of the task with its inputs' digests, and of the image; it does not depend on locations."""
        apart = {"heldOut": self.held_out} if self.held_out else {}
        return digest_of({"task": self.task.to_content(), "image": self.image, **apart})

    @property
    def held_out(self) -> Object | None:
        """The location of the store for evaluation data, if its pod has one."""
        return self.store.for_task(self.task).held_out_identity

    @property
    def runs_plugin(self) -> bool:
        """True if its pod runs the code of a plugin, whose reported metrics are not trusted."""
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
    """Return the present state of the run, and the next writes.

    run: from the status of the owner; None before the first try. may_start: True if a Job may be created.
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
        # Other pods can write to the place of its report, so a deciding task runs again, and the try counts.
        observed = replace(observed, phase=JobPhase.ENDED, end=lost(observed.pods.refused))
    if observed.phase is JobPhase.UNREPORTED:
        output = Output(spec.out, spec.store.of_results(spec.task), spec.template)
        observed = recover(owner, observed, output, observation)
    run = observed.record.model_copy(update={"state": TaskState.RUNNING})
    if observed.phase is not JobPhase.ENDED or observed.end is None:
        return run, observed.plan
    run = run.model_copy(update={"image_id": image_id_of(observed.pods.trusted)})
    return _ended(run, spec, observed.end, now), observed.plan.plus(_without_end(observed.job))


def _without_end(job: Object | None) -> Plan:
    """Return a plan that deletes a Job that would never end: its pod is lost with its Node, or can never run."""
    if job is None or not lingers(job) or "deletionTimestamp" in job["metadata"]:
        return Plan()
    return Plan(delete=(deletion(job),))


def pods_of_record(owner: Owner, record: TaskRun, observation: Observation) -> JobPods:
    """Return the trusted pods of the present try; none if its Job is gone."""
    live = observation.view.get(JOB, owner.namespace, record.job)
    if live is None or live["metadata"]["uid"] != record.job_uid:
        return JobPods((), ())
    return pods_of(live, observation)


def succeeded(record: TaskRun | None) -> bool:
    return record is not None and record.state == TaskState.SUCCEEDED


def intended(spec: TaskSpec, tries: int, now: datetime) -> TaskRun:
    """Return the record of a new try; the next round creates its Job."""
    return TaskRun(
        tries=tries, job=job_name(spec.job, tries), memory=spec.memory, started_at=now.replace(microsecond=0)
    )


def job_name(prefix: str, tries: int) -> str:
    """Return the name of the Job of a try, short enough for the host name of its pod, which adds an index."""
    number = str(tries)
    return f"{prefix[: _LONGEST_JOB - len(number)]}-{number}"


def will_retry(record: TaskRun) -> bool:
    """Return True if another try follows a failed one soon, because a disruption ended it."""
    return record.state is TaskState.FAILED and POLICY.counter(POLICY.cause(record.failure)) == "disruptions"


def ran_out_of_memory(record: TaskRun) -> bool:
    """Return True if a try was OOMKilled; with the same memory another try would be, too."""
    return record.failure is not None and record.failure.reason == OOM_KILLED


def retries_itself(record: TaskRun) -> bool:
    """Return True if the cause of a failed try can be fixed without a watch event, so that tries follow for ever."""
    return record.state is TaskState.FAILED and POLICY.counter(POLICY.cause(record.failure)) in _UNWATCHED


def input_is_missing(record: TaskRun) -> bool:
    """Return True if a try ended because an input artifact is not in the store."""
    return record.state is TaskState.FAILED and POLICY.cause(record.failure) is Cause.INPUT_MISSING


def input_is_unusable(record: TaskRun) -> bool:
    """Return True if a try ended because an input is missing or altered: restoring it allows another try."""
    return record.state is TaskState.FAILED and POLICY.cause(record.failure) in (
        Cause.INPUT_MISSING,
        Cause.INPUT_ALTERED,
    )


def retry_at(record: TaskRun) -> datetime | None:
    """Return the time of the next try after a failed one; None if none follows automatically."""
    if record.state is not TaskState.FAILED or record.ended_at is None:
        return None
    tally = Tally(record.tries, record.disruptions, inputs=record.tries, refusals=record.tries)
    return POLICY.retry_at(tally, POLICY.cause(record.failure), record.ended_at)


def recheck_at(record: TaskRun) -> datetime | None:
    """Return the time of the next try after any failure, at growing intervals.

    None if the try has not ended.
    """
    return None if record.ended_at is None else record.ended_at + POLICY.limits["refusals"].wait(record.tries)


def why_waiting(
    owner: Owner, record: TaskRun, observation: Observation, secret: str | None = None
) -> tuple[str | None, datetime | None]:
    """Return the reason why a task does not run, or the time to check for it: pods may take a while to start.

    secret: name of its store's Secret, if it has one.
    """
    at = retry_at(record)
    if will_retry(record) and at is not None:
        why = describe_cause(record.failure) if record.failure else "unknown cause"
        return f"try {record.tries} ended: {why}; try {record.tries + 1} starts at {at:%H:%M:%S} UTC", at
    if record.state is not TaskState.RUNNING or record.started_at is None:
        return None, None
    if record.recoveries:
        return recovery_pending(owner, record, observation, secret)
    return why_pending(pods_of_record(owner, record, observation), record.started_at, observation.now, secret)


def remade(run: TaskRun, spec: TaskSpec, now: datetime) -> TaskRun:
    """Return the next try of a task that has succeeded, because its artifact is missing in the store."""
    forgiven = run.ended_at is None or now - run.ended_at >= REMADE_FORGIVEN_AFTER
    return intended(spec, run.tries + 1, now).model_copy(update={"remade": 1 if forgiven else run.remade + 1})


def may_be_remade(record: TaskRun, now: datetime) -> bool:
    """Return True if a missing artifact may be made again: not if it is deleted again and again."""
    return record.remade < MAX_REMADE or (
        record.ended_at is not None and now - record.ended_at >= REMADE_FORGIVEN_AFTER
    )


MAX_REMADE = 5
REMADE_FORGIVEN_AFTER = timedelta(days=1)


def artifacts_read(task: Model) -> tuple[ArtifactRef, ...]:
    """Return the artifacts that a task reads."""
    artifacts: list[ArtifactRef] = []
    for name in type(task).model_fields:
        value = getattr(task, name)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, ArtifactRef):
                artifacts.append(one)
            elif isinstance(one, Model):
                artifacts += artifacts_read(one)
    return tuple(artifacts)


def missing_inputs(record: TaskRun, task: Model) -> frozenset[str]:
    """Return the digests of the inputs that a try did not find; all inputs if it does not report which."""
    given = frozenset(ref.digest for ref in artifacts_read(task))
    missing = record.failure.missing if record.failure else None
    return given & {missing} if missing in given else given


def _retried(owner: Owner, run: TaskRun, spec: TaskSpec, view: ClusterView, now: datetime) -> tuple[TaskRun, Plan]:
    if run.state is TaskState.SUCCEEDED or run.ended_at is None:
        return run, Plan()
    again = next_try(run, spec, now)
    if ran_out_of_memory(run) and run.memory != spec.memory:
        return again, Plan()
    due_at = retry_at(run)
    if due_at is None or now < due_at:
        return run, Plan(wake_at=due_at)
    over = owner.own(view, JOB, run.job, run.job_uid)
    ours = over is not None and owner.conflict(view, JOB, run.job) is None
    if over is not None and ours and "deletionTimestamp" not in over["metadata"]:
        # The number of these tries has no limit, so each Job is deleted before the next try is recorded.
        return run, Plan(delete=(deletion(over),))
    return again, Plan()


def next_try(run: TaskRun, spec: TaskSpec, now: datetime) -> TaskRun:
    """Return the record of the try that follows a failed one."""
    counters = {"disruptions": run.disruptions, "remade": run.remade}
    return intended(spec, run.tries + 1, now).model_copy(update=counters)


def _ended(record: TaskRun, work: TaskSpec, end: JobEnd, now: datetime) -> TaskRun:
    result = result_of(end, work.out)
    if (report := result.report) is not None:
        return record.model_copy(
            update={
                "state": TaskState.SUCCEEDED,
                "ended_at": now.replace(microsecond=0),
                "artifact": _unmeasured(report.artifact) if work.runs_plugin else report.artifact,
                "metrics": None if work.runs_plugin else report.metrics,
                "counts": None if work.runs_plugin else report.counts,
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
    """Return the artifact without the size that a plugin's pod reported; a later pod of Slipway's measures it."""
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
