"""The input and the result of planning a TrainingJob, and its states as people and tools read them.

Every state says all six conditions: a condition that comes and goes would forget when it last flipped.
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
    """phase is for people; verdicts become the conditions."""

    phase: Phase
    values: Mapping[str, ConditionValue]

    @property
    def stalled(self) -> ConditionValue | None:
        """The verdict by which the job is stuck; None where it is not."""
        verdict = self.values["Stalled"]
        return verdict if verdict.status else None


def waiting(reason: str, message: str) -> State:
    """Something that the spec names is not there yet."""
    return _state("Pending", conditions.under_way(reason, message))


def preparing(names: str) -> State:
    return _state("Pending", conditions.under_way("PreparingData", f"data sets are being prepared: {names}"))


def starting(attempt: Attempt, before: Attempt | None, trouble: str | None) -> State:
    """The attempt is decided and its pods do not all run yet. before: the attempt that failed, where one did."""
    reason = "PodsNotRunning" if trouble else "Starting"
    message = f"attempt {attempt.number}: {trouble or f'waits for its {_pods(attempt.nodes)} to run'}"
    shown = conditions.under_way(reason, message)
    return _state("Pending", shown) if before is None else _state("Restarting", shown, running=_not_running(before))


def running(attempt: Attempt) -> State:
    message = f"attempt {attempt.number} runs on {_pods(attempt.nodes)}"
    return _state("Running", conditions.under_way("Running", message), running=ConditionValue(True, "Running", message))


def recovering(attempt: Attempt, trouble: str | None) -> State:
    """Its pods are gone; another one looks in the store for how it ended. trouble: why that one does not run."""
    said = f": {trouble}" if trouble else ""
    message = f"the pods of attempt {attempt.number} are gone; its report is being read from the store{said}"
    return _state("Running", conditions.under_way("Running", message), running=ConditionValue(True, "Running", message))


def sealing(attempt: Attempt, tasks: Sequence[str]) -> State:
    """Training is over; a pod makes the artifact of what a user's image left. tasks: as they are told of."""
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
    """Given up, or the spec cannot work."""
    return _state("Failed", conditions.stalled(reason, message), failed=ConditionValue(True, reason, message))


def obstructed(state: State, reason: str, message: str) -> State:
    """The state of a job that goes on as far as it can while somebody must act."""
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
    """One moment, to the second, as it is recorded.

    retry: the nonce by which the user has failed Steps run again.
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
    """The ledger as it should be, the state to show for it, and what to write besides.

    refused: what the API server does not take of the Jobs of Steps.
    """

    status: TrainingJobStatus
    state: State
    plan: Plan = field(default_factory=Plan)
    events: tuple[EventRecord, ...] = ()
    refused: ConditionValue | None = None
