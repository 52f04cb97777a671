"""Files that a run leaves for the next run and for other processes.

objects.json holds all objects. It is written as a whole and renamed, after each batch of changes. The newest changes
that a crash loses are decided again: every effect outside is a process, which ends with the run, or lies in the store
under its digest. run.json names the resources that the run works on and the addresses of its Services. It is valid
while the run holds the lock of the state folder: a run that is killed leaves the file and loses the lock.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import orjson

from slipway.api.kinds import EVENT, Key, Kind, Object, kind_of
from slipway.cluster.twin import Twin, Unsupported
from slipway.local.state import StateError, StateFolder, is_locked, write_atomically

FORMAT = 1
EVENT_TTL = timedelta(hours=1)
"""Age at which an API server deletes Events."""


def load(path: Path, now: Callable[[], datetime]) -> Twin:
    """Return the twin as it was saved, or an empty one. Raises StateError for a file that is not a snapshot."""
    twin = Twin(now, uids=uuid4)
    try:
        saved = orjson.loads(path.read_bytes())
        if saved["format"] != FORMAT:
            raise StateError(f"{path} was written by another version of slipway; remove it, or use another --state")
        saved["objects"] = [obj for obj in saved["objects"] if not _is_old(obj, now())]
        twin.restore(saved)
    except FileNotFoundError:
        pass
    except (orjson.JSONDecodeError, KeyError, TypeError, Unsupported) as error:
        raise StateError(f"{path} cannot be read ({error}); remove it, or use another --state") from error
    return twin


def save(twin: Twin, path: Path) -> None:
    """Write all objects of the twin. Raises StateError if the file cannot be written."""
    write_atomically(path, orjson.dumps({"format": FORMAT, **twin.dump()}))


def _is_old(obj: Object, now: datetime) -> bool:
    made = datetime.fromisoformat(obj["metadata"]["creationTimestamp"])
    return kind_of(obj) == EVENT and now - made > EVENT_TTL


class RunInfo(NamedTuple):
    """A run in progress. active: resources that it works on; addresses: `HOST:PORT` by Service and name of the port."""

    process: int
    active: Collection[str]
    addresses: Mapping[str, Mapping[str, str]]

    def works_on(self, key: Key) -> bool:
        return _key_text(key) in self.active

    def address(self, service: Key, port: str) -> str | None:
        return self.addresses.get(_key_text(service), {}).get(port)


def write_run_info(
    state: StateFolder, process: int, active: Collection[Key], addresses: Mapping[tuple[Key, str], str]
) -> None:
    """Write run.json, once the objects are those of this run. Raises StateError."""
    places: dict[str, dict[str, str]] = {}
    for (service, port), address in addresses.items():
        places.setdefault(_key_text(service), {})[port] = address
    info = RunInfo(process, sorted(_key_text(key) for key in active), places)
    write_atomically(state.run, orjson.dumps(info._asdict()))


def read_run_info(state: StateFolder) -> RunInfo | None:
    """Return the run in progress; None if nothing runs, or a run is still starting. Raises StateError."""
    if not is_locked(state.root):
        return None
    try:
        return RunInfo(**orjson.loads(state.run.read_bytes()))
    except FileNotFoundError:
        return None
    except (orjson.JSONDecodeError, TypeError) as error:
        raise StateError(f"{state.run} was written by another version of slipway; use that version") from error


def is_starting(state: StateFolder) -> bool:
    """Return whether a run holds the folder, and its objects are still those of an earlier run."""
    return is_locked(state.root) and not state.run.exists()


def _key_text(key: Key) -> str:
    return f"{key.kind} {key.namespace}/{key.name}"


class SnapshotReader:
    """port.Reader of the last saved objects; it reads the file again after each save. Raises StateError."""

    def __init__(self, state: StateFolder) -> None:
        self._path = state.objects
        self._loaded: tuple[int, Twin] | None = None

    async def get(self, key: Key) -> Object:
        return await self._twin().get(key)

    async def list(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Sequence[Object]:
        return await self._twin().list(kind, namespace, labels)

    def _twin(self) -> Twin:
        modified = self._path.stat().st_mtime_ns if self._path.exists() else 0
        if self._loaded is None or self._loaded[0] != modified:
            self._loaded = modified, load(self._path, _now)
        return self._loaded[1]


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the age of Events is computed by it
