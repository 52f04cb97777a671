"""An API server alone: real admission, storage and watches without a node, for contract and integration tests."""

import argparse
import os
import select
import shutil
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from devcluster.controlplane import Addresses, ControlPlane, require_programs
from devcluster.paths import State

_EPILOG = """
When it is ready it prints the kubeconfig's path, alone on a line, and stays until SIGTERM, SIGINT, or the end of its
standard input where that is a pipe. A state folder that it chose itself is deleted then. It runs without root, beside
any other cluster.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="apiserver", description=__doc__, epilog=_EPILOG)
    parser.add_argument("--state", type=Path, help="folder for everything it writes; default: a new temporary one")
    parser.add_argument(
        "--controllers",
        action="store_true",
        help="also run kube-controller-manager: Jobs make pods, owners' children are collected, pods need an account",
    )
    parser.add_argument("flags", nargs="*", metavar="-- FLAG", help="further flags of kube-apiserver")
    options = parser.parse_args(arguments)
    require_programs()

    stopped = _stop_pipe()
    with ExitStack() as stack:
        root = options.state
        if root is None:
            root = Path(tempfile.mkdtemp(prefix="slipway-apiserver-"))
            stack.callback(shutil.rmtree, root, ignore_errors=True)
        plane = ControlPlane(State(root.absolute()), _free_addresses(), die_with_us=True)
        plane.credentials()
        etcd = plane.start_etcd()
        stack.callback(etcd.stop, grace_seconds=3)
        server = plane.start_apiserver([*_admission(options.controllers), *options.flags])
        stack.callback(server.stop, grace_seconds=3)
        plane.wait_for_apiserver(server)
        if options.controllers:
            controllers = plane.start_controller_manager()
            stack.callback(controllers.stop, grace_seconds=3)
            plane.wait_for_controllers(controllers)
        print(plane.state.kubeconfig, flush=True)
        _wait_for_stop(stopped)
    return 0


def _admission(controllers: bool) -> list[str]:
    # Without controllers no namespace gets its default account, and no pod could be made.
    return [] if controllers else ["--disable-admission-plugins=ServiceAccount"]


def _free_addresses() -> Addresses:
    """Loopback ports that nothing listens on: held together, so that no two are equal."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        api, etcd, peer = (each.getsockname()[1] for each in sockets)
    return Addresses("127.0.0.1", api, etcd, peer)


def _stop_pipe() -> int:
    """A file descriptor that becomes readable when SIGTERM or SIGINT arrives."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reader


def _wait_for_stop(stopped: int) -> None:
    # A test runner that is killed cannot signal us, but its end of the pipe closes.
    piped = stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode)
    watched = [stopped, sys.stdin.fileno()] if piped else [stopped]
    while True:
        readable, _, _ = select.select(watched, [], [])
        if stopped in readable or not os.read(sys.stdin.fileno(), 4096):
            return
