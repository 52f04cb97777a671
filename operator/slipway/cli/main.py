"""`slipway`, also `kubectl slipway`: the command line.

Each command is a module that imports only typer at its top, so that --help and completion answer at once;
it imports what it needs (the clients of Kubernetes and Triton, torch) when it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from slipway.cli.commands.doctor import doctor
from slipway.cli.commands.logs import logs
from slipway.cli.commands.operator import operator
from slipway.cli.commands.options import Format
from slipway.cli.commands.plan import plan
from slipway.cli.commands.plugin import plugin
from slipway.cli.commands.predict import predict
from slipway.cli.commands.run import run
from slipway.cli.commands.status import status
from slipway.cli.rendering.errors import OneLineErrors
from slipway.cli.rendering.tables import Output, print_data
from slipway.cli.rendering.terminal import say

_NO_FILES, _FILES = 4, 0
"""Directives of cobra's ShellComp, which kubectl passes on to the shell: no completion of files, or files."""


def version(output: Format = Output.TABLE) -> None:
    """Show the versions of slipway, of its Kubernetes API and of Python.

    \b
    Examples:
      slipway version
      slipway version -o json
    """
    import platform
    from importlib.metadata import version as version_of

    from slipway.api.kinds import API_VERSION

    facts = {"slipway": version_of("slipway-operator"), "api": API_VERSION, "python": platform.python_version()}
    if output is Output.TABLE:
        say(f"slipway {facts['slipway']} (API {facts['api']}, Python {facts['python']})")
    else:
        print_data(facts, output)


app = typer.Typer(
    name="slipway",
    cls=OneLineErrors,
    help=(
        "Train models with torchrun, compress them, and serve them with Triton on Kubernetes.\n\n"
        "`slipway run` needs no cluster. `slipway plan` and `slipway doctor` check manifests and a cluster before you "
        "`kubectl apply`; `status`, `logs` and `predict` show the result."
    ),
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help starts in a third of the time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command()(run)
app.command()(plan)
app.command()(status)
app.command()(logs)
app.command()(predict)
app.command()(doctor)
app.add_typer(plugin)
app.command()(operator)
app.command()(version)


def kubectl_complete() -> None:
    """Complete `kubectl slipway WORD... PART`: kubectl runs `kubectl_complete-slipway WORD... PART`.

    Prints a line for each completion, and cobra's directive at the end.
    """
    found = complete(sys.argv[1:])
    say("\n".join([*found, f":{_NO_FILES if found else _FILES}"]))


def complete(words: Sequence[str]) -> list[str]:
    """Return the completions of bash for the last of the words."""
    import os
    import shlex
    from contextlib import redirect_stdout, suppress
    from io import StringIO

    line = shlex.join(["slipway", *words])
    os.environ |= {"_SLIPWAY_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    with redirect_stdout(StringIO()) as output, suppress(SystemExit):
        app(prog_name="slipway")
    return output.getvalue().split()


if __name__ == "__main__":
    app()
