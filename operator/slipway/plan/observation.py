"""What a planner decides on besides its resource: the one argument of every planner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from slipway.plan.plan import Refusal, Settings
from slipway.plan.view import ClusterView

Measurements = Mapping[str, float]
"""Figures by name. Nothing collects any yet: a rollout that is judged by the metrics of its pods will."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One moment, as a planner is told of it.

    seen: the cluster. now: aware. refusals: what the API server did not take of the plan before. measurements: of the
    pods of the resource.
    """

    view: ClusterView
    settings: Settings
    now: datetime
    refusals: Sequence[Refusal] = ()
    measurements: Measurements = field(default_factory=dict)

    def at(self, now: datetime) -> Self:
        """The same, at another time."""
        return replace(self, now=now)
