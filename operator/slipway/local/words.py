"""A container's last words: what becomes its termination message."""

from __future__ import annotations

from pathlib import Path

LONGEST_BYTES = 4096
"""The kubelet keeps the end of the file."""
FALLBACK_LINES, FALLBACK_BYTES = 80, 2048
"""Of the log, where the file is empty and the container failed (FallbackToLogsOnError)."""


def termination_message(container: object, file: Path, log: Path, exit_code: int) -> str:
    """By the container's terminationMessagePolicy; empty where it said nothing."""
    said = ending(file, LONGEST_BYTES)
    policy = container.get("terminationMessagePolicy") if isinstance(container, dict) else None
    if said or exit_code == 0 or policy != "FallbackToLogsOnError":
        return said
    lines = ending(log, FALLBACK_BYTES).splitlines(keepends=True)
    return "".join(lines[-FALLBACK_LINES:])


def ending(path: Path, count: int) -> str:
    """The last so many bytes of a file as text; empty where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - count))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
