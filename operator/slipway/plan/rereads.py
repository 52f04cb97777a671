"""Reports of pods that are gone: a small Job reads them from the store, three times at most.

A Job deleted by a user, a node lost with its pods, a garbage collector that was early: the work may be done and its
report whole in the store although no pod can tell. Only without a whole report is the work lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from slipway.api.artifacts import URI_PREFIX
from slipway.api.kinds import JOB, Object
from slipway.api.podtemplate import PodSettings, Resources
from slipway.api.reports import Report
from slipway.api.status import Failure
from slipway.api.tasks import RereadTask
from slipway.plan.jobpods import own_job, pods_of
from slipway.plan.lostnodes import lost_after, lost_pod
from slipway.plan.outcomes import JobEnd, failure_of_report, job_end, remaining, stuck_at, unheard_until
from slipway.plan.parent import ROLE_LABEL, Parent, deletion
from slipway.plan.plan import Plan, Settings, earliest
from slipway.plan.pods import RUNTIME_COMMAND, container, job, pod_template, task_env
from slipway.plan.seen import Seen
from slipway.plan.storemount import StoreMount, egress_labels
from slipway.plan.taskinput import TaskInput
from slipway.plan.trouble import never_runs, why_pending

MAX_REREADS = 3
LOST = Failure(reason="Lost", message="the pods are gone and left no whole report in the store")


@dataclass(frozen=True, slots=True)
class Reread:
    """Whose report is asked for. count: the try that the status has recorded, 0 before the first.

    template: where its pod may run and what pulls its image, as for the pod that wrote the report.
    """

    job: str
    job_uid: str
    folder: str
    count: int
    template: PodSettings | None = None


def follow_reread(
    parent: Parent, asked: Reread, store: StoreMount, seen: Seen, settings: Settings, now: datetime
) -> tuple[Report | JobEnd | int, Plan]:
    """A report that was found, an end without one, or (as an int) the count to record while it is being read."""
    if asked.count == 0:
        return 1, Plan()
    name = reread_name(asked.job, asked.count)
    live = parent.own(seen, JOB, name)
    wanted = _job(parent, name, asked, store, settings)
    if live is None:
        return asked.count, Plan(create=(wanted,))
    own_job(parent, live, wanted, settings)
    pods, refused = pods_of(seen, live, settings)
    pods = remaining(live, pods, now)
    end = job_end(live, pods)
    if end is None:
        return _going_on(asked, live, pods, now)
    if (heard_at := unheard_until(live, pods, now)) is not None:
        return asked.count, Plan(wake_at=heard_at)
    if end.report is not None:
        return (JobEnd(False, failure=LOST) if end.report.outcome == "none" else end.report), Plan()
    if asked.count < MAX_REREADS:
        return asked.count + 1, Plan()
    return told_of(JobEnd(False, failure=LOST), refused), Plan()


def told_of(end: JobEnd, refused: Sequence[str]) -> JobEnd:
    """The end, where nothing is known of it because pods are not believed, with the reason why they are not."""
    if end.failure != LOST or not refused:
        return end
    return JobEnd(False, failure=Failure(reason="PodMismatch", message=f"no report is believed: {refused[0]}"[:1024]))


def reread_name(job: str, count: int) -> str:
    """Of the Job that reads the report of that Job, at the count-th try."""
    return f"{job}-q{count}"


def why_rereading(
    parent: Parent,
    asked: Reread,
    since: datetime,
    seen: Seen,
    settings: Settings,
    now: datetime,
    secret: str | None = None,
) -> tuple[str | None, datetime | None]:
    """Why a report is not read, or when to look for that. since: a time before its Job was made."""
    live = seen.get(JOB, parent.namespace, reread_name(asked.job, asked.count))
    if live is None:
        return None, None
    created = live["metadata"].get("creationTimestamp")
    began = datetime.fromisoformat(created) if created else since
    return why_pending(pods_of(seen, live, settings), began, now, secret)


def _going_on(asked: Reread, job: Object, pods: Sequence[Object], now: datetime) -> tuple[JobEnd | int, Plan]:
    """The pod that reads may itself be lost with its Node, or never run."""
    if lost_pod(pods, now) is None and never_runs(pods) is None:
        return asked.count, Plan(wake_at=earliest((stuck_at(job), lost_after(pods, now))))
    gone = Plan(delete=() if "deletionTimestamp" in job["metadata"] else (deletion(job),))
    return (asked.count + 1 if asked.count < MAX_REREADS else JobEnd(False, failure=LOST)), gone


def end_of_report(report: Report) -> JobEnd:
    """What a report from the store says of the Job that wrote it."""
    if report.outcome == "succeeded":
        return JobEnd(True, report=report)
    return JobEnd(False, failure=failure_of_report(report, None))


def _job(parent: Parent, name: str, asked: Reread, store: StoreMount, settings: Settings) -> Object:
    task = RereadTask(uri=f"{URI_PREFIX}{asked.folder}", job_uid=asked.job_uid)
    reader, given = store.for_task(task), TaskInput.of(task)
    main = container(
        settings.runtime_image,
        RUNTIME_COMMAND,
        pull_policy=settings.image_pull_policy,
        env=task_env(given, reader),
        mounts=[*reader.mounts, *given.mounts],
        resources=Resources(cpu="100m", memory="256Mi"),
    )
    labels = {**parent.labels, ROLE_LABEL: "reread", **egress_labels(reader)}
    template = pod_template(
        [main], labels=labels, store=reader, task=given, template=asked.template, restartPolicy="Never"
    )
    return job(parent, name, template, role="reread", indexed=False)  # an index would make its name too long
