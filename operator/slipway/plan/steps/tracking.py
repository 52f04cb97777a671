"""The Steps that an owner requests in one round: created, followed, and deleted once they are obsolete."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.errors import SpecError
from slipway.api.kinds import JOB, STEP, Object
from slipway.api.reading import read_status
from slipway.api.reports import shorten
from slipway.api.status import Condition, TaskRun, TaskState
from slipway.api.step import StepStatus
from slipway.plan.conditions import CHILD_REFUSED, ConditionValue
from slipway.plan.egress import keep_policy
from slipway.plan.jobs.outcomes import DEADLINE_EXCEEDED, describe_cause
from slipway.plan.observation import ClusterView
from slipway.plan.owner import NAME_CONFLICT, OWNER_LABELS, Owner, deletion
from slipway.plan.parse import value_at
from slipway.plan.plan import Deletion, Plan
from slipway.plan.references import TerminalError
from slipway.plan.steps.request import RETRY_ANNOTATION, Demand, StepRequest, job_of, mark_of, render_step, step_name
from slipway.plan.tasks import (
    RETRY_AFTER,
    RETRY_NOTE,
    input_is_missing,
    input_is_unusable,
    may_be_remade,
    missing_inputs,
    ran_out_of_memory,
    retries_itself,
    retry_at,
    will_retry,
)

_UNREPORTED_REASONS = frozenset({"Starting", "Running", CHILD_REFUSED})
"""Reasons of a Step in progress that the status of its owner does not show."""


STEPS_HINT = "see `kubectl get steps"
"""Beginning of a message that only refers to the Steps."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """The present state of a requested Step. run: None before its first try; pending: why it does not run.

    error: the condition Stalled, for another reason than a failed task. remaking: it will run again although it has
    ended. shared: its result is that of another owner's Step. refused: the condition ChildRefused, if the API server
    refuses its Job.
    """

    request: StepRequest
    name: str
    run: TaskRun | None = None
    pending: str | None = None
    error: Condition | None = None
    refused: Condition | None = None
    remaking: bool = False
    shared: bool = False

    @property
    def succeeded(self) -> bool:
        return self.run is not None and self.run.state is TaskState.SUCCEEDED and not self.remaking

    @property
    def failed(self) -> bool:
        """True if its task failed and no other try follows within minutes."""
        ended = self.run is not None and self.run.state is TaskState.FAILED and not self.remaking
        return ended and self.run is not None and not will_retry(self.run)


class StepSet:
    """Collects the Steps that an owner requests in one round, and the writes for them.

    retry: the nonce with which the user requests another run of failed Steps. revision: the one that requests them.
    """

    def __init__(
        self, owner: Owner, view: ClusterView, now: datetime, *, retry: str | None = None, revision: str | None = None
    ) -> None:
        self._owner, self._view, self._now = owner, view, now
        self._retry, self.revision = retry, revision
        self._tracked: dict[str, Tracked] = {}
        self._missing: dict[str, datetime] = {}
        self._policy = False
        self.replacing = False
        """True if a result of another owner is being made again, because the tag of an image was moved since."""
        self.complete = False
        """True if all Steps were requested: all others are then obsolete."""
        self.conflicts: list[SpecError] = []
        """Objects of other owners with the name of a requested Step; the other Steps continue."""
        self.plan = Plan()

    @property
    def marks(self) -> tuple[str, ...]:
        """The last parts of the names of the Steps that are requested in this round."""
        return tuple(mark_of(one.name) for one in self._tracked.values())

    def mark_missing(self, digest: str, at: datetime) -> None:
        """Record that an artifact was missing in the store at that time, so that it is made again."""
        self._missing[digest] = at

    def is_new(self, request: StepRequest) -> bool:
        """Return True if the Step neither exists nor was requested in this round."""
        return request.digest not in self._tracked and (
            self._view.get(STEP, self._owner.namespace, step_name(self._owner, request)) is None
        )

    @property
    def under_way(self) -> int:
        """The number of Steps of the owner that have not ended, with those of this round."""
        before = all_steps(self._owner, self._view)
        names = {step["metadata"]["name"] for step in before}
        running = sum(value_at(step, "status", "phase") not in ("Succeeded", "Failed") for step in before)
        return running + sum(one.name not in names for one in self._tracked.values())

    def follow(self, request: StepRequest) -> Tracked:
        """Request a Step and return its present state. Two requests of one digest in a round are one Step."""
        digest = request.digest
        if digest not in self._tracked:
            self._tracked[digest] = self._follow(request, step_name(self._owner, request))
        return self._tracked[digest]

    def artifact(self, request: StepRequest, state: State) -> ArtifactRef | None:
        """Return the result of a Step; None before its end. Raises TerminalError for a result of another state."""
        tracked = self.follow(request)
        if not tracked.succeeded or tracked.run is None:
            return None
        made = tracked.run.artifact
        if made is None or made.state is not state:
            left = f"a result of state {made.state}" if made else "no result"
            where = f"see the logs of job/{tracked.run.job}"
            raise TerminalError(
                "StepFailed", f"{request.label} left {left}; expected a result of state {state}; {where}"
            )
        return made

    def changed_image(self) -> str | None:
        """Return an error if the tag of an image was moved while the Steps ran; None if none was.

        The results belong together: both models of a comparison must be evaluated by the same image. A result of
        another owner's Step is then replaced by that of an own run.
        """
        ran: dict[str, Tracked] = {}
        for tracked in sorted(self._tracked.values(), key=lambda one: one.shared):
            if not tracked.succeeded or tracked.run is None or tracked.run.image_id is None:
                continue
            first = ran.setdefault(tracked.request.image, tracked)
            if first.run is None or first.run.image_id == tracked.run.image_id:
                continue
            if tracked.shared:
                self._run_again(tracked)
                self.replacing = True
            images = [
                f"{shorten(one.run.image_id or '', 160)} for the {one.request.label}"
                for one in (first, tracked)
                if one.run
            ]
            return (
                f"image {tracked.request.image} was {images[0]} and {images[1]}: its tag was moved; name it by digest"
                " (image.digests of the chart, or spec.image of the CompressionPlugin)"
            )
        return None

    def _run_again(self, tracked: Tracked) -> None:
        live = self._view.get(STEP, self._owner.namespace, tracked.name)
        runs = int((live or {}).get("spec", {}).get("runs", 1)) + 1
        step = render_step(self._owner, tracked.request, Demand(runs, self._retry, self.revision), live)
        self._tracked[tracked.request.digest] = replace(tracked, remaking=True)
        self.plan = self.plan.plus(Plan(apply=(step,)).as_own_part())

    @property
    def remaking(self) -> bool:
        """True if any Step runs again: Steps that depend on it are then not requested, and not obsolete either."""
        return any(tracked.remaking for tracked in self._tracked.values())

    @property
    def failure(self) -> tuple[str, str] | None:
        """Reason and message of the first Step that failed for good, or cannot run; None if there is none."""
        for tracked in self._tracked.values():
            if tracked.failed and tracked.run is not None:
                why = describe_cause(tracked.run.failure) if tracked.run.failure else ""
                return "StepFailed", f"{tracked.request.label} failed{f': {why}' if why else ''}; {_cure(tracked)}"
            if tracked.error is not None:
                return tracked.error.reason, f"{tracked.request.label} cannot run: {tracked.error.message}"
        return None

    @property
    def refused(self) -> ConditionValue | None:
        """The condition for refused Jobs of the Steps; None if none is refused."""
        found = (one.refused for one in self._tracked.values() if one.refused is not None)
        return next((ConditionValue(True, one.reason, one.message) for one in found), None)

    @property
    def steps_hint(self) -> str:
        """A message with the command that shows the Steps of the owner."""
        return f"{STEPS_HINT} -l {OWNER_LABELS[self._owner.kind.kind]}={self._owner.name}`"

    @property
    def waits(self) -> tuple[str, ...]:
        """Labels of the Steps that wait, with the reasons."""
        return tuple(f"{one.request.label} ({one.pending})" for one in self._tracked.values() if one.pending)

    def _follow(self, request: StepRequest, name: str) -> Tracked:
        if (conflict := self._owner.conflict(self._view, STEP, name)) is not None:
            self.conflicts.append(conflict)
            return Tracked(request, name)
        live = self._view.get(STEP, self._owner.namespace, name)
        if live is not None and live["spec"].get("digest") != request.digest:
            problem = f"Step {name} exists for other work"
            cure = f"have an administrator delete Step {name}"
            self.conflicts.append(SpecError("metadata.name", problem, cure, reason=NAME_CONFLICT))
            return Tracked(request, name)
        status = read_status(StepStatus, (live or {}).get("status") or {})
        demand = Demand(int((live or {}).get("spec", {}).get("runs", 1)), self._retry, self.revision)
        tracked = _tracked(request, name, live, status)
        if demand.runs > max(status.runs, 1):
            tracked = replace(tracked, remaking=True)
        elif tracked.succeeded and self._is_missing(tracked):
            tracked, demand = replace(tracked, remaking=True), Demand(demand.runs + 1, demand.retry, demand.revision)
        run = tracked.run
        if run is not None and not tracked.remaking and input_is_unusable(run):
            tracked = self._with_inputs_remade(tracked, run) if input_is_missing(run) else tracked
            due_at = run.ended_at if self._is_restored(tracked, run) else retry_at(run)
            if not tracked.remaking and due_at is not None and self._now >= due_at:
                demand = Demand(demand.runs + 1, demand.retry, demand.revision)
            elif not tracked.remaking:
                self.plan = self.plan.plus(Plan(wake_at=due_at))
        step = render_step(self._owner, request, demand, live, runs=self._runs(live, status.run))
        if not tracked.succeeded:
            self._keep_policy(request)
        deleting = live is not None and "deletionTimestamp" in live["metadata"]
        if not deleting and (live is None or not tracked.succeeded or _differs(live, step)):
            self.plan = self.plan.plus(Plan(apply=(step,)).as_own_part())
        return tracked

    def _runs(self, live: Object | None, run: TaskRun | None) -> bool:
        """Return True if the Job of the present try exists, recorded or not: its task must then not change."""
        if live is None or (run is not None and run.state in (TaskState.SUCCEEDED, TaskState.FAILED)):
            return False
        return self._view.get(JOB, self._owner.namespace, job_of(Owner.of(live), run)) is not None

    def _is_missing(self, tracked: Tracked) -> bool:
        run = tracked.run
        if run is None or run.artifact is None or run.ended_at is None:
            return False
        at = self._missing.get(run.artifact.digest)
        return at is not None and at >= run.ended_at and may_be_remade(run, self._now)

    def _keep_policy(self, request: StepRequest) -> None:
        """Add the NetworkPolicy to the plan, once in a round, while a Step whose pod it selects is in progress."""
        if self._policy or request.spec.held_out is not None:
            return
        self._policy = True
        self.plan = self.plan.plus(keep_policy(self._owner, request.store.spec, self._view))

    def _makers(self, tracked: Tracked, run: TaskRun) -> list[tuple[Tracked, TaskRun]]:
        """Return the Steps whose artifacts a run did not find. A source model or stored data has none."""
        missing = missing_inputs(run, tracked.request.task)
        return [
            (maker, maker.run)
            for maker in self._tracked.values()
            if maker.run is not None and maker.run.artifact is not None and maker.run.artifact.digest in missing
        ]

    def _is_restored(self, tracked: Tracked, run: TaskRun) -> bool:
        """Return True if the inputs that a run did not find were made again since."""
        makers = self._makers(tracked, run)
        return bool(makers) and all(maker.succeeded and not _ended_before(made, run) for maker, made in makers)

    def _with_inputs_remade(self, tracked: Tracked, run: TaskRun) -> Tracked:
        """Run the Steps again whose artifacts this run did not find; their inputs may be missing, too."""
        makers = [
            maker
            for maker, made in self._makers(tracked, run)
            if maker.remaking or (_ended_before(made, run) and may_be_remade(made, self._now))
        ]
        if not makers:
            return tracked
        due_at = (run.ended_at or self._now) + RETRY_AFTER
        if self._now < due_at:
            self.plan = self.plan.plus(Plan(wake_at=due_at))
            why = describe_cause(run.failure) if run.failure else ""
            pending = f"{why}; the step that made it runs again at {due_at:%H:%M:%S} UTC"
            return replace(tracked, pending=pending, remaking=True)
        for maker in makers:
            if not maker.remaking:
                self._run_again(maker)
        return replace(tracked, remaking=True)


def obsolete_steps(owner: Owner, view: ClusterView, marks: Iterable[str]) -> tuple[Deletion, ...]:
    """Return the deletions of the obsolete Steps of an owner. marks: those of the Steps to retain."""
    retained = frozenset(marks)
    return tuple(
        deletion(step)
        for step in all_steps(owner, view)
        if mark_of(step["metadata"]["name"]) not in retained and "deletionTimestamp" not in step["metadata"]
    )


def _tracked(request: StepRequest, name: str, live: Object | None, status: StepStatus) -> Tracked:
    reconciling = next((one for one in status.conditions if one.type == "Reconciling" and one.status == "True"), None)
    stalled = next((one for one in status.conditions if one.type == "Stalled" and one.status == "True"), None)
    pending = reconciling.message if reconciling is not None and reconciling.reason not in _UNREPORTED_REASONS else None
    blocked = stalled is not None and stalled.reason != "StepFailed"
    error = stalled if blocked and live is not None else None
    refused = next((one for one in status.conditions if one.type == CHILD_REFUSED and one.status == "True"), None)
    return Tracked(request, name, status.run, pending, error, refused, shared=status.shared_from is not None)


def _ended_before(maker: TaskRun, reader: TaskRun) -> bool:
    """Return True if the artifact was made before the reader missed it: a later one is not known to be missing."""
    return maker.ended_at is None or reader.ended_at is None or maker.ended_at <= reader.ended_at


def _differs(live: Object, rendered: Object) -> bool:
    """Return True if the demand for a finished Step has changed; a new location of its inputs does not count."""
    labels, asked = live["metadata"].get("labels") or {}, rendered["metadata"]["labels"]
    return any(labels.get(name) != value for name, value in asked.items()) or any(
        live["spec"].get(name) != rendered["spec"].get(name) for name in ("runs", "retry")
    )


def pods_cure(tracked: Tracked) -> str | None:
    """Return the field to raise if a try exceeded its memory or its deadline; None for another cause."""
    run, fields = tracked.run, tracked.request.pods_field
    if run is not None and ran_out_of_memory(run):
        return f"raise {fields}.resources.memory above {run.memory}"
    if run is not None and run.failure is not None and run.failure.reason == DEADLINE_EXCEEDED:
        return f"raise {fields}.deadline, and set the annotation {RETRY_ANNOTATION} to another value"
    return None


def _cure(tracked: Tracked) -> str:
    run = tracked.run
    if run is None:
        return f"see step/{tracked.name}"
    if (cure := pods_cure(tracked)) is not None:
        return cure
    if input_is_missing(run):
        return f"restore the artifact in the store; {RETRY_NOTE}"
    if retries_itself(run):
        return RETRY_NOTE
    return f"see the logs of job/{run.job}"


def all_steps(owner: Owner, view: ClusterView) -> Sequence[Object]:
    return view.owned(STEP, owner.namespace, owner.uid)


def run_of(step: Object) -> TaskRun | None:
    """Return the newest run in the status of a Step."""
    return read_status(StepStatus, step.get("status") or {}).run
