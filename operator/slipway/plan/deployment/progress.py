"""Where the wanted revision stands: what it waits for, what it does, or what it cannot get past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

Stage = Literal["Pending", "Compressing", "Evaluating", "RollingOut", "Ready"]


@dataclass(frozen=True, slots=True)
class RevisionProgress:
    """stage: how far it is. stalled: nothing moves until somebody acts; `reason` and `message` then say on what."""

    stage: Stage
    reason: str
    message: str
    stalled: bool = False

    @classmethod
    def waiting(cls, reason: str, message: str) -> Self:
        """For something that may come by itself."""
        return cls("Pending", reason, message)

    @classmethod
    def blocked(cls, reason: str, message: str) -> Self:
        return cls("Pending", reason, message, stalled=True)
