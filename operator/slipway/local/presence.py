"""What a run says of itself to other processes, beside its objects: on what it works, and where its Services answer.

It holds as long as the run has the lock of the state folder: one that is killed leaves the file and loses the lock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import orjson

from slipway.api.kinds import Key
from slipway.local.state import State, StateError, is_held, write_whole


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
