"""The objects of a state folder as another process reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from slipway.api.kinds import Key, Kind, Object
from slipway.cluster.twin import Twin
from slipway.local import snapshot
from slipway.local.state import State


class Kept:
    """port.Reader of what the run saved last; read anew when it has saved again. Raises StateError."""

    def __init__(self, state: State) -> None:
        self._path = state.objects
        self._read: tuple[int, Twin] | None = None

    async def get(self, key: Key) -> Object:
        return await self._twin().get(key)

    async def list(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Sequence[Object]:
        return await self._twin().list(kind, namespace, labels)

    def _twin(self) -> Twin:
        written = self._path.stat().st_mtime_ns if self._path.exists() else 0
        if self._read is None or self._read[0] != written:
            self._read = written, snapshot.load(self._path, _now)
        return self._read[1]


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - events are forgotten by it
