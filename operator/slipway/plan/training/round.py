"""What one round of planning a TrainingJob reads, and what it decides."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from slipway.api.trainingjob import TrainingJobSpec, TrainingJobStatus
from slipway.plan.conditions import Verdict
from slipway.plan.parent import Parent
from slipway.plan.plan import Happening, Plan, Settings
from slipway.plan.seen import Seen
from slipway.plan.training.states import State


@dataclass(frozen=True, slots=True)
class Round:
    """One moment.

    now: to the second, as it is recorded. retry: the nonce by which the user has failed Steps run again.
    """

    parent: Parent
    spec: TrainingJobSpec
    seen: Seen
    settings: Settings
    now: datetime
    retry: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The ledger as it should be, the state to show for it, and what to write besides.

    refused: what the API server does not take of the Jobs of Steps.
    """

    status: TrainingJobStatus
    state: State
    plan: Plan = field(default_factory=Plan)
    events: tuple[Happening, ...] = ()
    refused: Verdict | None = None
