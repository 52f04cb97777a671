"""Recovery of a report whose pods are gone: a small Job reads it from the store, with at most three tries.

After the deletion of a Job by a user, the loss of a Node or an early garbage collection, the work may be done and its
report complete in the store, although no pod has it. Only without a complete report is the work lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from slipway.api.artifacts import URI_PREFIX
from slipway.api.kinds import JOB, Object
from slipway.api.podtemplate import PodSettings
from slipway.api.reports import Report
from slipway.api.scheduling import Resources
from slipway.api.status import Failure, JobRecord
from slipway.api.tasks import RecoverTask
from slipway.plan.jobs.lifecycle import JobPhase, Observed, Record, observe_job
from slipway.plan.jobs.outcomes import JobEnd, failure_of_report, is_over
from slipway.plan.jobs.pending import why_pending
from slipway.plan.jobs.pods import pods_of
from slipway.plan.observation import Observation
from slipway.plan.owner import ROLE_LABEL, Owner, deletion
from slipway.plan.plan import Plan, Settings
from slipway.plan.pods import RUNTIME_COMMAND, container, job, pod_template, task_env
from slipway.plan.storemount import StoreMount, egress_labels
from slipway.plan.taskinput import TaskInput

MAX_RECOVERIES = 3
LOST = Failure(reason="Lost", message="the pods are gone and left no complete report in the store")


@dataclass(frozen=True, slots=True)
class Output:
    """The place of the report of a Job's pods, and the settings of the pod that recovers it.

    folder: the folder in the store. template: scheduling and pull secrets, as for the pods that wrote the report.
    secret: name of the store's Secret, if it has one.
    """

    folder: str
    store: StoreMount
    template: PodSettings | None = None
    secret: str | None = None


def recover(owner: Owner, observed: Observed[Record], output: Output, observation: Observation) -> Observed[Record]:
    """Recover the report of an UNREPORTED Job from the store. The phase is ENDED once it is read, or known to be lost.

    Each try is recorded before its Job is created.
    """
    record = observed.record
    if not record.recoveries:
        return _next_try(observed)
    name = recovery_name(record)
    rendered = _render(owner, name, record, output, observation.settings)
    reader = observe_job(owner, JobRecord(job=name), lambda: rendered, observation, reports=False)
    observed = replace(observed, plan=observed.plan.plus(reader.plan))
    if reader.phase is JobPhase.INTENDED:
        return replace(observed, plan=observed.plan.plus(Plan(create=(rendered,))))
    if reader.end is None or reader.phase is not JobPhase.ENDED:
        why, look_at = recovery_pending(owner, record, observation, output.secret)
        return replace(observed, plan=observed.plan.plus(Plan(wake_at=look_at)), pending=why)
    if (report := reader.end.report) is not None:
        found = JobEnd(False, failure=LOST) if report.outcome == "none" else _end_of(report)
        return _over(observed, found, reader)
    if reader.job is not None and not is_over(reader.job) and "deletionTimestamp" not in reader.job["metadata"]:
        observed = replace(observed, plan=observed.plan.plus(Plan(delete=(deletion(reader.job),))))
    if record.recoveries < MAX_RECOVERIES:
        return _next_try(observed)
    return _over(observed, JobEnd(False, failure=LOST), reader)


def recovery_name(record: JobRecord) -> str:
    """Return the name of the Job of the recorded try of the recovery."""
    return f"{record.job}-q{record.recoveries}"


def recovery_pending(
    owner: Owner, record: JobRecord, observation: Observation, secret: str | None = None
) -> tuple[str | None, datetime | None]:
    """Return why the pod of a recovery does not run, or when to check for it. secret: name of the store's Secret."""
    live = observation.view.get(JOB, owner.namespace, recovery_name(record))
    if live is None:
        return None, None
    created = live["metadata"].get("creationTimestamp")
    since = datetime.fromisoformat(created) if created else record.started_at or observation.now
    return why_pending(pods_of(live, observation), since, observation.now, secret)


def lost(refused: Sequence[str]) -> JobEnd:
    """Return the end of a Job without a report. refused: why existing pods are not trusted."""
    if not refused:
        return JobEnd(False, failure=LOST)
    return JobEnd(False, failure=Failure(reason="PodMismatch", message=f"no trusted report: {refused[0]}"[:1024]))


def _next_try(observed: Observed[Record]) -> Observed[Record]:
    record = observed.record
    return replace(observed, record=record.model_copy(update={"recoveries": (record.recoveries or 0) + 1}))


def _over(observed: Observed[Record], end: JobEnd, reader: Observed[JobRecord]) -> Observed[Record]:
    if end.failure == LOST:
        end = lost((*observed.pods.refused, *reader.pods.refused))
    return replace(observed, phase=JobPhase.ENDED, end=end)


def _end_of(report: Report) -> JobEnd:
    """Return the end of a Job from its report in the store."""
    if report.outcome == "succeeded":
        return JobEnd(True, report=report)
    return JobEnd(False, failure=failure_of_report(report, None))


def _render(owner: Owner, name: str, record: JobRecord, output: Output, settings: Settings) -> Object:
    task = RecoverTask(uri=f"{URI_PREFIX}{output.folder}", job_uid=record.job_uid or "")
    reader, given = output.store.for_task(task), TaskInput.of(task)
    main = container(
        settings.runtime_image,
        RUNTIME_COMMAND,
        pull_policy=settings.image_pull_policy,
        env=task_env(given, reader),
        mounts=[*reader.mounts, *given.mounts],
        resources=Resources(cpu="100m", memory="256Mi"),
    )
    labels = {**owner.labels, ROLE_LABEL: "recover", **egress_labels(reader)}
    template = pod_template(
        [main], labels=labels, store=reader, task=given, template=output.template, restartPolicy="Never"
    )
    return job(owner, name, template, role="recover", indexed=False)  # an index would make its name too long
