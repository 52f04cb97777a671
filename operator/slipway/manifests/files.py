"""Files of the command line, read within limits of time and memory, and the problems that are found in them.

Pipes are read (`-f <(helm template ...)`), devices are not, and no file is read beyond its limit.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import monotonic
from typing import NamedTuple

from slipway.api.errors import InputError

MAX_BYTES = 10_000_000
"""Limit of one file: some ten times the largest object of an API server."""
SILENCE_SECONDS = 60.0
"""Time without data after which a pipe is an error."""
_CHUNK = 1 << 16
_OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}
"""Byte order marks of texts that are not UTF-8."""


class UnreadableError(Exception):
    """A file cannot be read; the message says what to do. line: from 1, 0 for the whole file. absent: no such file."""

    def __init__(self, what: str, *, line: int = 0, absent: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.line = line
        self.absent = absent


def read_bytes(path: Path, limit: int, *, pipes: bool = True) -> bytes:
    """Return the content of a file, or a pipe if allowed, of at most limit bytes. Raises UnreadableError."""
    check_size(path, limit, pipes=pipes)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer is empty
    except OSError as error:
        raise _unreadable(error) from error
    try:
        return _read_limited(descriptor, limit)
    except OSError as error:
        raise _unreadable(error) from error
    finally:
        os.close(descriptor)


def read_text(path: Path) -> str | Problem:
    try:
        return decode_text(read_bytes(path, MAX_BYTES))
    except UnreadableError as error:
        return unreadable_problem(str(path), error)


def unreadable_problem(file: str, error: UnreadableError) -> Problem:
    return Problem(Place(file, error.line, 1 if error.line else 0), error.what, error.absent)


def check_size(path: Path, limit: int, *, pipes: bool = False) -> None:
    """Raise UnreadableError for anything but a file up to the limit. Opens nothing: that may act on a device."""
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(error) from error
    except ValueError as error:  # a name with a NUL
        raise UnreadableError("no such file or folder", absent=True) from error
    if stat.S_ISDIR(found.st_mode):
        raise UnreadableError("is a folder; use a file")
    if not (stat.S_ISREG(found.st_mode) or (pipes and stat.S_ISFIFO(found.st_mode))):
        raise UnreadableError("is not a file; use a regular file")
    if found.st_size > limit:
        raise too_large(limit, found.st_size)


def read_stdin(limit: int) -> bytes:
    """Return standard input, of at most limit bytes. Raises UnreadableError."""
    stream = getattr(sys.stdin, "buffer", None)
    content: bytes = stream.read(limit + 1) if stream else sys.stdin.read(limit + 1).encode(errors="surrogateescape")
    if len(content) > limit:
        raise too_large(limit)
    return content


def decode_text(content: bytes) -> str:
    """Return the text without a byte order mark. Raises UnreadableError with the line if it is not UTF-8."""
    for mark, name in _OTHER_ENCODINGS.items():
        if content.startswith(mark):
            raise UnreadableError(f"is {name}, not UTF-8; convert it: iconv -f {name.lower()} -t utf-8", line=1)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"is not text in UTF-8 (byte {error.start}); convert it"
        raise UnreadableError(what, line=line) from error


def _read_limited(descriptor: int, limit: int) -> bytes:
    content, received_at = bytearray(), monotonic()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while len(content) <= limit:
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            poll.poll(1000)
            if monotonic() > received_at + SILENCE_SECONDS:
                raise UnreadableError(
                    f"no data for {SILENCE_SECONDS:g} s; check the program that writes to this pipe"
                ) from None
            continue
        if not chunk:
            return bytes(content)
        content += chunk
        received_at = monotonic()
    raise too_large(limit)


def too_large(limit: int, size: int | None = None) -> UnreadableError:
    """Return the error for a file above the limit. size: None if it is not known."""
    has = f"has {size / 1e6:,.1f} MB" if size else "does not end"
    return UnreadableError(f"{has}; the limit is {limit / 1e6:g} MB, use a smaller file")


def _unreadable(error: OSError) -> UnreadableError:
    if isinstance(error, FileNotFoundError):
        return UnreadableError("no such file or folder", absent=True)
    return UnreadableError(f"cannot be read: {(error.strerror or str(error)).lower()}")


SHOWN = 100
"""Limit of problems in one message."""


class Place(NamedTuple):
    """A position in a file. Lines and columns count from 1; line 0 is the whole file."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Problem(NamedTuple):
    """A problem at a place. what: the field, what is wrong and what to do. absent: the file does not exist."""

    place: Place
    what: str
    absent: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {' '.join(self.what.split())}"


class BadManifests(InputError):
    """All problems of all files."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: Sequence[Problem] = sorted(dict.fromkeys(problems), key=_position)
        lines = [str(problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"and {len(self.problems) - SHOWN:,} more; correct these first")
        super().__init__(lines, absent=all(problem.absent for problem in self.problems))


def _position(problem: Problem) -> tuple[str, int, int]:
    return problem.place
