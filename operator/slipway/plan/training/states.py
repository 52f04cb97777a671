"""The input and the result of planning a TrainingJob, and its states as people and tools read them.

Every state has all six conditions: a condition that is removed would lose its lastTransitionTime.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from slipway.api.artifacts import ArtifactRef
from slipway.api.trainingjob import Attempt, AttemptOutcome, TrainingJobSpec, TrainingJobStatus
from slipway.plan import conditions
from slipway.plan.conditions import ConditionValue
from slipway.plan.observation import ClusterView, Observation
from slipway.plan.owner import Owner
from slipway.plan.plan import EventRecord, Plan, Settings
from slipway.plan.training.attempts import cause, outcome_reason

Phase = Literal["Pending", "Running", "Restarting", "Suspended", "Succeeded", "Failed"]


class State(NamedTuple):
    """The state of a TrainingJob: its phase, and the values of its conditions."""

    phase: Phase
    values: Mapping[str, ConditionValue]

    @property
    def stalled(self) -> ConditionValue | None:
        """The condition Stalled, if it is True."""
        verdict = self.values["Stalled"]
        return verdict if verdict.status else None


def waiting(reason: str, message: str) -> State:
    """Return the state of waiting for an object that the spec names."""
    return _state("Pending", conditions.under_way(reason, message))


def preparing(names: str) -> State:
    return _state("Pending", conditions.under_way("PreparingData", f"data sets are being prepared: {names}"))


def starting(attempt: Attempt, before: Attempt | None, pending_reason: str | None) -> State:
    """Return the state of an attempt whose pods do not all run yet. before: the failed attempt, if there is one."""
    reason = "PodsNotRunning" if pending_reason else "Starting"
    message = f"attempt {attempt.number}: {pending_reason or f'waits for its {_pods(attempt.nodes)} to run'}"
    shown = conditions.under_way(reason, message)
    return _state("Pending", shown) if before is None else _state("Restarting", shown, running=_not_running(before))


def running(attempt: Attempt) -> State:
    message = f"attempt {attempt.number} runs on {_pods(attempt.nodes)}"
    return _state("Running", conditions.under_way("Running", message), running=ConditionValue(True, "Running", message))


def recovering(attempt: Attempt, pending_reason: str | None) -> State:
    """Return the state of recovery: a pod reads the report of the attempt from the store, as its own pods are gone."""
    reason = f": {pending_reason}" if pending_reason else ""
    message = f"the pods of attempt {attempt.number} are gone; its report is being read from the store{reason}"
    return _state("Running", conditions.under_way("Running", message), running=ConditionValue(True, "Running", message))


def sealing(attempt: Attempt, tasks: Sequence[str]) -> State:
    """Return the state of sealing: a Step makes the artifact from the output of a user's image. tasks: their labels."""
    message = f"attempt {attempt.number} succeeded; its output is being sealed: {', '.join(tasks)}"
    return _state("Running", conditions.under_way("Sealing", message), running=ConditionValue(True, "Sealing", message))


def restarting(before: Attempt, at: datetime) -> State:
    message = f"{cause(before)}; attempt {before.number + 1} starts at {at:%H:%M:%S} UTC"
    if before.outcome is AttemptOutcome.NOT_STARTED:
        return _state("Pending", conditions.under_way("PodsNotRunning", message))
    return _state("Restarting", conditions.under_way("BackOff", message), running=_not_running(before))


def suspended() -> State:
    return _state("Suspended", conditions.inactive("Suspended", "spec.suspend is true; set it to false to go on"))


def succeeded(artifact: ArtifactRef | None) -> State:
    message = f"made {artifact.digest}" if artifact else "succeeded without an artifact"
    return _state(
        "Succeeded", conditions.ready("Succeeded", message), complete=ConditionValue(True, "Succeeded", message)
    )


def stalled(reason: str, message: str) -> State:
    """Return the state of a job that failed for good, or whose spec is invalid."""
    return _state("Failed", conditions.stalled(reason, message), failed=ConditionValue(True, reason, message))


def with_stalled(state: State, reason: str, message: str) -> State:
    """Return the state of a job that continues as far as it can, and needs an action of the user."""
    return State(state.phase, {**state.values, **conditions.stalled(reason, message)})


def _state(
    phase: Phase,
    three: Mapping[str, ConditionValue],
    *,
    running: ConditionValue | None = None,
    complete: ConditionValue | None = None,
    failed: ConditionValue | None = None,
) -> State:
    no = ConditionValue(False, three["Ready"].reason)
    return State(phase, {**three, "Running": running or no, "Complete": complete or no, "Failed": failed or no})


def _not_running(before: Attempt) -> ConditionValue:
    return ConditionValue(False, re.sub(r"[^A-Za-z0-9]", "", outcome_reason(before)) or "Unknown", cause(before))


def _pods(count: int) -> str:
    return "1 pod" if count == 1 else f"{count} pods"


@dataclass(frozen=True, slots=True)
class ReconcileContext:
    """The input of planning a TrainingJob, at a time in whole seconds, as it is recorded.

    retry: the nonce with which the user requests another run of failed Steps.
    """

    owner: Owner
    spec: TrainingJobSpec
    observation: Observation
    retry: str | None = None

    @property
    def view(self) -> ClusterView:
        return self.observation.view

    @property
    def settings(self) -> Settings:
        return self.observation.settings

    @property
    def now(self) -> datetime:
        return self.observation.now


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of planning: the status to record, the state to show, and further writes.

    refused: the condition for refused Jobs of Steps.
    """

    status: TrainingJobStatus
    state: State
    plan: Plan = field(default_factory=Plan)
    events: tuple[EventRecord, ...] = ()
    refused: ConditionValue | None = None
