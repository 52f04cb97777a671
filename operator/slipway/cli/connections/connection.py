"""The connection of commands that only read: to a cluster, or to `slipway run` on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import typer

if TYPE_CHECKING:
    from slipway.api.kinds import Object
    from slipway.cli.connections.endpoints import Endpoint
    from slipway.cli.connections.logs import Logs
    from slipway.cluster.port import Reader

STATE = Path(".slipway")
STATE_ENV = "SLIPWAY_STATE"


def state_folder(*, local: bool, state: Path | None, context: str | None) -> Path | None:
    """Return the folder of the local run that the options name; None for a cluster."""
    if not local and state is None:
        return None
    if context is not None:
        raise typer.BadParameter("--context names a cluster, and --local a run on this machine: leave one of them out")
    return (state or Path(os.environ.get(STATE_ENV) or STATE)).absolute()


class Inactive(NamedTuple):
    """Objects that no operator and no run works on, and why."""

    objects: Sequence[Object]
    reason: str


class Connection(Protocol):
    """Objects, their logs, and where models answer. namespace: the one in which names are looked up."""

    @property
    def cluster(self) -> Reader: ...

    @property
    def namespace(self) -> str: ...

    def logs(self) -> AbstractAsyncContextManager[Logs]: ...

    def endpoint(self, deployment: Object, protocol: str) -> AbstractAsyncContextManager[Endpoint]:
        """Open the address of the deployment's Triton. Raises CommandError for one that serves nothing."""
        ...

    def with_reachable_urls(self, objects: Sequence[Object]) -> list[Object]:
        """Return the objects with a status.url that clients on this machine can use."""
        ...

    def inactive(self, objects: Sequence[Object]) -> Inactive | None:
        """Return those of the objects that nothing works on; None for none of them."""
        ...
