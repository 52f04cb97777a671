"""Tasks: one pod's work, run as a Job at most once a try, its result recorded by the digest of what decides it.

Intent first: a round that wants a task records it; the next one creates its Job; the Job's UID and end are recorded
as they are seen. A record that has ended never looks at its Job again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from slipway.api.artifacts import ArtifactRef
from slipway.api.base import Model
from slipway.api.kinds import JOB, Object
from slipway.api.podtemplate import PodSettings, Resources
from slipway.api.status import TaskRecord, TaskState
from slipway.api.tasks import CompressTask
from slipway.plan.digests import digest_of, short
from slipway.plan.egress import may_start
from slipway.plan.jobs.lifecycle import JobPhase, observe_job, result_of
from slipway.plan.jobs.outcomes import JobEnd, lingers
from slipway.plan.jobs.pending import why_pending
from slipway.plan.jobs.pods import JobPods, image_id_of, pods_of
from slipway.plan.jobs.recovery import Output, recover, recovery_pending
from slipway.plan.jobs.retry import OOM_KILLED, Cause, Limit, RetryPolicy, Tally
from slipway.plan.parent import ROLE_LABEL, Parent, deletion
from slipway.plan.plan import Plan, Settings
from slipway.plan.pods import RUNTIME_COMMAND, Placement, container, job, pod_template, task_env
from slipway.plan.references import LOOK_AGAIN_AFTER
from slipway.plan.seen import Seen
from slipway.plan.storemount import StoreMount, egress_labels
from slipway.plan.taskinput import TaskInput

SMALL = Resources(cpu="500m", memory="1Gi")
"""Of tasks without a module in memory: they prepare, judge and pack."""
RETRY_AFTER = timedelta(seconds=10)
LONGEST_WAIT = timedelta(minutes=16)
POLICY = RetryPolicy(
    limits={
        "failures": Limit(0, RETRY_AFTER, LONGEST_WAIT),  # the same inputs fail the same way
        "disruptions": Limit(None, RETRY_AFTER, LONGEST_WAIT),
        "refusals": Limit(None, LOOK_AGAIN_AFTER, LONGEST_WAIT),
        "inputs": Limit(None, LOOK_AGAIN_AFTER, LONGEST_WAIT),
    },
    counted_as={
        Cause.UNTOLD: "disruptions",
        Cause.STORE_AWAY: "disruptions",
        Cause.STORE_REFUSED: "refusals",
        Cause.INPUT_ALTERED: "inputs",
    },
    reset_after=timedelta(minutes=10),
)
"""Of every task. What is mended where no watch sees it (a Secret, a policy of a bucket, a deleted artifact) is tried
again for as long as the task is wanted, and so is a task that is taken away."""
_SEEN_NOWHERE = ("refusals", "inputs")
_MARK = 8
"""Digits of the task's digest in the name of its first tries."""
TRIED_AGAIN = "then it is tried again by itself, within 16 minutes"
"""What follows on the cure of a task that is `tried_again`."""


@dataclass(frozen=True, slots=True)
class Work:
    """A task that is wanted, and how its pod runs.

    name: its role, a DNS label of at most 63 characters. folder: its folder of the store; None for one of its own
    by the task's digest, which all deployments of the namespace share. resources_field: path of the user's field that
    holds the resources; None where they are the operator's.
    """

    name: str
    task: Model
    image: str
    store: StoreMount
    resources: Resources = field(default_factory=Resources)
    template: PodSettings | None = None
    placement: Placement | None = None
    folder: str | None = None
    resources_field: str | None = None

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
        return self.store.for_task(self.task).apart

    @property
    def by_others(self) -> bool:
        """Whether its pod runs the code of a plugin: figures that such a pod reports are claims, and are not kept."""
        return isinstance(self.task, CompressTask)

    @property
    def out(self) -> str:
        return self.folder or f"steps/{short(self.digest, 64)}"


def follow_task(
    parent: Parent, record: TaskRecord | None, work: Work, seen: Seen, settings: Settings, now: datetime
) -> tuple[TaskRecord, Plan]:
    """The record as it should be now, and the writes that bring the task on.

    record: as the parent's status holds it; None where the task was never wanted. Raises SpecError where another
    owner has the Job's name.
    """
    if record is None:
        return intended(parent, work, 1, now), Plan()
    if record.state in (TaskState.SUCCEEDED, TaskState.FAILED):
        return _retried(parent, record, work, seen, now)
    observed = observe_job(parent, record, partial(_job, parent, record, work, settings), seen, settings, now)
    if observed.phase is JobPhase.INTENDED:
        made = Plan(create=(_job(parent, record, work, settings),))
        may = work.held_out is not None or may_start(parent, work.store.spec, seen)
        return record, made if may else Plan()
    if observed.phase is JobPhase.UNREPORTED:
        store = work.store.of_results(work.task)
        observed = recover(parent, observed, Output(work.out, store, work.template), seen, settings, now)
    record = observed.record.model_copy(update={"state": TaskState.RUNNING})
    if observed.phase is not JobPhase.ENDED or observed.end is None:
        return record, observed.plan
    record = record.model_copy(update={"image_id": image_id_of(observed.pods.believed)})
    return _ended(record, work, observed.end, now), observed.plan.plus(_without_end(observed.job))


def _without_end(job: Object | None) -> Plan:
    """Delete a Job whose pod is lost with its Node, or can never run: it would never be over."""
    if job is None or not lingers(job) or "deletionTimestamp" in job["metadata"]:
        return Plan()
    return Plan(delete=(deletion(job),))


def pods_of_record(parent: Parent, record: TaskRecord, seen: Seen, settings: Settings) -> JobPods:
    """The pods of the try under way, as far as they are believed; none where its Job is gone."""
    live = seen.get(JOB, parent.namespace, record.job)
    if live is None or live["metadata"]["uid"] != record.job_uid:
        return JobPods((), ())
    return pods_of(seen, live, settings)


def succeeded(record: TaskRecord | None) -> bool:
    return record is not None and record.state == TaskState.SUCCEEDED


def intended(parent: Parent, work: Work, tries: int, now: datetime) -> TaskRecord:
    """The record of a try that is to be made; the next round makes its Job."""
    digest = work.digest
    return TaskRecord(
        name=work.name,
        digest=digest,
        tries=tries,
        job=job_name(parent, digest, tries),
        memory=work.memory,
        started_at=now.replace(microsecond=0),
    )


def job_name(parent: Parent, digest: str, tries: int) -> str:
    """Of a try's Job. A longer number takes from the digest: of the longest name it would be no pod's host name."""
    number = str(tries)
    return parent.child_name("t", short(digest, max(1, _MARK + 1 - len(number))), number)


def tries_of(parent: Parent, digest: str, jobs: Iterable[Object]) -> list[Object]:
    """The Jobs of all tries of a task, and those that read their reports."""
    name = re.compile(f"{re.escape(parent.child_name('t'))}-([0-9a-f]+)-[0-9]+(-q[0-9]+)?")
    return [
        job
        for job in jobs
        if (found := name.fullmatch(job["metadata"]["name"])) and short(digest, _MARK).startswith(found[1])
    ]


def will_retry(record: TaskRecord) -> bool:
    """Whether a failed try is going to be followed by another: it was lost through no fault of its own."""
    return record.state is TaskState.FAILED and POLICY.counter(POLICY.cause(record.failure)) == "disruptions"


def starved(record: TaskRecord) -> bool:
    """Whether a try ended for want of memory: as often as it is given the same, it ends the same."""
    return record.failure is not None and record.failure.reason == OOM_KILLED


def tried_again(record: TaskRecord) -> bool:
    """Whether a try ended for what is mended where no watch sees it, so that it is tried again from time to time."""
    return record.state is TaskState.FAILED and POLICY.counter(POLICY.cause(record.failure)) in _SEEN_NOWHERE


def lacks_input(record: TaskRecord) -> bool:
    """Whether a try ended for want of an artifact that it was given."""
    return record.state is TaskState.FAILED and POLICY.cause(record.failure) is Cause.INPUT_MISSING


def retry_at(record: TaskRecord) -> datetime | None:
    """When a try that has failed is followed by another; None where none follows by itself."""
    if record.state is not TaskState.FAILED or record.ended_at is None:
        return None
    tally = Tally(record.tries, record.disruptions, inputs=record.tries, refusals=record.tries)
    return POLICY.retry_at(tally, POLICY.cause(record.failure), record.ended_at)


def looked_at_again(record: TaskRecord) -> datetime | None:
    """When a try that failed for whatever reason is made again after all, less and less often.

    None where it has no end.
    """
    return None if record.ended_at is None else record.ended_at + POLICY.limits["refusals"].wait(record.tries)


def why_waiting(
    parent: Parent, record: TaskRecord, seen: Seen, settings: Settings, now: datetime, secret: str | None = None
) -> tuple[str | None, datetime | None]:
    """Why a task does not go on, or when to look for that: pods that take a while to run need no explanation.

    secret: that of its store, where it has one.
    """
    at = retry_at(record)
    if will_retry(record) and at is not None:
        failure = record.failure
        said = (
            ": ".join(part for part in (failure.exception or failure.reason, failure.message) if part)
            if failure
            else ""
        )
        return f"try {record.tries} ended: {said}; try {record.tries + 1} starts at {at:%H:%M:%S} UTC", at
    if record.state is not TaskState.RUNNING or record.started_at is None:
        return None, None
    if record.recoveries:
        return recovery_pending(parent, record, seen, settings, now, secret)
    return why_pending(pods_of_record(parent, record, seen, settings), record.started_at, now, secret)


def remade(parent: Parent, record: TaskRecord, work: Work, now: datetime) -> TaskRecord:
    """The record of a task that has succeeded, as one whose artifact is to be made again: the store has lost it."""
    forgiven = record.ended_at is None or now - record.ended_at >= REMADE_FORGIVEN_AFTER
    again = intended(parent, work, record.tries + 1, now)
    return again.model_copy(update={"remade": 1 if forgiven else record.remade + 1})


def may_be_remade(record: TaskRecord, now: datetime) -> bool:
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


def missing_inputs(record: TaskRecord, work: Work) -> frozenset[str]:
    """Digests of the inputs that a try did not find; all of them where it does not say which."""
    given = frozenset(ref.digest for ref in artifacts_read(work.task))
    told = record.failure.missing if record.failure else None
    return given & {told} if told in given else given


def _retried(parent: Parent, record: TaskRecord, work: Work, seen: Seen, now: datetime) -> tuple[TaskRecord, Plan]:
    if record.state is TaskState.SUCCEEDED or record.ended_at is None:
        return record, Plan()
    again = intended(parent, work, record.tries + 1, now).model_copy(
        update={"disruptions": record.disruptions, "remade": record.remade}
    )
    if starved(record) and record.memory != work.memory:
        return again, Plan()
    due_at = retry_at(record)
    if due_at is None or now < due_at:
        return record, Plan(wake_at=due_at)
    over = parent.own(seen, JOB, record.job, record.job_uid)
    ours = over is not None and parent.conflict(seen, JOB, record.job) is None
    if over is not None and ours and "deletionTimestamp" not in over["metadata"]:
        # There is no end to these tries. The next one is recorded when this Job goes, or nobody would delete it.
        return record, Plan(delete=(deletion(over),))
    return again, Plan()


def _ended(record: TaskRecord, work: Work, end: JobEnd, now: datetime) -> TaskRecord:
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


def _job(parent: Parent, record: TaskRecord, work: Work, settings: Settings) -> Object:
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
        labels={**parent.labels, ROLE_LABEL: work.name, **egress_labels(store)},
        store=store,
        task=task,
        placement=work.placement,
        template=work.template,
        restartPolicy="Never",
        terminationGracePeriodSeconds=30,
    )
    return job(parent, record.job, template, role=work.name)
