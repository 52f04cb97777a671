"""The exit codes of `slipway`, and errors as single lines.

0    success; with status --watch and run, every resource is Ready; with plan, every resource would become Ready
1    failure: a resource is Stalled, would end Stalled or would wait for ever; a check failed; a plugin is broken
2    the command line or a file has an error
3    a resource, file or plugin does not exist
4    the cluster or a server refused a request or did not answer
5    the time limit of --timeout was reached
6    with plan --exit-code: something would be created, changed or deleted
130  interrupted
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from slipway.api.errors import ClusterError, InputError, NotFound, SlipwayError
from slipway.cli.rendering.terminal import guarded, one_line, say

FAILED = 1
USAGE = 2
NOT_FOUND = 3
UNAVAILABLE = 4
TIMED_OUT = 5
CHANGES = 6
INTERRUPTED = 130


class CommandError(SlipwayError):
    """An error of a command. exit_code: one of the codes above. lines: one for each error."""

    def __init__(self, message: str, exit_code: int = FAILED, lines: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.lines = tuple(lines) or (message,)


def exit_code(error: SlipwayError) -> int:
    """Return the exit code for an error."""
    match error:
        case CommandError():
            return error.exit_code
        case InputError():
            return NOT_FOUND if error.absent else USAGE
        case NotFound():
            return NOT_FOUND
        case ClusterError():
            return UNAVAILABLE
    return FAILED


class OneLineErrors(TyperGroup):
    """Commands that print expected errors as one line on standard error; a traceback is a defect of Slipway."""

    def main(self, *args: Any, **options: Any) -> Any:
        with guarded():
            return super().main(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SlipwayError as error:
            for line in error.lines if isinstance(error, CommandError | InputError) else (str(error),):
                say(f"error: {one_line(line)}", err=True)
            raise typer.Exit(exit_code(error)) from error
