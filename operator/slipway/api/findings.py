"""What a check answers: one line for people, the same for programs."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """One line. cure: what to do; empty where all is well."""

    check: str
    level: Level
    what: str
    cure: str = ""


def judged(check: str, problems: list[str], well: str, cure: str) -> Finding:
    """A failure that names every problem; without one, what is well."""
    return Finding(check, "fail", "; ".join(problems), cure) if problems else Finding(check, "ok", well)


def counted(count: int, thing: str, things: str = "") -> str:
    """`1 pod`, `2 pods`. things: the plural where it is not thing with an s."""
    return f"{count} {thing if count == 1 else things or f'{thing}s'}"
