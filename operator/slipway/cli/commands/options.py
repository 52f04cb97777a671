"""Options that several commands share, and what shells complete for them.

A completion is silent and quick: without an answer of the cluster within a second there are no names.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.connections.connection import STATE, STATE_ENV, state_folder
from slipway.cli.rendering.tables import Output

if TYPE_CHECKING:
    from slipway.api.kinds import Kind
    from slipway.cli.connections.connection import Connection

    Ask = Callable[[Connection], Awaitable[list[str]]]

COMPLETION_SECONDS = 1.0


def complete_resources(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete to `digits`, or to `tj/digits` after the beginning of a kind."""
    from slipway.api.kinds import MODEL_DEPLOYMENT, TRAINING_JOB

    kinds = {
        "tj": TRAINING_JOB,
        "trainingjob": TRAINING_JOB,
        "md": MODEL_DEPLOYMENT,
        "modeldeployment": MODEL_DEPLOYMENT,
    }
    begun, slash, _ = incomplete.partition("/")
    if slash:
        return [f"{begun}/{name}" for name in _names(ctx, [kinds[begun]])] if begun in kinds else []
    return _names(ctx, [TRAINING_JOB, MODEL_DEPLOYMENT])


def complete_deployments(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001 - typer filters
    from slipway.api.kinds import MODEL_DEPLOYMENT

    return _names(ctx, [MODEL_DEPLOYMENT])


def complete_plugins(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001 - typer filters
    """Complete to the plugins that are installed here."""
    from importlib.metadata import entry_points

    return sorted(point.name for point in entry_points(group="slipway.plugins"))


def complete_namespaces(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001 - typer filters
    from slipway.cli.connections.cluster import connect_to_cluster

    async def answer() -> list[str]:
        async with connect_to_cluster(ctx.params.get("context"), None) as connection:
            found = await connection.http.call(
                "list namespaces", "GET", "/api/v1/namespaces", seconds=COMPLETION_SECONDS
            )
        return [item["metadata"]["name"] for item in found["items"]]

    return _answer_in_time(answer)


def complete_contexts(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001 - typer filters
    """Complete to the contexts of the kubeconfig, read without a client of Kubernetes."""
    import os
    from pathlib import Path

    from slipway.manifests.documents import documents
    from slipway.manifests.files import MAX_BYTES, UnreadableError, decode_text, read_bytes

    found: list[str] = []
    for path in os.environ.get("KUBECONFIG", str(Path.home() / ".kube" / "config")).split(os.pathsep):
        try:
            read, _ = documents(decode_text(read_bytes(Path(path), MAX_BYTES, pipes=False)))
        except UnreadableError:
            continue
        bodies = [document.value for document in read if isinstance(document.value, dict)]
        contexts = [one for body in bodies for one in body.get("contexts") or () if isinstance(one, dict)]
        found += [str(one["name"]) for one in contexts if "name" in one]
    return found


def complete_steps(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001 - typer filters
    """Complete to the steps of the resource that the command line names, or of all resources."""
    from slipway.api.kinds import STEP
    from slipway.plan.owner import Owner

    named = str(ctx.params.get("name") or "").rpartition("/")[2]

    async def ask(connection: Connection) -> list[str]:
        found = await connection.cluster.list(STEP, connection.namespace)
        return [obj["spec"]["role"] for obj in found if named in ("", (Owner.of(obj).controller or ("", ""))[1])]

    return _ask(ctx, ask)


def _names(ctx: typer.Context, kinds: Iterable[Kind]) -> list[str]:
    async def ask(connection: Connection) -> list[str]:
        return [
            obj["metadata"]["name"]
            for kind in kinds
            for obj in await connection.cluster.list(kind, connection.namespace)
        ]

    return _ask(ctx, ask)


def _ask(ctx: typer.Context, ask: Ask) -> list[str]:
    """Return an answer of the cluster or the local run that the command line names."""
    from slipway.cli.connections import connect

    given = ctx.params
    folder = state_folder(local=bool(given.get("local")), state=given.get("state"), context=None)

    async def answer() -> list[str]:
        async with connect(given.get("context"), given.get("namespace"), folder) as connection:
            return await ask(connection)

    return _answer_in_time(answer)


def _answer_in_time(answer: Callable[[], Awaitable[list[str]]]) -> list[str]:
    import asyncio

    from slipway.api.errors import SlipwayError

    async def in_time() -> list[str]:
        async with asyncio.timeout(COMPLETION_SECONDS):
            return await answer()

    try:
        return sorted(set(asyncio.run(in_time())))
    except (SlipwayError, OSError, TimeoutError):
        return []


# --- Options -------------------------------------------------------------------------------------------------------


def namespace_name(value: str | None) -> str | None:
    """Refuse a text that no namespace can have as its name (RFC 1123 label), before any request is made."""
    if value is None or (len(value) <= 63 and re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", value)):
        return value
    raise typer.BadParameter(f"{value!r} is not a valid namespace: use at most 63 lower-case letters, digits and -")


Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAME",
        help="Namespace. Default: the one of the kubeconfig's context.",
        callback=namespace_name,
        autocompletion=complete_namespaces,
    ),
]
Context = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="NAME",
        help="Context of the kubeconfig. Default: the current one.",
        autocompletion=complete_contexts,
    ),
]
Local = Annotated[
    bool, typer.Option("--local", help="Use `slipway run` on this machine instead of a cluster.", show_default=False)
]
StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        help=f"State folder of that run; implies --local. Default: ${STATE_ENV}, else {STATE}.",
    ),
]


Format = Annotated[Output, typer.Option("--output", "-o", help="Format of the result.")]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout", min=0, metavar="SECONDS", help="Time limit; exit code 5 when it is reached. Default: none."
    ),
]
Files = Annotated[
    list[str],
    typer.Option(
        "--filename", "-f", metavar="FILE", help="File, folder or kustomization, or - for standard input. Repeatable."
    ),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-R", help="Read subfolders of folders as well.")]
