"""Failures as reports: exceptions of this process, and those of torchrun's workers.

A worker writes its exception to the file that torchrun names in TORCHELASTIC_ERROR_FILE, in torchrun's own format
(torch.distributed.elastic.multiprocessing.errors) with one more key, `slipway`: torchrun's time is in whole seconds,
too coarse to find which of two ranks failed first.
"""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slipway.api.errors import InputMissing, SlipwayError
from slipway.api.reports import PEER_LOST, ErrorReport, Report, shorten

_LOST_CONNECTION = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Socket closed",
    "NCCL communicator was aborted",
)
_MAX_MESSAGE = 1024


class Terminated(BaseException):
    """The process got a signal to end. It is not an Exception, so that only the end of the process catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class WorkerFailed(SlipwayError):
    """A worker of this pod failed; if several did, the first."""

    def __init__(self, error: ErrorReport, at: datetime) -> None:
        super().__init__(f"rank {error.rank}: {error.exception}: {error.message}")
        self.error = error
        self.at = at


@dataclass(frozen=True, slots=True)
class WorkerEnd:
    """The end of one worker. exit_code: negative for a signal. data: its error file, None without one."""

    rank: int
    exit_code: int
    at: datetime
    data: Mapping[str, Any] | None = None


def failed(error: BaseException) -> Report:
    """Return the report of a task that ends now by this exception."""
    if isinstance(error, WorkerFailed):
        return Report(outcome="failed", at=error.at, error=error.error)
    if isinstance(error, Terminated):
        name = signal.Signals(error.number).name
        message = "the pod received SIGTERM: preemption, eviction, deletion, suspension or a deadline"
        what = ErrorReport(exception=name, message=message, exit_code=128 + error.number)
    else:
        lacks = error.digest if isinstance(error, InputMissing) else None
        what = ErrorReport(exception=type(error).__name__[:128], message=_text(error), exit_code=1, missing=lacks)
    return Report(outcome="failed", at=datetime.now(UTC), error=what)


def print_failure(error: BaseException) -> None:
    """Print the error with its traceback to the log; a worker has printed its own."""
    if isinstance(error, WorkerFailed | Terminated):
        print(f"failed: {error}", flush=True)
    else:
        traceback.print_exception(error)


def record(error: BaseException, path: Path) -> None:
    """Write a worker's exception to its error file, for torchrun and for `first_failure`."""
    name, message, now = type(error).__name__, _text(error), datetime.now(UTC)
    if isinstance(error, Exception) and is_lost_connection(name, str(error)):
        name, message = PEER_LOST, f"another rank ended or cannot be reached ({name}: {message})"
    body = {
        "message": {
            "message": f"{name}: {message}",
            "extraInfo": {"py_callstack": traceback.format_exc(), "timestamp": str(int(now.timestamp()))},
        },
        "slipway": {"exception": name, "message": message, "at": now.isoformat()},
    }
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(body))
    draft.rename(path)


def is_lost_connection(name: str, message: str) -> bool:
    """Return True if a collective failed because a peer was gone (gloo: RuntimeError; NCCL: DistBackendError)."""
    return name in ("RuntimeError", "DistBackendError", "DistNetworkError") and any(
        sign in message for sign in _LOST_CONNECTION
    )


def first_failure(ends: Iterable[WorkerEnd]) -> WorkerFailed:
    """Return the failure of a pod's workers to report: causes before consequences, then the earliest."""
    failures = [_failure(end) for end in ends if end.exit_code != 0]
    return min(failures, key=lambda f: (is_consequence(f.error), f.at))


def is_consequence(error: ErrorReport) -> int:
    """Return the distance from the cause: 0 for a worker's own failure, 1 for a lost peer, 2 for the agent's
    SIGTERM."""
    if error.exception == "SIGTERM":  # the agent ends the others when one has failed
        return 2
    return 1 if error.exception == PEER_LOST else 0


def _failure(end: WorkerEnd) -> WorkerFailed:
    code = end.exit_code if end.exit_code >= 0 else 128 - end.exit_code
    own = _recorded(end)
    if own:
        error = ErrorReport(
            exception=str(own["exception"])[:128],
            message=shorten(_plain(str(own["message"])), _MAX_MESSAGE),
            rank=end.rank,
            exit_code=code,
        )
        return WorkerFailed(error, datetime.fromisoformat(own["at"]))
    if end.exit_code < 0:
        name = _signal_name(-end.exit_code)
        cause = " (the kernel sends it if the container exceeds its memory limit)" if name == "SIGKILL" else ""
        error = ErrorReport(exception=name, message=f"killed by {name}{cause}", rank=end.rank, exit_code=code)
        return WorkerFailed(error, end.at)
    message = f"the worker exited with code {code} and recorded no exception; see its log"
    return WorkerFailed(ErrorReport(exception="SystemExit", message=message, rank=end.rank, exit_code=code), end.at)


def _recorded(end: WorkerEnd) -> Mapping[str, str] | None:
    """Return the error that the worker, or torch's @record in the script, wrote; None without one."""
    data = end.data or {}
    if own := data.get("slipway"):
        return dict(own)
    if isinstance(recorded := data.get("message"), dict):
        name, _, message = str(recorded.get("message", "")).partition(": ")
        return {"exception": name, "message": message, "at": end.at.isoformat()}
    return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _text(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return _plain(f"the script called sys.exit({error.code!r})")
    return shorten(_plain(str(error).strip()) or type(error).__name__, _MAX_MESSAGE)


def _plain(text: str) -> str:
    """Return the text with escapes for characters that UTF-8 cannot encode (surrogates in file names)."""
    return text.encode("utf-8", "backslashreplace").decode()
