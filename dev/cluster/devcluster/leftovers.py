"""What a node leaves behind when its processes end: containers, mounts, control groups, links to logs."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from devcluster.paths import State
from devcluster.process import wait_until

_CONTAINER_LOGS = Path("/var/log/containers")


def kill_containers(state: State) -> None:
    """End every shim of this cluster's containerd and all below it."""
    shims = [pid for pid, words in _commands() if "-address" in words and str(state.containerd_socket) in words]
    for pid in [each for shim in shims for each in _descendants(shim)] + shims:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_until(lambda: not any(Path(f"/proc/{shim}").exists() for shim in shims), seconds=5)


def unmount(state: State) -> None:
    """Detach every mount below the state folder, the innermost first."""
    for target in reversed(list(mounts_below(state.root))):
        subprocess.run(["umount", "--lazy", target], check=False, capture_output=True)


def mounts_below(folder: Path) -> Iterator[str]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        target = line.split()[1].encode().decode("unicode_escape")
        if target.startswith(f"{folder}/"):
            yield target


def remove_control_groups(*names: str) -> None:
    """Delete the empty groups below these names; those of a running pod, of whatever cluster, cannot be deleted."""
    for top in [hierarchy / name for hierarchy in control_groups() for name in names]:
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                continue


def control_groups() -> list[Path]:
    """The roots of the hierarchies: one (cgroup v2), or one for each controller."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return [Path(target) for _, target, kind, *_ in mounts if kind in ("cgroup", "cgroup2")]


def remove_log_links(state: State) -> None:
    if _CONTAINER_LOGS.is_dir():
        for link in _CONTAINER_LOGS.iterdir():
            if link.is_symlink() and os.readlink(link).startswith(f"{state.root}/"):
                link.unlink()


def remove_state(state: State) -> None:
    """Delete all but the logs. Refuses while anything is mounted below: it could be the host's own files."""
    if mounted := list(mounts_below(state.root)):
        raise SystemExit(f"{state.root}: still mounted: {', '.join(mounted)}; unmount them, then run down again")
    for entry in state.root.iterdir() if state.root.is_dir() else ():
        if entry == state.logs:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _commands() -> Iterator[tuple[int, list[str]]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                yield int(folder.name), (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except (FileNotFoundError, ProcessLookupError):
                continue


def _descendants(pid: int) -> list[int]:
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            direct = [int(child) for child in children.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [each for child in direct for each in [child, *_descendants(child)]]
    return found
