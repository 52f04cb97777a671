"""`slipway run`: run manifests on this machine, without a cluster."""

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
        Path,
        typer.Option(
            "--state",
            envvar=STATE_ENV,
            metavar="DIR",
            help="State folder: objects, data, models and logs that are kept between runs.",
        ),
    ] = STATE,
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            metavar="NAME",
            help="Namespace of objects that name none. Default: default.",
            callback=namespace_name,
        ),
    ] = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="End when every resource is Ready or Stalled, instead of serving until Ctrl-C."),
    ] = False,
    cpu: Annotated[
        bool, typer.Option("--cpu", help="Run on processors (CPU) instead of the devices of GPUPools.")
    ] = False,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Delete and create again resources whose immutable fields changed, such as a TrainingJob's data.",
        ),
    ] = False,
    timeout: Timeout = None,
) -> None:
    """Run manifests on this machine, without a cluster.

    The operator's own planners run here, with processes instead of pods: torchrun trains, plugins compress, the gate
    evaluates, and Triton serves until Ctrl-C, which ends every process. Needs `pip install 'slipway-operator[local]'`.

    Results in the state folder are reused by the next run. Fields that need a cluster are errors before anything
    starts. Use `slipway status`, `logs` and `predict` with --local from another terminal.

    \b
    Examples:
      slipway run -f training.yaml -f deployment.yaml
      slipway run -f manifests/ --cpu --once         train on processors, and end when all is Ready or Stalled
      slipway run -f training.yaml --replace         train again after a change of an immutable field
    """
    import uvloop

    from slipway.cli.commands.local_run import RunOptions, run_manifests
    from slipway.manifests import read_manifests

    manifests = read_manifests(files, namespace=namespace, recursive=recursive)
    for warning in manifests.warnings:
        say(f"warning: {one_line(str(warning))}", err=True)
    options = RunOptions(state.absolute(), once=once, cpu=cpu, replace=replace, timeout_seconds=timeout)
    raise typer.Exit(uvloop.run(run_manifests(manifests, options)))
