"""What a check asks the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slipway.api.errors import NotFound
from slipway.api.kinds import Kind, Object
from slipway.cli.access import Access


@dataclass(frozen=True, slots=True)
class Asked:
    """The cluster, as checks ask it. namespace: the one that is looked at."""

    way: Access

    @property
    def namespace(self) -> str:
        return self.way.namespace

    async def get(self, path: str, **query: str) -> Object | None:
        """None where there is no such thing. Raises Forbidden and other ClusterErrors."""
        try:
            return dict(await self.way.connection.call(f"get {path}", "GET", path, query=query))
        except NotFound:
            return None

    async def items(self, path: str, **query: str) -> Sequence[Object]:
        return (await self.get(path, **query) or {}).get("items") or ()

    async def list(self, kind: Kind, *, everywhere: bool = False, labels: dict[str, str] | None = None) -> list[Object]:
        namespace = self.namespace if kind.namespaced and not everywhere else None
        return list(await self.way.cluster.list(kind, namespace, labels))

    async def post(self, path: str, body: Any) -> Object:
        return dict(await self.way.connection.call(f"post {path}", "POST", path, body=body))


def counted(count: int, thing: str) -> str:
    """`1 pod`, `2 pods`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
