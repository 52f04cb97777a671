"""The way into the cluster that the kubeconfig names: the port, the namespace, and streams that are no part of it."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from kubernetes.aio import config

from slipway.api.errors import SlipwayError
from slipway.cli.exits import USAGE, CommandError
from slipway.cli.manifests.problems import Place, Problem
from slipway.cli.manifests.sources import MAX_BYTES
from slipway.cli.manifests.yamltree import documents
from slipway.cli.userfiles import UnreadableError, decoded, read_bytes
from slipway.cluster.apiserver import ApiServer
from slipway.cluster.connection import Connection
from slipway.cluster.port import Cluster

DEFAULT = Path("~/.kube/config")
SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, slots=True)
class Access:
    """One cluster as a command sees it.

    namespace: the one asked for, else the context's, else the pod's own, else `default`.
    """

    cluster: Cluster
    connection: Connection
    namespace: str

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        """For streams (logs, port forwarding): no time-out in all, authorized as of now."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with self.connection.session(timeout=timeout) as session:
            if authorization := await self.connection.authorization():
                session.headers["Authorization"] = authorization
            yield session


@asynccontextmanager
async def access(context: str | None, namespace: str | None) -> AsyncIterator[Access]:
    """Raises ClusterError where no credentials are found, CommandError for a kubeconfig that is none."""
    logging.getLogger("kubernetes.aio.config").setLevel(logging.ERROR)  # it warns of what the error tells
    check_kubeconfig()
    try:
        connection, own = await Connection.open(context=context), own_namespace(context)
    except SlipwayError:
        raise
    except Exception as error:  # the client trusts the shape of the file, and stumbles over any other
        what = f"the kubeconfig ({os.environ.get('KUBECONFIG') or DEFAULT}) is none: {type(error).__name__}: {error}"
        raise CommandError(what, USAGE) from error
    async with connection:
        yield Access(ApiServer(connection), connection, namespace or own)


def check_kubeconfig() -> None:
    """Raises CommandError for a kubeconfig that would take all memory, by file and line; the client reads any."""
    for name in os.environ.get("KUBECONFIG", str(DEFAULT)).split(os.pathsep):
        path = Path(name).expanduser()
        if not path.exists() or path.is_fifo():  # a pipe can be read only once
            continue
        try:
            _, faults = documents(decoded(read_bytes(path, MAX_BYTES)))
        except UnreadableError as error:
            raise CommandError(str(Problem(Place(str(path), error.line, 1), error.what)), USAGE) from error
        if faults:
            raise CommandError(str(Problem(Place(str(path), faults[0].line, faults[0].column), faults[0].what)), USAGE)


def own_namespace(context: str | None) -> str:
    """The namespace that commands work in where none is given."""
    if "KUBECONFIG" not in os.environ and context is None and SERVICE_ACCOUNT_NAMESPACE.exists():
        return SERVICE_ACCOUNT_NAMESPACE.read_text().strip()
    try:
        contexts, current = config.list_kube_config_contexts(os.environ.get("KUBECONFIG"))  # type: ignore[no-untyped-call]
    except config.ConfigException:
        return "default"
    chosen = next((c for c in contexts if c["name"] == context), current)
    return str(chosen["context"].get("namespace") or "default")
