"""The whole cluster: up, and down without a trace but its logs."""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from devcluster import binaries, leftovers, needs, network, paths, volumes
from devcluster.controlplane import Addresses, ControlPlane
from devcluster.node import NAME, Node
from devcluster.paths import State

# One such cluster a machine: its network's names and addresses are fixed. This link names its state folder.
_RUNNING = Path("/run/slipway-dev-cluster")
_ADDRESSES = Addresses(network.NODE_ADDRESS, api_port=6443, etcd_port=12379, etcd_peer_port=12380)
# In the order in which they are stopped: nothing restarts what the one before it has ended.
_PROCESSES = (
    "kubelet",
    "kube-proxy",
    "coredns",
    "kube-scheduler",
    "kube-controller-manager",
    "kube-apiserver",
    "etcd",
    "containerd",
)


def up(arguments: Sequence[str] | None = None) -> int:
    """Bring the cluster up, or whatever part of it is not running."""
    parser = argparse.ArgumentParser(prog="up", description=up.__doc__)
    _add_state(parser)
    parser.add_argument("--replace", action="store_true", help="end another checkout's cluster on this machine first")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    state = State(options.state.absolute())
    needs.root()
    needs.programs()
    for module in (binaries.KUBERNETES, binaries.COREDNS, binaries.PAUSE):
        binaries.build(module)
    _give_way(state, options.replace)

    plane = ControlPlane(state, _ADDRESSES)
    node = Node(plane)
    plane.credentials()
    node.configure()
    containerd = node.start_containerd()
    plane.start_etcd()
    apiserver = plane.start_apiserver()
    node.import_images(containerd)
    plane.wait_for_apiserver(apiserver)
    controllers = plane.start_controller_manager()
    plane.start_scheduler()
    kubelet = node.start_kubelet()
    plane.kubectl("apply", "--server-side", "--force-conflicts", f"--filename={paths.SOURCES / 'manifests'}")
    dns = node.start_dns()
    volumes.provide(plane.kubectl, state.volumes, NAME)
    node.wait(kubelet)
    proxy = node.start_proxy()
    node.wait_for_services(proxy, dns)
    plane.wait_for_controllers(controllers)
    print(f"the cluster is up after {time.monotonic() - started:.0f} s: export KUBECONFIG={state.kubeconfig}")
    return 0


def down(arguments: Sequence[str] | None = None) -> int:
    """End the cluster and delete what it left, but for its logs."""
    parser = argparse.ArgumentParser(prog="down", description=down.__doc__)
    _add_state(parser)
    state = State(parser.parse_args(arguments).state.absolute())
    needs.root()
    _end(state)
    return 0


def _add_state(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", type=Path, default=paths.default_state(), help="its folder; default: %(default)s")


def _alive(state: State) -> bool:
    plane = ControlPlane(state, _ADDRESSES)
    return any(plane.process(name).pid() is not None for name in _PROCESSES)


def _give_way(state: State, replace: bool) -> None:
    """Make room: for a fresh start where nothing of this cluster runs, against another checkout's."""
    if _RUNNING.is_symlink():
        other = State(Path(os.readlink(_RUNNING)))
        if other != state:
            if _alive(other) and not replace:
                raise SystemExit(
                    f"a cluster of {other.root} runs on this machine, which has room for one: "
                    f"end it by `{paths.SOURCES / 'down'} --state {other.root}`, or say --replace"
                )
            _end(other)
    if not _alive(state):
        _end(state)
    _RUNNING.unlink(missing_ok=True)
    _RUNNING.symlink_to(state.root)


def _end(state: State) -> None:
    plane = ControlPlane(state, _ADDRESSES)
    for name in _PROCESSES:
        if name == "containerd":
            leftovers.kill_containers(state)
        plane.process(name).stop()
    leftovers.unmount(state)
    leftovers.remove_control_groups()
    leftovers.remove_log_links(state)
    network.down(state.root / "ip_forward.before")
    leftovers.remove_state(state)
    if _RUNNING.is_symlink() and os.readlink(_RUNNING) == str(state.root):
        _RUNNING.unlink()
