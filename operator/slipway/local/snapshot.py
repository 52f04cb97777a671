"""All objects in one file: what the next run begins with.

It is written whole and renamed, after each batch of changes. What a crash loses of the newest changes is decided
again: every effect outside is a process, which is gone with the run, or lies in the store under its digest.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import orjson

from slipway.api.kinds import EVENT, Object, kind_of
from slipway.cluster.twin import Twin, Unsupported
from slipway.local.state import StateError, write_whole

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
