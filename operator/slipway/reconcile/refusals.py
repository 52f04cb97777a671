"""What the API server will not take, told to the user: a quota, a policy or a webhook that only somebody can mend."""

from __future__ import annotations

from slipway.api.errors import AlreadyExists, ClusterError, Forbidden, Invalid
from slipway.api.kinds import Key
from slipway.api.reports import shorten
from slipway.plan.plan import Happening

REFUSALS = (AlreadyExists, Forbidden, Invalid)
"""Errors that blame the object or a right; the others say that the API server was away, and pass by themselves."""
_SHOWN = 900
"""Characters of the server's words; an Event's note holds 1,024."""


class Refusals:
    """Which refusals of each resource were told: each refused call once until a turn goes well.

    The server's words may change with every try (what a quota has used, a webhook's request id), the call does not.
    """

    def __init__(self) -> None:
        self._told: dict[Key, set[str]] = {}

    def news(self, key: Key, refusal: ClusterError) -> Happening | None:
        """The Event to post; None where this call was told of before."""
        call = str(refusal).partition(": ")[0]  # `create jobs ns/name`: what cluster/ puts before the server's words
        told = self._told.setdefault(key, set())
        if call in told:
            return None
        told.add(call)
        message = f"the API server refused to {shorten(str(refusal), _SHOWN)}; it is tried again until it is taken"
        return Happening("Warning", "Refused", message)

    def over(self, key: Key) -> None:
        """A turn went well: the next refusal is a new one."""
        self._told.pop(key, None)
