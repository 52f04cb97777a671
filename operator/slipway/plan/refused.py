"""The condition ChildRefused: what the API server does not take of a resource's children, in its own words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from slipway.api.status import Condition
from slipway.plan.conditions import ConditionValue
from slipway.plan.plan import STATUS, Refusal

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
