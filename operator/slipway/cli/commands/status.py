"""`slipway status`: show the progress of resources, and their errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.commands.options import Context, Format, Local, Namespace, StateOption, Timeout, complete_resources
from slipway.cli.connections.connection import state_folder
from slipway.cli.rendering.tables import Output
from slipway.cli.rendering.terminal import interactive, one_line, say

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from slipway.api.kinds import Key, Object
    from slipway.cli.connections.connection import Connection
    from slipway.cli.rendering.details import Look


def status(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|KIND/NAME]",
            help="A TrainingJob (tj) or ModelDeployment (md).",
            autocompletion=complete_resources,
        ),
    ] = None,
    *,
    namespace: Namespace = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="Show resources of all namespaces.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Follow until Ready (exit code 0) or Stalled (1).")
    ] = False,
    timeout: Timeout = None,
    output: Format = Output.TABLE,
    context: Context = None,
    local: Local = False,
    state: StateOption = None,
) -> None:
    """Show the progress of TrainingJobs and ModelDeployments, and their errors.

    Without a name: one line for each resource of the namespace. With a name: its conditions, steps, attempts and
    revisions.

    --watch updates the table on a terminal, and prints a line for each change elsewhere. It ends when every resource is
    Ready or Stalled; with a name, as soon as the first one is Stalled.

    \b
    Examples:
      slipway status                       all resources of the namespace
      slipway status digits                all details of the resources named digits
      slipway status md/digits -w          follow a ModelDeployment until it is Ready
      slipway status digits -o json        the resource as it is in the cluster
      slipway status digits --local        of `slipway run` on this machine
    """
    import asyncio

    from slipway.cli.connections import connect

    if all_namespaces and name:
        raise typer.BadParameter("a name is looked for in one namespace: leave out --all-namespaces or the name")
    if timeout is not None and not watch:
        raise typer.BadParameter("--timeout needs --watch")
    opened = connect(context, namespace, state_folder(local=local, state=state, context=context))
    code = asyncio.run(_status(name, opened, output, timeout, watch=watch, everywhere=all_namespaces))
    raise typer.Exit(code)


async def _status(
    name: str | None,
    opened: AbstractAsyncContextManager[Connection],
    output: Output,
    timeout: float | None,
    *,
    watch: bool,
    everywhere: bool,
) -> int:
    from slipway.cli.connections.resources import find_resources, parse_target, with_steps
    from slipway.cli.rendering.details import readiness_exit_code, status_tables
    from slipway.cli.rendering.summary import as_list, owners_in
    from slipway.cli.rendering.tables import print_data, print_tables

    target = parse_target(name) if name else None
    async with opened as connection:

        async def look() -> list[Object]:
            scope = None if everywhere else connection.namespace
            found = await find_resources(connection.cluster, scope, target)
            return await with_steps(connection.cluster, connection.with_reachable_urls(found), scope)

        if watch:
            objects = await _watch(
                active_only(look, connection), output, timeout, single=bool(name), everywhere=everywhere
            )
        else:
            objects = await look()
            if inactive := connection.inactive(owners_in(objects)):
                say(one_line(inactive.reason), err=True)
        where = "any namespace" if everywhere else f"namespace {connection.namespace!r}"
    if output is not Output.TABLE:
        one = target is not None and len(target.kinds) == 1
        print_data(objects[0] if one else as_list(owners_in(objects)), output)
    elif not objects:
        say(f"no TrainingJob or ModelDeployment in {where}", err=True)
    elif not watch:
        print_tables(status_tables(objects, single=bool(name), all_namespaces=everywhere))
    return readiness_exit_code(objects) if watch else 0


def active_only(look: Look, connection: Connection) -> Look:
    """Return a look without what is inactive when it first looks.

    It raises CommandError if everything is inactive, and if a resource becomes inactive before it is Ready or Stalled.
    """
    from slipway.api.kinds import key_of
    from slipway.cli.rendering.errors import UNAVAILABLE, CommandError
    from slipway.cli.rendering.summary import get_readiness, owners_in

    ignored: set[Key] | None = None

    async def look_at_active() -> list[Object]:
        nonlocal ignored
        found = await look()
        if ignored is None:
            inactive = connection.inactive(owners_in(found))
            ignored = {key_of(obj) for obj in inactive.objects} if inactive else set()
            if inactive and len(ignored) == len(owners_in(found)):
                raise CommandError(inactive.reason, UNAVAILABLE)
        found = [obj for obj in found if key_of(obj) not in ignored]
        if inactive := connection.inactive([obj for obj in owners_in(found) if get_readiness(obj) is None]):
            raise CommandError(inactive.reason, UNAVAILABLE)
        return found

    return look_at_active


async def _watch(look: Look, output: Output, timeout: float | None, *, single: bool, everywhere: bool) -> list[Object]:
    """Follow the resources. Lines go to standard output, or to standard error if data follow on standard output."""
    from datetime import UTC, datetime

    from slipway.cli.rendering.details import TransitionLog, live_view, watch_until_ready

    if output is Output.TABLE and interactive():
        with live_view(single=single, all_namespaces=everywhere) as show:
            return await watch_until_ready(look, show, timeout, stop_at_first=single)
    data = output is not Output.TABLE
    show = TransitionLog(lambda line: say(line, err=data), lambda: datetime.now(UTC))
    return await watch_until_ready(look, show, timeout, stop_at_first=single)
