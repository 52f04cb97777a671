"""What is wrong in files, and where: one line each, as compilers and editors know it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from slipway.cli.exits import NOT_FOUND, USAGE, CommandError

SHOWN = 100
"""Problems that are told at once."""


class Place(NamedTuple):
    """A character of a file; lines and columns count from 1, and line 0 is the file as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class Problem(NamedTuple):
    """what: the field, what is wrong with it and the cure. absent: there is no such file."""

    place: Place
    what: str
    absent: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {' '.join(self.what.split())}"


class BadManifests(CommandError):
    """Every problem of every file. Exit code 3 where files are missing and nothing else is wrong."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: Sequence[Problem] = sorted(dict.fromkeys(problems), key=_position)
        code = NOT_FOUND if all(problem.absent for problem in self.problems) else USAGE
        lines = [str(problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"and {len(self.problems) - SHOWN:,} more; correct these first")
        super().__init__("; ".join(lines), code, lines)


def _position(problem: Problem) -> tuple[str, int, int]:
    return problem.place
