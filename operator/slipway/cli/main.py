"""`slipway`, also `kubectl slipway`: the command line.

Each command is a module that imports nothing but typer at its top, so that --help and completion answer at once;
what a command needs (the client of Kubernetes, Triton's client, torch) is imported when it runs.
"""

from __future__ import annotations

import typer

from slipway.cli.doctor import doctor
from slipway.cli.exits import OneLineErrors
from slipway.cli.logs import logs
from slipway.cli.operator import operator
from slipway.cli.plan import plan
from slipway.cli.plugin import plugin
from slipway.cli.predict import predict
from slipway.cli.run import run
from slipway.cli.status import status
from slipway.cli.version import version

app = typer.Typer(
    name="slipway",
    cls=OneLineErrors,
    help="Train models with torchrun, make them small, and serve them with Triton on Kubernetes.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help starts in a third of the time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.command()(operator)
app.command()(run)
app.command()(plan)
app.command()(status)
app.command()(logs)
app.command()(predict)
app.command()(doctor)
app.add_typer(plugin)
app.command()(version)

if __name__ == "__main__":
    app()
