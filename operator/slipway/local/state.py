"""The state folder of local runs: what lies where, and the lock that keeps it to one run at a time.

lock                                    held by the run (flock)
objects.json                            all objects (snapshot)
volumes/<namespace>/<claim>/            the data of PersistentVolumeClaims, the store's above all
pods/<UID>/                             volumes and last words of a pod, as long as it is there
logs/<namespace>/<pod>/<container>.<start>.log
triton/                                 Triton's backends folder
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway.api.errors import SlipwayError
from slipway.api.kinds import Object


class StateError(SlipwayError):
    """The state folder cannot be used."""


@dataclass(frozen=True, slots=True)
class State:
    """Paths below the root; all absolute."""

    root: Path

    @property
    def objects(self) -> Path:
        return self.root / "objects.json"

    @property
    def pods(self) -> Path:
        return self.root / "pods"

    @property
    def triton(self) -> Path:
        return self.root / "triton"

    def claim(self, namespace: str, name: str) -> Path:
        return self.root / "volumes" / namespace / name

    def logs(self, pod: Object) -> Path:
        return self.root / "logs" / str(pod["metadata"]["namespace"]) / str(pod["metadata"]["name"])


def made(root: Path) -> Path:
    """The folder, made where it is missing, hidden from git. Raises StateError."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / ".gitignore").write_text("*\n")
    except OSError as error:
        raise _unwritable(root, error) from error
    return root


def _unwritable(root: Path, error: OSError) -> StateError:
    return StateError(f"the state folder {root} cannot be written ({error.strerror}); give another --state")


@contextmanager
def opened(root: Path) -> Iterator[State]:
    """The folder, made where it is missing, for this process alone. Raises StateError."""
    root = made(root.absolute())
    try:
        lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _unwritable(root, error) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(lock, 20).decode(errors="replace").strip() or "unknown"
            raise StateError(
                f"the state folder {root} is in use by another run (process {holder}); end it, or give another --state"
            ) from error
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        yield State(root)
    finally:
        os.close(lock)
