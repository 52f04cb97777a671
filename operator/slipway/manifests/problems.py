"""Problems in files with their places: one line each, in the format of compilers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from slipway.api.errors import InputError

SHOWN = 100
"""Problems that are shown at once."""


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


class BadManifests(InputError):
    """Every problem of every file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: Sequence[Problem] = sorted(dict.fromkeys(problems), key=_position)
        lines = [str(problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"and {len(self.problems) - SHOWN:,} more; correct these first")
        super().__init__(lines, absent=all(problem.absent for problem in self.problems))


def _position(problem: Problem) -> tuple[str, int, int]:
    return problem.place
