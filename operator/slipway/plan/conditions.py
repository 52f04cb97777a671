"""Conditions, as kstatus, Argo CD and `kubectl wait` read them, and the one for writes that the API server refuses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from slipway.api.status import MAX_CONDITIONS, Condition
from slipway.plan.plan import STATUS, Refusal

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


CHILD_REFUSED = "ChildRefused"
"""Type of the condition, and the reason of Ready and Reconciling where it keeps a resource from going on."""
TRANSIENT_AFTER = timedelta(seconds=60)
"""An API server that is away, or fails, is worth a write of the status only when that lasts."""

_CALL = re.compile(r"^(?:create|apply|delete) \S+ \S+: ")  # what cluster/ puts before the server's words
_NAMED = 6
_WORDS = 600
_LONGEST_WORD = 64
_NUMBER = 24
"""Characters that a word with digits is counted as, whatever its length: a cut must not move with a counter."""


def refused(
    refusals: Sequence[Refusal], present: Iterable[Condition], now: datetime, below: ConditionValue | None = None
) -> ConditionValue | None:
    """The condition ChildRefused for what is refused now; None where nothing is or ever was.

    below: what is refused of the children of a child, told if there is nothing else. present: the conditions as they
    are. Where they say the same but for numbers (what a quota has used, a webhook's request ID) their text stays: else
    each try would be a write of the status.
    """
    known = next((one for one in present if one.type == CHILD_REFUSED), None)
    before = known if known is not None and known.status == "True" else None
    told = sorted(
        (one for one in refusals if one.verb != STATUS and (_lasts(one, now) or _tells_of(before, one))),
        key=lambda one: (one.transient, one.key.kind.kind, one.key.name, one.verb),
    )
    if not told and below is not None:
        return below
    if not told:
        return ConditionValue(False, "NothingRefused") if known else None
    head, words, tail = _parts(told)
    same = re.compile(re.escape(head) + _any_numbers(words) + re.escape(tail))
    if before is not None and same.fullmatch(before.message):
        return ConditionValue(True, before.reason, before.message)
    return ConditionValue(True, "ApiServerFails" if told[0].transient else "Refused", head + words + tail)


def blocked(
    values: Mapping[str, ConditionValue], refused: ConditionValue | None, *, unless: Iterable[str] = ()
) -> dict[str, ConditionValue]:
    """The verdicts with ChildRefused, which is also why the resource does not go on where it is under way.

    unless: reasons of Reconciling that say something else which is waited for.
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


def _parts(told: Sequence[Refusal]) -> tuple[str, str, str]:
    """What is refused first, the server's words on it, and what else is."""
    first, others = told[0], [_named(one) for one in told[1:]]
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    also = f"; also refused: {', '.join(others[:_NAMED])}{more}" if others else ""
    return f"{_named(first)} was refused by the API server: ", _cut(first.message), f"{also}; it is tried again"


def _named(one: Refusal) -> str:
    return f"{one.verb} {one.key.kind.kind} {one.key.name}"


def _lasts(one: Refusal, now: datetime) -> bool:
    return not one.transient or now >= one.since + TRANSIENT_AFTER


def _tells_of(before: Condition | None, one: Refusal) -> bool:
    return before is not None and before.message.startswith(f"{_named(one)} was refused")


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
