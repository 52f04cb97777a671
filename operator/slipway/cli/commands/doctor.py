"""`slipway doctor`: check a cluster for problems, and show how to fix them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.commands.options import Context, Format, Namespace
from slipway.cli.rendering.tables import Output

if TYPE_CHECKING:
    from slipway.api.errors import Finding

TIMEOUT_SECONDS = 120.0


def doctor(
    *,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Also run a small Job on each store, which writes a file and looks up a DNS name."),
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, metavar="SECONDS", help="Time limit for each of these Jobs.")
    ] = TIMEOUT_SECONDS,
    namespace: Namespace = None,
    output: Format = Output.TABLE,
    context: Context = None,
) -> None:
    """Check a cluster for problems, and show how to fix them.

    Checks CRDs, the operator and its Lease, permissions, DNS, pools, stores, images and plugins, and prints one line
    for each: ok, warn or fail. Only --deep writes to the cluster; its Jobs are deleted when they have ended. Exit
    code 1 if a check fails.

    \b
    Examples:
      slipway doctor
      slipway doctor -n team-a --deep
      slipway doctor -o json
    """
    import asyncio

    from slipway.cli.rendering.tables import print_findings

    found = asyncio.run(_examine(namespace, context, timeout if deep else None))
    raise typer.Exit(print_findings(found, output))


async def _examine(namespace: str | None, context: str | None, probe_seconds: float | None) -> list[Finding]:
    from slipway.cli.connections.cluster import connect_to_cluster
    from slipway.doctor import examine
    from slipway.doctor.installation import ClusterQueries

    async with connect_to_cluster(context, namespace) as connection:
        return await examine(ClusterQueries(connection.cluster, connection.http, connection.namespace), probe_seconds)
