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
from slipway.local.state import State, StateError, is_held, write_whole

FORMAT = 1
EVENTS_FOR = timedelta(hours=1)
"""An API server forgets them by then."""


def load(path: Path, now: Callable[[], datetime]) -> Twin:
    """The twin as it was saved, else an empty one. Raises StateError for a file that is not one of ours."""
    twin = Twin(now, uids=uuid4)
    try:
        saved = orjson.loads(path.read_bytes())
        if saved["format"] != FORMAT:
            raise StateError(f"{path} was written by another version of slipway; remove it, or give another --state")
        saved["objects"] = [obj for obj in saved["objects"] if not _is_old(obj, now())]
        twin.restore(saved)
    except FileNotFoundError:
        pass
    except (orjson.JSONDecodeError, KeyError, TypeError, Unsupported) as error:
        raise StateError(f"{path} cannot be read ({error}); remove it, or give another --state") from error
    return twin


def save(twin: Twin, path: Path) -> None:
    """Raises StateError where the disk refuses."""
    write_whole(path, orjson.dumps({"format": FORMAT, **twin.saved()}))


def _is_old(obj: Object, now: datetime) -> bool:
    made = datetime.fromisoformat(obj["metadata"]["creationTimestamp"])
    return kind_of(obj) == EVENT and now - made > EVENTS_FOR


class Presence(NamedTuple):
    """A run at work. active: the resources that it works on; addresses: `HOST:PORT` by (Service, name of the port)."""

    process: int
    active: Collection[str]
    addresses: Mapping[str, Mapping[str, str]]

    def works_on(self, key: Key) -> bool:
        return _text(key) in self.active

    def address(self, service: Key, port: str) -> str | None:
        return self.addresses.get(_text(service), {}).get(port)


def announce(state: State, process: int, active: Collection[Key], addresses: Mapping[tuple[Key, str], str]) -> None:
    """Tell it, once the objects are those of this run. Raises StateError."""
    places: dict[str, dict[str, str]] = {}
    for (service, port), address in addresses.items():
        places.setdefault(_text(service), {})[port] = address
    told = Presence(process, sorted(_text(key) for key in active), places)
    write_whole(state.run, orjson.dumps(told._asdict()))


def present(state: State) -> Presence | None:
    """The run at work, once it has told of itself; None where nothing runs, or a run is only beginning."""
    if not is_held(state.root):
        return None
    try:
        return Presence(**orjson.loads(state.run.read_bytes()))
    except FileNotFoundError:
        return None
    except (orjson.JSONDecodeError, TypeError) as error:
        raise StateError(f"{state.run} was written by another version of slipway; use that one") from error


def begins(state: State) -> bool:
    """Whether a run has the folder whose objects are still those of an earlier one."""
    return is_held(state.root) and not state.run.exists()


def _text(key: Key) -> str:
    return f"{key.kind} {key.namespace}/{key.name}"


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
            self._read = written, load(self._path, _now)
        return self._read[1]


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - events are forgotten by it
