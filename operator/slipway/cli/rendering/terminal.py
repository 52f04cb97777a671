"""All output of the command: no text of a pod, an object or a file can do more than be read.

Escape sequences move the cursor, hide text, open links and set the title; bidirectional and invisible characters make
a text look like another one. Each is shown by its number instead (`\\x1b`, `\\u202e`). Our own colours are added after
that, so they are the only ones.
"""

from __future__ import annotations

import io
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U00013438\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Control and format characters, separators of lines, halves of pairs, and what fonts leave out (Unicode's Cc, Cf, Zl,
Zp, Cs and Default_Ignorable_Code_Point), but for the line feed and the tab."""
_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u064b-\u065f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
    "\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
)
_UNSAFE = re.compile(f"[{_UNSEEN}]|(?<=[{_MARKS}]{{4}})[{_MARKS}]")
"""At most four combining marks on a letter are shown: more of them cover the lines above."""


def visible(text: str) -> str:
    """Replace characters that are invisible, or act on a terminal, by their numbers; lines and tabs stay.

    What it returns it would return as it is.
    """
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub(_numbered, text)


def one_line(text: str | None) -> str:
    """Return the text on one line, made visible, so that it cannot look like a line of Slipway."""
    return visible(" ".join((text or "").split()))


def escaped(document: str) -> str:
    """Replace such characters of a JSON text by JSON escapes; they occur in strings only, so its meaning stays."""
    return _UNSAFE.sub(lambda found: "".join(f"\\u{unit:04x}" for unit in _units(found[0])), document)


def say(text: str = "", *, err: bool = False, end: str = "\n", head: str = "", colour: str = "") -> None:
    """Write to standard output, or standard error. head: before the text, in that colour on a terminal."""
    stream = sys.stderr if err else sys.stdout
    if head and colour and interactive(stream):
        from typer import style

        stream = _unguarded(stream)
        head = style(visible(head), fg=colour)
    else:
        head = visible(head)
    stream.write(f"{head}{visible(text)}{end}")
    stream.flush()


def interactive(stream: TextIO | None = None) -> bool:
    """Return whether the stream is a terminal. stream: standard output by default."""
    return _unguarded(stream or sys.stdout).isatty()


def console() -> Console:
    """Return a rich console on standard output; every text that it renders is made visible."""
    console: Console = _console_class()(file=_unguarded(sys.stdout))
    return console


@contextmanager
def pinned() -> Iterator[Live]:
    """Open a picture that stays below the lines of its console, and is drawn again when it is updated."""
    from rich.live import Live

    # Rich would read the colours in what others print meanwhile, and write them again.
    with Live(console=console(), auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as screen:
        yield screen


@contextmanager
def guarded() -> Iterator[None]:
    """Make all text on standard output and error visible, tracebacks and warnings of libraries included.

    An exception that no command foresees ends the process with exit code 1, as Python would.
    """
    streams = sys.stdout, sys.stderr
    ours = tuple(_Guarded(stream) for stream in streams)
    sys.stdout, sys.stderr = ours
    try:
        yield
    except Exception:  # noqa: BLE001 - a defect: shown whole, on the guarded stream
        traceback.print_exc()
        sys.exit(1)
    finally:
        for name, raw, own in zip(("stdout", "stderr"), streams, ours, strict=True):
            if getattr(sys, name) is own:  # not where a broken pipe was pacified
                own.flush()
                setattr(sys, name, raw)


class _Guarded(io.TextIOBase):
    """A text stream without the bytes below it, and never a terminal: no library writes colours."""

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw
        if isinstance(raw, io.TextIOWrapper):
            raw.reconfigure(errors="backslashreplace")  # a letter that the terminal's encoding lacks is no error

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.raw.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.raw.errors

    def write(self, text: str) -> int:
        self.raw.write(visible(text))
        return len(text)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        self.raw.flush()

    def fileno(self) -> int:
        return self.raw.fileno()


def _unguarded(stream: Any) -> TextIO:
    raw: TextIO = stream.raw if isinstance(stream, _Guarded) else stream
    return raw


@cache
def _console_class() -> Any:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class VisibleConsole(Console):
        """Rich writes the escapes of its styles itself; those in a text are the text's."""

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text, style, control) if control else Segment(visible(text), style)

    return VisibleConsole


def _numbered(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _units(character: str) -> Iterator[int]:
    """Yield the UTF-16 code units of a character."""
    coded = character.encode("utf-16-be", "surrogatepass")
    return (int.from_bytes(coded[at : at + 2], "big") for at in range(0, len(coded), 2))
