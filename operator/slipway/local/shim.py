"""Runs one container: a process and its descendants, which all end with the shim and with `slipway run`.

    shim.py EXIT_FILE PROGRAM ARGUMENT...

Standard input is its lifeline and its orders: a line with a number sends that signal to the first process; the end of
the stream (whoever held the other end is gone, however it ended) kills everything at once. When the first process ends
by itself the others are killed, as with PID 1 of a container, and its exit code (128 + N for signal N) is written to
EXIT_FILE ("": nowhere) and is the shim's own.

Orphans come to the shim because it is a subreaper (prctl(2), PR_SET_CHILD_SUBREAPER), so whatever daemonizes itself
is found as well. Standard library only, and little of it: one of these starts with every container.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CANNOT_START = 127
"""Exit code where the program cannot be executed, as a shell gives it."""

_libc = ctypes.CDLL(None, use_errno=True)


def main(exit_file: str, command: list[str]) -> int:
    """Return the exit code of the command; 137 if everything was killed because the lifeline ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    first = _start(command)
    code = _watch(first, ended)
    if code is not None and exit_file:
        _write(exit_file, code)
    _kill_all()
    return 137 if code is None else code


def _start(command: list[str]) -> int:
    # Blocked until the child no longer ignores them: an order that comes at once must not be lost.
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)
        return child
    try:
        os.setsid()
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores the latter two
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.execvpe(command[0], command, os.environ)  # noqa: S606 - running what the pod says is its purpose
    except OSError as error:
        os.write(2, f"cannot run {command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(CANNOT_START)


def _watch(first: int, ended: int) -> int | None:
    """Return the exit code of the first process; None if the lifeline ended before."""
    orders = b""
    while True:
        ready, _, _ = select.select([0, ended], [], [])
        if ended in ready:
            os.read(ended, 4096)
            if (code := _reap(first)) is not None:
                return code
        if 0 in ready:
            data = os.read(0, 4096)
            if not data:
                return None
            *lines, orders = (orders + data).split(b"\n")
            for line in lines:
                _signal(first, int(line))


def _reap(first: int) -> int | None:
    """Collect ended processes, and return the exit code of the first process if it is one of them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == first:
            value = os.waitstatus_to_exitcode(status)
            code = value if value >= 0 else 128 - value


def _kill_all() -> None:
    """Kill children until there are none: children of a killed process become ours."""
    while True:
        for pid in _children():
            _signal(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    own, found = os.getpid(), []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    after_name = file.read().rpartition(b")")[2].split()  # a name may hold blanks and brackets
            except OSError:
                continue
            if int(after_name[1]) == own:
                found.append(int(name))
    return found


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _write(path: str, code: int) -> None:
    draft = f"{path}.draft"
    with open(draft, "w", encoding="ascii") as file:
        file.write(str(code))
    os.rename(draft, path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
