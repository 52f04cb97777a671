"""The queries of checks to the API server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slipway.api.errors import NotFound
from slipway.api.kinds import Kind, Object
from slipway.cluster.connection import Connection
from slipway.cluster.port import Cluster


@dataclass(frozen=True, slots=True)
class ClusterQueries:
    """One cluster as checks query it. namespace: the one that is examined."""

    cluster: Cluster
    connection: Connection
    namespace: str

    async def get(self, path: str, **query: str) -> Object | None:
        """Return None for an object that does not exist. Raises Forbidden and other ClusterErrors."""
        try:
            return dict(await self.connection.call(f"get {path}", "GET", path, query=query))
        except NotFound:
            return None

    async def items(self, path: str, **query: str) -> Sequence[Object]:
        return (await self.get(path, **query) or {}).get("items") or ()

    async def list(
        self, kind: Kind, *, all_namespaces: bool = False, labels: dict[str, str] | None = None
    ) -> list[Object]:
        namespace = self.namespace if kind.namespaced and not all_namespaces else None
        return list(await self.cluster.list(kind, namespace, labels))

    async def post(self, path: str, body: Any) -> Object:
        return dict(await self.connection.call(f"post {path}", "POST", path, body=body))
