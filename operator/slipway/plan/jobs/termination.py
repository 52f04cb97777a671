"""Termination messages of user images: torchrun's summary at the end of the log, or its error file.

A user's image runs plain torchrun, and the kubelet uses the end of its log (80 lines, 2 KiB) as termination message.
TORCHELASTIC_ERROR_FILE cannot be the termination message itself: torchrun removes the file before it writes it
(torch.distributed.elastic.multiprocessing.errors), which fails for a mounted file.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from slipway.plan.jobs.retry import SCRIPT_NOT_FOUND

_SUMMARY = re.compile(r"^Root Cause \(first observed failure\):$", re.MULTILINE)
_RANK = re.compile(r"^\s*rank\s*:\s*([0-9]{1,9})\b", re.MULTILINE)
_EXIT_CODE = re.compile(r"^\s*exitcode\s*:\s*(-?[0-9]{1,9})\b", re.MULTILINE)
_KILLED = re.compile(r"^\s*traceback : Signal \d+ \((\w+)\) received", re.MULTILINE)
_FRAME = re.compile(r'^( *)File "', re.MULTILINE)
_NAME = re.compile(r"^(?:[A-Za-z_]\w*\.)*([A-Z]\w*)(?::\s*(.*))?$", re.DOTALL)
_RAISED = re.compile(r"^(?:\w+\.)*([A-Z]\w*(?:Error|Exception|Exit|Interrupt))(?:: (.*))?$", re.MULTILINE)
_LAUNCHER = "ChildFailedError"
_NO_SCRIPT = re.compile(
    r"^\S*python[0-9.]*: (can't open file .*|No module named .*|Error while finding module specification .*)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class TerminationMessage:
    """The parsed message. exit_code: that of the worker, 128 + N if signal N ended it."""

    exception: str | None = None
    message: str | None = None
    rank: int | None = None
    exit_code: int | None = None


def parse_termination_message(text: str) -> TerminationMessage:
    """Parse any text; unknown parts are None. Without known parts the message is the text itself."""
    if (from_file := _error_file(text)) is not None:
        return from_file
    summary = _SUMMARY.search(text)
    own = text[summary.end() :] if summary else text
    own = re.split(r"^={20,}$", own, maxsplit=1, flags=re.MULTILINE)[0]
    if killed := _KILLED.search(own):
        raised: tuple[str, str | None] | None = (killed[1], f"killed by {killed[1]}")
    else:
        raised = _last_raised(own) or _worker_raised(text) or _script_not_found(text)
    exception, message = raised or (None, None if summary else text.strip() or None)
    code = _number(_EXIT_CODE, own) if summary else None
    return TerminationMessage(
        exception=exception,
        message=message,
        rank=_number(_RANK, own) if summary else None,
        exit_code=code if code is None or code >= 0 else 128 - code,
    )


def _error_file(text: str) -> TerminationMessage | None:
    """Parse `{"message": {"message": "ValueError: ...", "extraInfo": {...}, "errorCode": 1}}`, torchrun's file."""
    try:
        body: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    inner = body.get("message") if isinstance(body, dict) else None
    code = inner.get("errorCode") if isinstance(inner, dict) else None
    message = inner.get("message") if isinstance(inner, dict) else inner
    if not isinstance(message, str):
        return None
    message = message.encode(
        errors="replace"
    ).decode()  # JSON can have half a surrogate pair, which the API server refuses
    match = _NAME.match(message)
    return TerminationMessage(
        exception=match[1] if match else None,
        message=match[2] if match else message,
        exit_code=code if isinstance(code, int) and 0 < code < 2**31 else None,
    )


def _last_raised(text: str) -> tuple[str, str | None] | None:
    """Return the exception of the last traceback: the first line after the last frame that is indented less."""
    frames = list(_FRAME.finditer(text))
    if not frames:
        return None
    frame_indent = len(frames[-1][1])
    lines = text[frames[-1].end() :].splitlines()[1:]
    start = next((n for n, line in enumerate(lines) if line.strip() and _indent(line) < frame_indent), None)
    if start is None:
        return None
    match = _NAME.match("\n".join(line.strip() for line in lines[start:]).strip())
    return (match[1], match[2]) if match and match[1] != _LAUNCHER else None


def _worker_raised(text: str) -> tuple[str, str | None] | None:
    """Return the exception of a script without `@record`, from the lines of the log."""
    found = [(m[1], m[2]) for m in _RAISED.finditer(text) if m[1] != _LAUNCHER]
    return found[-1] if found else None


def _script_not_found(text: str) -> tuple[str, str | None] | None:
    """Return Python's message for a missing script or module, for which it raises no exception."""
    found = _NO_SCRIPT.search(text)
    return (SCRIPT_NOT_FOUND, found[1]) if found else None


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return int(found[1]) if found else None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
