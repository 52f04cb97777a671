"""Conditions: what kstatus, Argo CD and `kubectl wait` read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple

from slipway.api.status import MAX_CONDITIONS, Condition

Truth = Literal["True", "False", "Unknown"]


class ConditionValue(NamedTuple):
    """What a condition should say now."""

    status: bool
    reason: str
    message: str = ""


def with_conditions(
    present: Iterable[Condition], values: Mapping[str, ConditionValue], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The conditions by type, in the order of the verdicts; lastTransitionTime moves only where the status flips.

    Every round says all that is ours to say. Conditions of other types stay as they are, behind ours, as many as there
    is room for: another version or another controller says them.
    """
    before = {condition.type: condition for condition in present}
    ours = tuple(_condition(before.get(kind), kind, value, generation, now) for kind, value in values.items())
    others = tuple(condition for kind, condition in before.items() if kind not in values)
    return (*ours, *others)[:MAX_CONDITIONS]


def _condition(before: Condition | None, kind: str, value: ConditionValue, generation: int, now: datetime) -> Condition:
    status: Truth = "True" if value.status else "False"
    same = before is not None and before.status == status
    return Condition(
        type=kind,
        status=status,
        reason=value.reason,
        message=value.message[:2048],
        observed_generation=generation,
        last_transition_time=before.last_transition_time if same and before else now.replace(microsecond=0),
    )


def ready(reason: str, message: str = "") -> dict[str, ConditionValue]:
    """Done: kstatus reads Current."""
    return _three(ConditionValue(True, reason, message), reconciling=None, stalled=None)


def under_way(reason: str, message: str = "") -> dict[str, ConditionValue]:
    """Work goes on, or waits for something that may come: kstatus reads InProgress."""
    value = ConditionValue(True, reason, message)
    return _three(ConditionValue(False, reason, message), reconciling=value, stalled=None)


def stalled(reason: str, message: str) -> dict[str, ConditionValue]:
    """Nothing will move until somebody acts: kstatus reads Failed."""
    return _three(
        ConditionValue(False, reason, message), reconciling=None, stalled=ConditionValue(True, reason, message)
    )


def at_rest(reason: str, message: str = "") -> dict[str, ConditionValue]:
    """Neither done nor working nor stuck: suspended."""
    return _three(ConditionValue(False, reason, message), reconciling=None, stalled=None)


def _three(
    ready: ConditionValue, *, reconciling: ConditionValue | None, stalled: ConditionValue | None
) -> dict[str, ConditionValue]:
    return {
        "Ready": ready,
        "Reconciling": reconciling or ConditionValue(False, ready.reason),
        "Stalled": stalled or ConditionValue(False, ready.reason),
    }
