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

from slipway.cluster.apiserver import ApiServer
from slipway.cluster.connection import Connection
from slipway.cluster.port import Cluster

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
    """Raises ClusterError where no credentials are found."""
    logging.getLogger("kubernetes.aio.config").setLevel(logging.ERROR)  # it warns of what the error tells
    async with await Connection.open(context=context) as connection:
        yield Access(ApiServer(connection), connection, namespace or own_namespace(context))


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
