"""What the API server's audit log tells of one user's writes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Write(NamedTuple):
    """One write as it was sent. resource: with its subresource, as `trainingjobs/status`. body: None where none was."""

    at: str
    verb: str
    resource: str
    name: str
    uri: str
    body: Any
    code: int


@dataclass
class AuditLog:
    """Read from where it was last read to."""

    path: Path
    _offset: int = 0

    def skip(self) -> None:
        self._offset = self.path.stat().st_size if self.path.exists() else 0

    def writes(self, user: str) -> list[Write]:
        """In the order in which they arrived."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as log:
            log.seek(self._offset)
            lines = log.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        self._offset += len(whole)
        entries = (json.loads(line) for line in whole.splitlines())
        return sorted(_write(entry) for entry in entries if entry["user"]["username"] == user)


def by_kind(writes: Iterable[Write]) -> dict[str, int]:
    """Counts by verb and resource."""
    counted = Counter(f"{write.verb} {write.resource}" for write in writes)
    return dict(counted.most_common())


def _write(entry: dict[str, Any]) -> Write:
    ref = entry["objectRef"]
    resource = "/".join(filter(None, (ref["resource"], ref.get("subresource"))))
    return Write(
        entry["requestReceivedTimestamp"],
        entry["verb"],
        resource,
        ref.get("name", ""),
        entry["requestURI"],
        entry.get("requestObject"),
        entry["responseStatus"]["code"],
    )
