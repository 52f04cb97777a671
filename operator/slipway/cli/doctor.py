"""`slipway doctor`: what is wrong with a cluster, and the cure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.options import Context, Format, Namespace, Output

if TYPE_CHECKING:
    from slipway.api.findings import Finding

TIMEOUT_SECONDS = 120.0


def doctor(
    *,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also run a small Job on each store: it writes, and looks a name up.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, metavar="SECONDS", help="Wait so long for each of these Jobs.")
    ] = TIMEOUT_SECONDS,
    namespace: Namespace = None,
    output: Format = Output.TABLE,
    context: Context = None,
) -> None:
    """Look for what is wrong with a cluster, and say the cure.

    CRDs, the operator and its Lease, rights, DNS, pools, stores, images and plugins: a line each, ok, warn or fail.
    Nothing is written, but with --deep: its Jobs are deleted when they have ended. Exit code 1 where anything fails.

    \b
    Examples:
      slipway doctor
      slipway doctor -n team-a --deep
      slipway doctor -o json
    """
    import asyncio

    from slipway.cli.tables import print_findings

    found = asyncio.run(_examined(namespace, context, timeout if deep else None))
    raise typer.Exit(print_findings(found, output))


async def _examined(namespace: str | None, context: str | None, deep_seconds: float | None) -> list[Finding]:
    from slipway.api.errors import Forbidden
    from slipway.api.findings import Finding
    from slipway.cli.access import access
    from slipway.cli.checks import Asked, deep, installed, places, rights

    async with access(context, namespace) as way:
        asked = Asked(way)
        found = await installed.crds(asked)
        if any(one.level == "fail" for one in found):
            return found  # without its kinds nothing else can be asked
        checks = {
            "operator": installed.operator,
            "your rights": rights.of_the_user,
            "operator's rights": rights.of_the_operator,
            "DNS": places.names,
            "pools": places.pools,
            "stores": places.stores,
            "images": places.images,
            "plugins": installed.plugins,
        }
        for name, check in checks.items():
            try:
                found += await check(asked)
            except Forbidden as error:
                found.append(Finding(name, "warn", str(error), "ask somebody who may"))
        if deep_seconds is not None:
            found += await deep.pods_can(asked, deep_seconds)
        return found
