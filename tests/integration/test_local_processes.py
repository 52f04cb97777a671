"""A container's processes end with it, and with whoever started them, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slipway.local.processes import ProcessGroup, start
from support.local_runs import processes_of, until

DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal_file = sys.argv[1]
        open(signal_file, "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
{then}
"""


def environment(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "STATE": f"{folder}/"}


async def begun(folder: Path, source: str, *arguments: str) -> ProcessGroup:
    command = [sys.executable, "-c", source, *arguments]
    return await start(command, environment(folder), folder, folder / "log", str(folder / "exit"))


async def ends_with(folder: Path, source: str, *arguments: str) -> int:
    return await (await begun(folder, source, *arguments)).wait()


async def deaf_daemon(folder: Path, handler: str) -> ProcessGroup:
    """A process with a daemon, once its handler of SIGTERM is set."""
    then = f"import signal; signal.signal(15, {handler}); open('ready', 'w'); time.sleep(600)"
    group = await begun(folder, DAEMON.format(then=then), str(folder / "daemon"))
    until((folder / "ready").exists, (folder / "log").read_text, seconds=30)
    return group


@pytest.mark.parametrize(
    ("source", "code"),
    [("pass", 0), ("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)],
)
async def test_the_exit_code_is_a_containers_and_is_kept_in_a_file(tmp_path: Path, source: str, code: int):
    assert await ends_with(tmp_path, source) == code
    assert (tmp_path / "exit").read_text() == str(code)


async def test_a_program_that_is_not_there_is_named_in_the_log(tmp_path: Path):
    group = await start(["no-such-program"], environment(tmp_path), tmp_path, tmp_path / "log")
    assert await group.wait() == 127
    assert (tmp_path / "log").read_text() == "cannot run no-such-program: No such file or directory\n"


async def test_a_daemon_that_left_its_session_ends_with_the_first_process(tmp_path: Path):
    assert await ends_with(tmp_path, DAEMON.format(then="pass"), str(tmp_path / "daemon")) == 0
    assert (tmp_path / "daemon").exists()
    assert processes_of(tmp_path) == {}


async def test_a_signal_reaches_the_first_process_and_its_end_is_that_of_all(tmp_path: Path):
    group = await deaf_daemon(tmp_path, "lambda *_: sys.exit(5)")
    assert await group.end(30) == 5
    assert processes_of(tmp_path) == {}


async def test_a_signal_that_comes_before_the_program_has_started_is_not_lost(tmp_path: Path):
    group = await begun(tmp_path, "import time; time.sleep(600)")
    assert await group.end(60) == 143


async def test_what_is_deaf_to_sigterm_is_killed_when_its_grace_is_over(tmp_path: Path):
    group = await deaf_daemon(tmp_path, "signal.SIG_IGN")
    assert await group.end(0.2) == 137
    assert processes_of(tmp_path) == {}


HOLDER = """
import asyncio, os, sys
from pathlib import Path
from slipway.local.processes import start

async def main():
    folder = Path(sys.argv[1])
    environment = {"PATH": os.environ["PATH"], "STATE": f"{folder}/"}
    command = [sys.executable, "-c", sys.argv[2], str(folder / "daemon")]
    group = await start(command, environment, folder, folder / "log", str(folder / "exit"))
    await group.wait()

asyncio.run(main())
"""


def test_nothing_survives_that_whoever_started_it_is_killed(tmp_path: Path):
    source = DAEMON.format(then="time.sleep(600)")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path), source])
    log = tmp_path / "log"
    until((tmp_path / "daemon").exists, lambda: log.read_text() if log.exists() else "", seconds=30)
    assert len(processes_of(tmp_path)) >= 2
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    until(lambda: not processes_of(tmp_path), lambda: str(processes_of(tmp_path)), seconds=10)
    assert not (tmp_path / "exit").exists()  # it did not end by itself
