"""Where commands that only look find things: a cluster, or what `slipway run` does on this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from slipway.api.kinds import Object
    from slipway.cli.access import Access
    from slipway.cli.podlogs import Logs
    from slipway.cli.reach import Endpoint
    from slipway.cluster.port import Reader


class Rest(NamedTuple):
    """Objects that stay as they are, and why."""

    objects: Sequence[Object]
    why: str


class Way(Protocol):
    """Its objects, their logs, and where models answer; namespace: where names are looked for."""

    @property
    def cluster(self) -> Reader: ...

    @property
    def namespace(self) -> str: ...

    def logs(self) -> AbstractAsyncContextManager[Logs]: ...

    def endpoint(self, deployment: Object, protocol: str) -> AbstractAsyncContextManager[Endpoint]:
        """Where the deployment's Triton answers. Raises CommandError where nothing serves."""
        ...

    def reachable(self, objects: Sequence[Object]) -> list[Object]:
        """The objects with addresses that clients of this machine can use."""
        ...

    def rest(self, objects: Sequence[Object]) -> Rest | None:
        """Those that nothing brings on; None where all may become others."""
        ...


@dataclass(frozen=True, slots=True)
class ClusterWay:
    """To a cluster, whose operator is taken to be at work."""

    access: Access

    @property
    def cluster(self) -> Reader:
        return self.access.cluster

    @property
    def namespace(self) -> str:
        return self.access.namespace

    @asynccontextmanager
    async def logs(self) -> AsyncIterator[Logs]:
        from slipway.cli.logstream import ApiServerLogs

        async with self.access.session() as session:
            yield ApiServerLogs(session, self.access.connection.host)

    def endpoint(self, deployment: Object, protocol: str) -> AbstractAsyncContextManager[Endpoint]:
        from slipway.cli.reach import reach

        return reach(self.access, deployment, protocol)

    def reachable(self, objects: Sequence[Object]) -> list[Object]:
        return list(objects)

    def rest(self, objects: Sequence[Object]) -> Rest | None:  # noqa: ARG002 - the same for all
        return None


@asynccontextmanager
async def way_to(context: str | None, namespace: str | None, state: Path | None) -> AsyncIterator[Way]:
    """state: the folder of a local run; None for the cluster of the context. Raises CommandError, ClusterError."""
    if state is None:
        async with AsyncExitStack() as stack:
            yield ClusterWay(await _entered(stack, context, namespace))
    else:
        from slipway.cli.localway import opened

        yield await opened(state, namespace)


async def _entered(stack: AsyncExitStack, context: str | None, namespace: str | None) -> Access:
    """Where there is no way into a cluster and a local run has been, that one was meant."""
    from slipway.api.errors import ClusterError
    from slipway.cli.access import access
    from slipway.cli.exits import UNAVAILABLE, CommandError
    from slipway.cli.options import state_folder

    try:
        return await stack.enter_async_context(access(context, namespace))
    except ClusterError as error:
        folder = state_folder(local=True, state=None, context=None)
        if folder is None or not folder.exists():
            raise
        raise CommandError(f"{error}; for what `slipway run` keeps in {folder}, give --local", UNAVAILABLE) from error
