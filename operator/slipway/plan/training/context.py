"""What one round of planning a TrainingJob reads, and what it decides."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from slipway.api.trainingjob import TrainingJobSpec, TrainingJobStatus
from slipway.plan.conditions import ConditionValue
from slipway.plan.observation import ClusterView, Observation
from slipway.plan.owner import Owner
from slipway.plan.plan import EventRecord, Plan, Settings
from slipway.plan.training.states import State


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
