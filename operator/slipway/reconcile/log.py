"""The log of the reconcile loop: events with named values, bound to the resource that they are about.

A dry run logs nothing, and the command that runs it starts without importing the library.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol


class Log(Protocol):
    def debug(self, event: str, /, **values: Any) -> object: ...
    def info(self, event: str, /, **values: Any) -> object: ...
    def warning(self, event: str, /, **values: Any) -> object: ...
    def error(self, event: str, /, **values: Any) -> object: ...
    def exception(self, event: str, /, **values: Any) -> object: ...

    def bound(self, **values: Any) -> AbstractContextManager[object]:
        """Add these values to every event inside the block."""
        ...


class NoLog:
    """A log that drops every event."""

    def debug(self, event: str, /, **values: Any) -> None: ...
    def info(self, event: str, /, **values: Any) -> None: ...
    def warning(self, event: str, /, **values: Any) -> None: ...
    def error(self, event: str, /, **values: Any) -> None: ...
    def exception(self, event: str, /, **values: Any) -> None: ...

    def bound(self, **_values: Any) -> AbstractContextManager[object]:
        return nullcontext()


NO_LOG = NoLog()


def structured_log() -> Log:
    """Return a log that writes through structlog, as structlog is configured at the time of the event."""
    import structlog

    log = structlog.get_logger("slipway.reconcile")

    class StructuredLog:
        def debug(self, event: str, /, **values: Any) -> object:
            return log.debug(event, **values)

        def info(self, event: str, /, **values: Any) -> object:
            return log.info(event, **values)

        def warning(self, event: str, /, **values: Any) -> object:
            return log.warning(event, **values)

        def error(self, event: str, /, **values: Any) -> object:
            return log.error(event, **values)

        def exception(self, event: str, /, **values: Any) -> object:
            return log.exception(event, **values)

        def bound(self, **values: Any) -> AbstractContextManager[object]:
            return structlog.contextvars.bound_contextvars(**values)

    return StructuredLog()
