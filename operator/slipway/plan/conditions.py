"""Conditions, as kstatus, Argo CD and `kubectl wait` read them, and the condition for refused writes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from slipway.api.status import MAX_CONDITIONS, Condition
from slipway.plan.plan import STATUS, Refusal

Truth = Literal["True", "False", "Unknown"]


class ConditionValue(NamedTuple):
    """The current value of a condition."""

    status: bool
    reason: str
    message: str = ""


def with_conditions(
    present: Iterable[Condition], values: Mapping[str, ConditionValue], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Return the conditions in the order of `values`; lastTransitionTime changes only if the status does.

    values: all conditions of this version. Conditions of other types, from another version or another controller,
    follow unchanged, up to MAX_CONDITIONS in all.
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
    """Return the conditions of a resource that is done; kstatus reads Current."""
    return _three(ConditionValue(True, reason, message), reconciling=None, stalled=None)


def under_way(reason: str, message: str = "") -> dict[str, ConditionValue]:
    """Return the conditions of a resource in progress, or one that waits for another; kstatus reads InProgress."""
    value = ConditionValue(True, reason, message)
    return _three(ConditionValue(False, reason, message), reconciling=value, stalled=None)


def stalled(reason: str, message: str) -> dict[str, ConditionValue]:
    """Return the conditions of a resource that needs an action of the user; kstatus reads Failed."""
    return _three(
        ConditionValue(False, reason, message), reconciling=None, stalled=ConditionValue(True, reason, message)
    )


def inactive(reason: str, message: str = "") -> dict[str, ConditionValue]:
    """Return the conditions of a suspended resource: not ready, not reconciling and not stalled."""
    return _three(ConditionValue(False, reason, message), reconciling=None, stalled=None)


def _three(
    ready: ConditionValue, *, reconciling: ConditionValue | None, stalled: ConditionValue | None
) -> dict[str, ConditionValue]:
    return {
        "Ready": ready,
        "Reconciling": reconciling or ConditionValue(False, ready.reason),
        "Stalled": stalled or ConditionValue(False, ready.reason),
    }


CHILD_REFUSED = "ChildRefused"
"""Type of the condition, and the reason of Ready and Reconciling if a refused write blocks the resource."""
TRANSIENT_AFTER = timedelta(seconds=60)
"""Time after which a temporary error of the API server is shown in the status."""

_CALL = re.compile(r"^(?:create|apply|delete) \S+ \S+: ")  # the prefix that cluster/ adds to the API server's message
_NAMED = 6
_WORDS = 600
_LONGEST_WORD = 64
_NUMBER = 24
"""Length counted for every word with digits: the place of the cut must not depend on a counter."""


def refused(
    refusals: Sequence[Refusal], present: Iterable[Condition], now: datetime, below: ConditionValue | None = None
) -> ConditionValue | None:
    """Return the condition ChildRefused for the present refusals; None without a refusal, now or before.

    below: the condition for children of a child, used if nothing else is refused. present: the present conditions. If
    the message differs from the present one only in numbers (the usage of a quota, a webhook's request ID), the present
    one stays: otherwise each try would be a write of the status.
    """
    known = next((one for one in present if one.type == CHILD_REFUSED), None)
    before = known if known is not None and known.status == "True" else None
    reported = sorted(
        (one for one in refusals if one.verb != STATUS and (_is_lasting(one, now) or _is_reported(before, one))),
        key=lambda one: (one.transient, one.key.kind.kind, one.key.name, one.verb),
    )
    if not reported and below is not None:
        return below
    if not reported:
        return ConditionValue(False, "NothingRefused") if known else None
    head, words, tail = _parts(reported)
    same = re.compile(re.escape(head) + _any_numbers(words) + re.escape(tail))
    if before is not None and same.fullmatch(before.message):
        return ConditionValue(True, before.reason, before.message)
    return ConditionValue(True, "ApiServerFails" if reported[0].transient else "Refused", head + words + tail)


def blocked(
    values: Mapping[str, ConditionValue], refused: ConditionValue | None, *, unless: Iterable[str] = ()
) -> dict[str, ConditionValue]:
    """Return the conditions with ChildRefused, which also becomes the reason of a resource in progress.

    unless: reasons of Reconciling for which the resource waits, independently of the refusal.
    """
    if refused is None:
        return dict(values)
    reconciling = values["Reconciling"]
    because: dict[str, ConditionValue] = {}
    if refused.status and reconciling.status and reconciling.reason not in unless:
        because = {
            "Ready": ConditionValue(False, CHILD_REFUSED, refused.message),
            "Reconciling": ConditionValue(True, CHILD_REFUSED, refused.message),
            "Stalled": ConditionValue(False, CHILD_REFUSED),
        }
    return {**values, **because, CHILD_REFUSED: refused}


def _parts(reported: Sequence[Refusal]) -> tuple[str, str, str]:
    """Return the text before the API server's message, the message, and the other refused writes."""
    first, others = reported[0], [_describe(one) for one in reported[1:]]
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    also = f"; also refused: {', '.join(others[:_NAMED])}{more}" if others else ""
    return f"{_describe(first)} was refused by the API server: ", _cut(first.message), f"{also}; Slipway retries"


def _describe(one: Refusal) -> str:
    return f"{one.verb} {one.key.kind.kind} {one.key.name}"


def _is_lasting(one: Refusal, now: datetime) -> bool:
    return not one.transient or now >= one.since + TRANSIENT_AFTER


def _is_reported(before: Condition | None, one: Refusal) -> bool:
    return before is not None and before.message.startswith(f"{_describe(one)} was refused")


def _cut(message: str) -> str:
    words: list[str] = []
    left = _WORDS
    for word in _CALL.sub("", message).split():
        left -= _NUMBER if _volatile(word) else min(len(word), _LONGEST_WORD) + 1
        if left < 0:
            return " ".join((*words, "..."))
        words.append(word[:_LONGEST_WORD])
    return " ".join(words)


def _any_numbers(words: str) -> str:
    return " ".join(r"\S+" if _volatile(word) else re.escape(word) for word in words.split())


def _volatile(word: str) -> bool:
    return any(letter.isdigit() for letter in word)
