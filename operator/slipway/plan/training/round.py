"""What one round of planning a TrainingJob reads, and what it decides."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from slipway.api.trainingjob import TrainingJobSpec, TrainingJobStatus
from slipway.plan.parent import Parent
from slipway.plan.plan import Happening, Plan, Settings
from slipway.plan.seen import Seen
from slipway.plan.training.states import State


@dataclass(frozen=True, slots=True)
class Round:
    """One moment. now: to the second, as it is recorded."""

    parent: Parent
    spec: TrainingJobSpec
    seen: Seen
    settings: Settings
    now: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """The ledger as it should be, the state to show for it, and what to write besides."""

    status: TrainingJobStatus
    state: State
    plan: Plan = field(default_factory=Plan)
    events: tuple[Happening, ...] = ()
