"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from slipway.cli.commands import completion
from slipway.cli.connections.connection import STATE, STATE_ENV
from slipway.cli.rendering.tables import Output


def namespace_name(value: str | None) -> str | None:
    """Refuses what no namespace can be called (RFC 1123 label), before anybody is asked for it."""
    if value is None or (len(value) <= 63 and re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", value)):
        return value
    raise typer.BadParameter(f"{value!r} is no name of a namespace: lower-case letters, digits and -, at most 63")


Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAME",
        help="Namespace. Default: that of the context.",
        callback=namespace_name,
        autocompletion=completion.namespaces,
    ),
]
Context = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="NAME",
        help="Context of the kubeconfig. Default: the current one.",
        autocompletion=completion.contexts,
    ),
]
Local = Annotated[
    bool, typer.Option("--local", help="Of `slipway run` on this machine, instead of a cluster.", show_default=False)
]
StateFolder = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        help=f"The state folder of that run; means --local. Default: ${STATE_ENV}, else {STATE}.",
    ),
]


Format = Annotated[Output, typer.Option("--output", "-o", help="How to print the result.")]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", min=0, metavar="SECONDS", help="Give up after so long (exit code 5). Default: never."),
]
Files = Annotated[
    list[str],
    typer.Option("--filename", "-f", metavar="FILE", help="A file, a folder, a kustomization, or - for stdin."),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-R", help="Folders with all that is below them.")]
