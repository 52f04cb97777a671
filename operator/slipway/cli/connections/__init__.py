"""Connections of commands: to the cluster of a kubeconfig, or to a local run's state folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.cli.connections.connection import Connection, state_folder

if TYPE_CHECKING:
    from slipway.cli.connections.cluster import ClusterConnection


@asynccontextmanager
async def connect(context: str | None, namespace: str | None, state: Path | None) -> AsyncIterator[Connection]:
    """Connect to a cluster, or to a local run by its folder (state). Raises CommandError and ClusterError."""
    if state is None:
        async with AsyncExitStack() as stack:
            yield await _entered(stack, context, namespace)
    else:
        from slipway.cli.connections.local import open_state

        yield await open_state(state, namespace)


async def _entered(stack: AsyncExitStack, context: str | None, namespace: str | None) -> ClusterConnection:
    """Connect to the cluster; if that fails and there is a local run, the error suggests --local."""
    from slipway.api.errors import ClusterError
    from slipway.cli.connections.cluster import connect_to_cluster
    from slipway.cli.rendering.errors import UNAVAILABLE, CommandError

    try:
        return await stack.enter_async_context(connect_to_cluster(context, namespace))
    except ClusterError as error:
        folder = state_folder(local=True, state=None, context=None)
        if folder is None or not folder.exists():
            raise
        raise CommandError(f"{error}; for the local run in {folder}, use --local", UNAVAILABLE) from error
