"""`slipway run`: manifests on this machine, without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slipway.cli.commands.options import Files, Recursive, Timeout, namespace_name
from slipway.cli.connections.connection import STATE, STATE_ENV
from slipway.cli.rendering.terminal import one_line, say


def run(
    files: Files,
    *,
    recursive: Recursive = False,
    state: Annotated[
        Path, typer.Option("--state", envvar=STATE_ENV, metavar="DIR", help="What is kept between runs.")
    ] = STATE,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", metavar="NAME", help="Of objects that name none.", callback=namespace_name),
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="End when all resources have settled, instead of serving.")
    ] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="Processors stand in for the devices of GPUPools.")] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Delete and create again what is immutable, such as a TrainingJob's data."),
    ] = False,
    timeout: Timeout = None,
) -> None:
    """Run manifests on this machine: the same plans, with processes for pods and no cluster.

    Trains with torchrun, compresses, proves and serves with Triton; needs `pip install 'slipway-operator[local]'`.
    What earlier runs left in the state folder is not done again. Models are served until Ctrl-C, which ends every
    process that was started. What cannot be done without a cluster is refused by the field that asks for it.
    `slipway status`, `logs` and `predict` show it from another terminal, with --local.

    \b
    Examples:
      slipway run -f training.yaml -f deployment.yaml
      slipway run -f manifests/ --cpu --once         train on processors, and end when all is settled
      slipway run -f training.yaml --replace         train again what was changed
    """
    import uvloop

    from slipway.cli.commands.local_run import RunOptions, run_manifests
    from slipway.manifests import read_manifests

    manifests = read_manifests(files, namespace=namespace, recursive=recursive)
    for warning in manifests.warnings:
        say(f"warning: {one_line(str(warning))}", err=True)
    options = RunOptions(state.absolute(), once=once, cpu=cpu, replace=replace, timeout_seconds=timeout)
    raise typer.Exit(uvloop.run(run_manifests(manifests, options)))
