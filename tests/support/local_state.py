"""A state folder as a local run leaves it, and as one that is at work has it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from slipway.api.kinds import Key, Object, key_of
from slipway.cluster.twin import Twin
from slipway.local import snapshot
from slipway.local.snapshot import write_run_info
from slipway.local.state import StateFolder, make_state_folder, open_state_folder


def left(root: Path, *objects: Object) -> StateFolder:
    """What a run that has ended left."""
    twin = Twin(lambda: datetime(2026, 3, 1, 12, tzinfo=UTC))
    for obj in objects:
        twin.add(obj)
    state = StateFolder(make_state_folder(root))
    snapshot.save(twin, state.objects)
    return state


@contextmanager
def at_work(
    state: StateFolder, *active: Object, addresses: Mapping[tuple[Key, str], str] | None = None
) -> Iterator[None]:
    """A run that works on these objects."""
    with open_state_folder(state.root):
        write_run_info(state, os.getpid(), [key_of(obj) for obj in active], addresses or {})
        yield


def write_log(state: StateFolder, pod: Object, *lines: str) -> Path:
    """Of the first start of its container `main`."""
    path = state.log_of(key_of(pod), "main", 0)
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path
