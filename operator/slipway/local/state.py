"""The state folder of local runs: its layout, and the lock that limits it to one run at a time.

lock                                    held by the run (an open file description lock), with its process id
objects.json                            all objects (snapshot.py)
run.json                                resources and addresses of the run in progress (snapshot.py)
volumes/<namespace>/<claim>/            the data of PersistentVolumeClaims, such as the store's
pods/<UID>/                             volumes and termination messages of a pod, as long as it exists
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
"""Every folder that a run has used holds one of these."""
_WHOLE_FILE = struct.Struct("hhqqi4x")
"""C's struct flock on Linux: type, whence, start, length, process id."""


class StateError(SlipwayError):
    """The state folder cannot be used."""


@dataclass(frozen=True, slots=True)
class StateFolder:
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


def make_state_folder(root: Path) -> Path:
    """Create the folder if it is missing, hidden from git and private (0700), and return it. Raises StateError."""
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        restrict_access(root)
        (root / ".gitignore").write_text("*\n")
    except OSError as error:
        raise _write_error(root, error) from error
    return root


def restrict_access(root: Path) -> None:
    """Remove the permissions of others from the folder and all in it: it holds models, logs and Secrets.

    Raises StateError for a folder of another user, or one that holds files of other programs.
    """
    found = root.stat()
    if found.st_uid != os.geteuid():
        raise StateError(f"the state folder {root} belongs to another user; use another --state")
    if not found.st_mode & _OTHERS:
        return
    names = {entry.name for entry in root.iterdir()}
    if names and not names & _OURS:
        raise StateError(
            f"the state folder {root} holds files of other programs and others may read it; use a new folder as --state"
        )
    root.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~_OTHERS)


def is_readable_by_others(root: Path) -> bool:
    """Return whether the folder exists and other users have permissions in it."""
    return root.is_dir() and bool(root.stat().st_mode & _OTHERS)


def _write_error(root: Path, error: OSError) -> StateError:
    return StateError(f"the state folder {root} cannot be written ({error.strerror}); use another --state")


@contextmanager
def open_state_folder(root: Path) -> Iterator[StateFolder]:
    """Lock the folder, created if it is missing, for this process alone. Raises StateError."""
    root = make_state_folder(root.absolute())
    try:
        lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _write_error(root, error) from error
    try:
        try:
            fcntl.fcntl(lock, fcntl.F_OFD_SETLK, _WHOLE_FILE.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        except OSError as error:
            holder = os.read(lock, 20).decode(errors="replace").strip() or "unknown"
            raise StateError(
                f"the state folder {root} is in use by another run (process {holder}); end it, or use another --state"
            ) from error
        state = StateFolder(root)
        state.run.unlink(missing_ok=True)
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        yield state
    finally:
        os.close(lock)


def is_locked(root: Path) -> bool:
    """Return whether a run holds the folder. The lock is queried, never taken: a starting run must not be refused."""
    try:
        lock = os.open(root / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        query = _WHOLE_FILE.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, *_ = _WHOLE_FILE.unpack(fcntl.fcntl(lock, fcntl.F_OFD_GETLK, query))
        return bool(kind != fcntl.F_UNLCK)
    finally:
        os.close(lock)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file: readers find the old content or the new one. Raises StateError if it cannot be written."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}") from error
