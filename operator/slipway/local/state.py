"""The state folder of local runs: what lies where, and the lock that keeps it to one run at a time.

lock                                    held by the run (an open file description lock), with its process id
objects.json                            all objects (snapshot)
run.json                                what the run at work says of itself (presence)
volumes/<namespace>/<claim>/            the data of PersistentVolumeClaims, the store's above all
pods/<UID>/                             volumes and last words of a pod, as long as it is there
logs/<namespace>/<pod>/<container>.<start>.log
triton/                                 Triton's backends folder
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from slipway.api.errors import SlipwayError
from slipway.api.kinds import Key, Object

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OURS = frozenset({"lock", "objects.json", ".gitignore"})
"""One of these is in every folder that a run has had."""
_WHOLE_FILE = struct.Struct("hhqqi4x")
"""C's struct flock on Linux: type, whence, start, length, process id."""


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
    def run(self) -> Path:
        return self.root / "run.json"

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

    def log_of(self, pod: Key, container: str, restarts: int) -> Path:
        return self.root / "logs" / pod.namespace / pod.name / f"{container}.{restarts}.log"


def made(root: Path) -> Path:
    """The folder, made where it is missing, hidden from git, and kept to the user (0700). Raises StateError."""
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        keep_private(root)
        (root / ".gitignore").write_text("*\n")
    except OSError as error:
        raise _unwritable(root, error) from error
    return root


def keep_private(root: Path) -> None:
    """Take the rights of others from a folder that has them, and from all in it: models, logs and Secrets lie there.

    Raises StateError for a folder that is another user's, or that holds what no run has put there.
    """
    found = root.stat()
    if found.st_uid != os.geteuid():
        raise StateError(f"the state folder {root} belongs to another user; give another --state")
    if not found.st_mode & _OTHERS:
        return
    names = {entry.name for entry in root.iterdir()}
    if names and not names & _OURS:
        raise StateError(
            f"the state folder {root} holds other files, and others may read it; give --state a new folder"
        )
    root.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~_OTHERS)


def readable_by_others(root: Path) -> bool:
    """Whether the folder is there, and others have rights in it."""
    return root.is_dir() and bool(root.stat().st_mode & _OTHERS)


def _unwritable(root: Path, error: OSError) -> StateError:
    return StateError(f"the state folder {root} cannot be written ({error.strerror}); give another --state")


@contextmanager
def opened(root: Path) -> Iterator[State]:
    """The folder, made where it is missing, for this process alone. Raises StateError."""
    root = made(root.absolute())
    try:
        lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(root, error) from error
    try:
        try:
            fcntl.fcntl(lock, fcntl.F_OFD_SETLK, _WHOLE_FILE.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        except OSError as error:
            holder = os.read(lock, 20).decode(errors="replace").strip() or "unknown"
            raise StateError(
                f"the state folder {root} is in use by another run (process {holder}); end it, or give another --state"
            ) from error
        state = State(root)
        state.run.unlink(missing_ok=True)
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        yield state
    finally:
        os.close(lock)


def is_held(root: Path) -> bool:
    """Whether a run has the folder. The lock is asked about and never taken: a run that begins must not be refused."""
    try:
        lock = os.open(root / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        asked = _WHOLE_FILE.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, *_ = _WHOLE_FILE.unpack(fcntl.fcntl(lock, fcntl.F_OFD_GETLK, asked))
        return bool(kind != fcntl.F_UNLCK)
    finally:
        os.close(lock)


def write_whole(path: Path, content: bytes) -> None:
    """A reader finds the old content or the new one. Raises StateError where the disk refuses."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}") from error
