"""What shells complete: names of resources, tasks, plugins, namespaces and contexts.

A completion is silent and quick, or nothing: no cluster within a second means no names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from slipway.api.kinds import Kind
    from slipway.cli.connections.connection import Connection

    Ask = Callable[[Connection], Awaitable[list[str]]]

SECONDS = 1.0


def resources(ctx: typer.Context, incomplete: str) -> list[str]:
    """`digits`, or `tj/digits` once a kind has been begun."""
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


def deployments(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001 - typer filters
    from slipway.api.kinds import MODEL_DEPLOYMENT

    return _names(ctx, [MODEL_DEPLOYMENT])


def plugins(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001 - typer filters
    """Those that are installed here."""
    from importlib.metadata import entry_points

    return sorted(point.name for point in entry_points(group="slipway.plugins"))


def namespaces(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001 - typer filters
    from slipway.cli.connections.cluster import connect_to_cluster

    async def answer() -> list[str]:
        async with connect_to_cluster(ctx.params.get("context"), None) as connection:
            found = await connection.http.call("list namespaces", "GET", "/api/v1/namespaces", seconds=SECONDS)
        return [item["metadata"]["name"] for item in found["items"]]

    return _answered(answer)


def contexts(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001 - typer filters
    """Of the kubeconfig, which is read without a client of Kubernetes."""
    import os
    from pathlib import Path

    from slipway.manifests.files import MAX_BYTES, UnreadableError, decoded, read_bytes
    from slipway.manifests.yamltree import documents

    found: list[str] = []
    for path in os.environ.get("KUBECONFIG", str(Path.home() / ".kube" / "config")).split(os.pathsep):
        try:
            read, _ = documents(decoded(read_bytes(Path(path), MAX_BYTES, pipes=False)))
        except UnreadableError:
            continue
        bodies = [document.value for document in read if isinstance(document.value, dict)]
        contexts = [one for body in bodies for one in body.get("contexts") or () if isinstance(one, dict)]
        found += [str(one["name"]) for one in contexts if "name" in one]
    return found


def tasks(ctx: typer.Context, incomplete: str) -> list[str]:  # noqa: ARG001 - typer filters
    """Of the resource that the command line names, or of all."""
    from slipway.api.kinds import MODEL_DEPLOYMENT, TRAINING_JOB

    named = str(ctx.params.get("name") or "").rpartition("/")[2]

    async def ask(connection: Connection) -> list[str]:
        found = [
            obj
            for kind in (TRAINING_JOB, MODEL_DEPLOYMENT)
            for obj in await connection.cluster.list(kind, connection.namespace)
        ]
        chosen = [obj for obj in found if named in ("", obj["metadata"]["name"])]
        return [task["name"] for obj in chosen for task in obj.get("status", {}).get("tasks", ())]

    return _asked(ctx, ask)


def _names(ctx: typer.Context, kinds: Iterable[Kind]) -> list[str]:
    async def ask(connection: Connection) -> list[str]:
        return [
            obj["metadata"]["name"]
            for kind in kinds
            for obj in await connection.cluster.list(kind, connection.namespace)
        ]

    return _asked(ctx, ask)


def _asked(ctx: typer.Context, ask: Ask) -> list[str]:
    """Of the cluster, or of the local run, that the command line names."""
    from slipway.cli.connections import connect
    from slipway.cli.connections.connection import state_folder

    given = ctx.params
    folder = state_folder(local=bool(given.get("local")), state=given.get("state"), context=None)

    async def answer() -> list[str]:
        async with connect(given.get("context"), given.get("namespace"), folder) as connection:
            return await ask(connection)

    return _answered(answer)


def _answered(answer: Callable[[], Awaitable[list[str]]]) -> list[str]:
    import asyncio

    from slipway.api.errors import SlipwayError

    async def in_time() -> list[str]:
        async with asyncio.timeout(SECONDS):
            return await answer()

    try:
        return sorted(set(asyncio.run(in_time())))
    except (SlipwayError, OSError, TimeoutError):
        return []
