"""`slipway logs`: show the logs of all ranks of a training, or all steps of a deployment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.commands.options import Context, Local, Namespace, StateOption, complete_resources, complete_steps
from slipway.cli.connections.connection import state_folder
from slipway.cli.rendering.terminal import say

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from slipway.api.kinds import Object
    from slipway.cli.connections.connection import Connection
    from slipway.cli.connections.logs import Selection, Write
    from slipway.cli.connections.resources import Target


def logs(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|KIND/NAME",
            help="A TrainingJob (tj) or ModelDeployment (md).",
            autocompletion=complete_resources,
        ),
    ],
    *,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow", "-f", help="Follow the logs, of new pods as well, until the resource is Ready or Stalled."
        ),
    ] = False,
    attempt: Annotated[
        int | None,
        typer.Option(
            "--attempt", min=1, help="Show the ranks of that attempt only. Default: all steps, and the newest attempt."
        ),
    ] = None,
    step: Annotated[
        str | None,
        typer.Option(
            "--step",
            metavar="NAME",
            help="Show that step only; `slipway status NAME` lists the steps.",
            autocompletion=complete_steps,
        ),
    ] = None,
    tail: Annotated[int | None, typer.Option("--tail", min=0, help="Show at most N lines of each container.")] = None,
    timestamps: Annotated[
        bool, typer.Option("--timestamps", help="Show the time of each line. Not with --local.")
    ] = False,
    namespace: Namespace = None,
    context: Context = None,
    local: Local = False,
    state: StateOption = None,
) -> None:
    """Show the logs of a resource: all ranks of a training, all steps of a deployment.

    A prefix names the source of each line: the index of the rank's pod, or the step. Lines are merged by time.

    \b
    Examples:
      slipway logs digits                          [0] ..., [1] ..., [step-0-prune-structured] ...
      slipway logs tj/digits -f                    follow the ranks as they start
      slipway logs tj/digits --attempt 1           an attempt that failed
      slipway logs md/digits --step evaluate-candidate
      slipway logs digits --local -f               of `slipway run` on this machine
    """
    import asyncio

    from slipway.cli.connections import connect
    from slipway.cli.connections.logs import Selection
    from slipway.cli.connections.resources import parse_target

    folder = state_folder(local=local, state=state, context=context)
    if folder and timestamps:
        raise typer.BadParameter("--timestamps does not work with --local: logs of a local run have no times")
    opened = connect(context, namespace, folder)
    asyncio.run(_logs(parse_target(name), Selection(attempt, step), opened, tail, follow=follow, timestamps=timestamps))


async def _logs(
    target: Target,
    selection: Selection,
    opened: AbstractAsyncContextManager[Connection],
    tail: int | None,
    *,
    follow: bool,
    timestamps: bool,
) -> None:
    from slipway.cli.connections.logs import Source, print_merged, started_containers
    from slipway.cli.connections.logs import follow as follow_logs
    from slipway.cli.connections.resources import find_resources
    from slipway.cli.rendering.errors import NOT_FOUND, CommandError
    from slipway.cli.rendering.summary import get_readiness

    write = build_writer(timestamps=timestamps)
    async with opened as connection, connection.logs() as lines:

        async def look() -> tuple[Sequence[Source], bool]:
            found = await find_resources(connection.cluster, connection.namespace, target)
            inactive = connection.inactive(found)
            ignored = inactive.objects if inactive else ()
            last = all(get_readiness(obj) is not None or obj in ignored for obj in found)
            return started_containers(await pods_of(connection, found), selection), last

        if follow:
            await follow_logs(lines, look, write, tail)
            return
        wanted, _ = await look()
        if not wanted:
            raise CommandError(f"{target}: no started container {_describe(selection)}", NOT_FOUND)
        await print_merged(lines, wanted, write, tail)


async def pods_of(connection: Connection, found: Sequence[Object]) -> list[Object]:
    """Return all pods of the resources, by their labels."""
    from slipway.api.kinds import POD
    from slipway.plan.owner import OWNER_LABELS

    return [
        pod
        for obj in found
        for pod in await connection.cluster.list(
            POD, connection.namespace, {OWNER_LABELS[obj["kind"]]: obj["metadata"]["name"]}
        )
    ]


def build_writer(*, timestamps: bool) -> Write:
    """Return a function that writes `[prefix] text`; on a terminal each prefix has its own colour."""
    colours = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green")
    given: dict[str, str] = {}

    unfinished: str | None = None  # prefix of the line on the screen that has not ended

    def write(prefix: str, at: str, text: str, *, more: bool = False) -> None:
        nonlocal unfinished
        end = "" if more else "\n"
        if unfinished == prefix:
            say(text, end=end)
        else:
            if unfinished is not None:
                say()
            colour = given.setdefault(prefix, colours[len(given) % len(colours)])
            say(f" {at} {text}" if timestamps else f" {text}", end=end, head=f"[{prefix}]", colour=colour)
        unfinished = prefix if more else None

    return write


def _describe(selection: Selection) -> str:
    """Describe the selected pods."""
    wanted = [f'of step "{selection.step}"'] if selection.step else []
    wanted += [f"of attempt {selection.attempt}"] if selection.attempt else []
    return " and ".join(wanted) or "still has a log"
