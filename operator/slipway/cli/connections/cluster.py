"""The connection to the cluster that the kubeconfig names."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kubernetes.aio import config

from slipway.api.errors import SlipwayError
from slipway.api.kinds import Object
from slipway.cli.rendering.errors import USAGE, CommandError
from slipway.cluster.apiserver import ApiServer
from slipway.cluster.connection import Connection
from slipway.cluster.port import Cluster
from slipway.manifests.documents import documents
from slipway.manifests.files import (
    MAX_BYTES,
    Place,
    Problem,
    UnreadableError,
    decode_text,
    read_bytes,
    unreadable_problem,
)

if TYPE_CHECKING:
    from slipway.cli.connections.endpoints import Endpoint
    from slipway.cli.connections.logs import Logs

DEFAULT = Path("~/.kube/config")
SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, slots=True)
class ClusterConnection:
    """connections.Connection to a cluster, whose operator is taken to be at work.

    http: for calls and streams that are no part of the port. namespace: the one that was asked for, else the
    context's, else the pod's own, else `default`.
    """

    cluster: Cluster
    http: Connection
    namespace: str

    @asynccontextmanager
    async def logs(self) -> AsyncIterator[Logs]:
        from slipway.cli.connections.logs import ApiServerLogs

        async with self.http.stream_session() as session:
            yield ApiServerLogs(session, self.http.host)

    def endpoint(self, deployment: Object, protocol: str) -> AbstractAsyncContextManager[Endpoint]:
        from slipway.cli.connections.endpoints import open_endpoint

        return open_endpoint(self.cluster, self.http, self.namespace, deployment, protocol)

    def with_reachable_urls(self, objects: Sequence[Object]) -> list[Object]:
        return list(objects)

    def inactive(self, objects: Sequence[Object]) -> None:  # noqa: ARG002 - the same for all
        return None


@asynccontextmanager
async def connect_to_cluster(context: str | None, namespace: str | None) -> AsyncIterator[ClusterConnection]:
    """Connect to the cluster. Raises ClusterError for missing credentials, CommandError for an invalid kubeconfig."""
    logging.getLogger("kubernetes.aio.config").setLevel(logging.ERROR)  # it warns of what the error says
    check_kubeconfig()
    try:
        http, own = await Connection.open(context=context), own_namespace(context)
    except SlipwayError:
        raise
    except Exception as error:  # the client trusts the shape of the file, and stumbles over any other
        what = f"the kubeconfig ({os.environ.get('KUBECONFIG') or DEFAULT}) is invalid: {type(error).__name__}: {error}"
        raise CommandError(what, USAGE) from error
    async with http:
        yield ClusterConnection(ApiServer(http), http, namespace or own)


def check_kubeconfig() -> None:
    """Raise CommandError for a kubeconfig beyond limits of size and depth, which the client would read anyway."""
    for name in os.environ.get("KUBECONFIG", str(DEFAULT)).split(os.pathsep):
        path = Path(name).expanduser()
        if not path.exists() or path.is_fifo():  # a pipe can be read only once
            continue
        try:
            _, faults = documents(decode_text(read_bytes(path, MAX_BYTES)))
        except UnreadableError as error:
            raise CommandError(str(unreadable_problem(str(path), error)), USAGE) from error
        if faults:
            raise CommandError(str(Problem(Place(str(path), faults[0].line, faults[0].column), faults[0].what)), USAGE)


def own_namespace(context: str | None) -> str:
    """Return the namespace of commands that name none."""
    if "KUBECONFIG" not in os.environ and context is None and SERVICE_ACCOUNT_NAMESPACE.exists():
        return SERVICE_ACCOUNT_NAMESPACE.read_text().strip()
    try:
        contexts, current = config.list_kube_config_contexts(os.environ.get("KUBECONFIG"))  # type: ignore[no-untyped-call]
    except config.ConfigException:
        return "default"
    chosen = next((c for c in contexts if c["name"] == context), current)
    return str(chosen["context"].get("namespace") or "default")
