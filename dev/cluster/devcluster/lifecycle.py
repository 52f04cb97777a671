"""The whole cluster: up, and down without a trace but its logs."""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

from devcluster import binaries, leftovers, needs, network, paths, volumes
from devcluster.controlplane import Addresses, ControlPlane
from devcluster.node import CGROUP_OF_THE_SECOND, NAMES, Node
from devcluster.paths import State

# One such cluster a machine: its network's names and addresses are fixed. This link names its state folder.
_RUNNING = Path("/run/slipway-dev-cluster")
_ADDRESSES = Addresses(network.NODE_ADDRESS, api_port=6443, etcd_port=12379, etcd_peer_port=12380)
_OF_A_NODE = ("kubelet", "kube-proxy", "network-policies", "containerd")
# In the order in which they are stopped: nothing restarts what the one before it has ended.
_PROCESSES = (
    "kubelet",
    "kube-proxy",
    "network-policies",
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
    parser.add_argument("--nodes", type=int, choices=(1, 2), default=1, help="2: with a second node; default: 1")
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
    node.connect()
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
    volumes.provide(plane.kubectl, state.volumes, NAMES)
    node.wait(kubelet)
    proxy = node.start_proxy()
    enforcer = node.start_enforcer()
    node.wait_for_services(proxy, dns)
    node.wait_for_enforcer(enforcer)
    plane.wait_for_controllers(controllers)
    if options.nodes == 2:
        _second_up(plane)
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


def node(arguments: Sequence[str] | None = None) -> int:
    """Start and end the second node, or let it die."""
    parser = argparse.ArgumentParser(prog="node", description=node.__doc__)
    _add_state(parser)
    actions = {
        "up": (_second_up, "start it, mend its cable, or whatever part of it does not run"),
        "cut": (lambda _: network.unplug(), "unplug its cable: its pods go on and nobody hears of them"),
        "kill": (_second_kill, "end its kubelet, its containers and all else at once, as a power cut does"),
        "down": (_second_down, "end it and delete its Node"),
    }
    told = "; ".join(f"{action}: {help_}" for action, (_, help_) in actions.items())
    parser.add_argument("action", choices=actions, help=told)
    options = parser.parse_args(arguments)
    needs.root()
    state = State(options.state.absolute())
    if not _alive(state):
        raise SystemExit(f"no cluster of {state.root} runs: start it by `{paths.SOURCES / 'up'}`")
    actions[options.action][0](ControlPlane(state, _ADDRESSES))
    return 0


def _second(plane: ControlPlane) -> Node:
    return Node(plane, NAMES[1], network.SECOND)


def _second_up(plane: ControlPlane) -> None:
    second = _second(plane)
    second.configure()
    second.connect()
    containerd = second.start_containerd()
    second.import_images(containerd)
    kubelet = second.start_kubelet()
    second.start_proxy()
    enforcer = second.start_enforcer()
    second.wait(kubelet)
    second.wait_for_enforcer(enforcer)


def _second_kill(plane: ControlPlane) -> None:
    network.unplug()  # first: a machine without power closes no connection
    second = _second(plane)
    for name in _OF_A_NODE:
        second.process(name).kill()
    leftovers.kill_containers(second.state)


def _second_down(plane: ControlPlane) -> None:
    _second_kill(plane)
    second = _second(plane)
    plane.kubectl.attempt("delete", "node", second.name, "--ignore-not-found", "--wait=false")
    leftovers.unmount(second.state)
    leftovers.remove_control_groups(CGROUP_OF_THE_SECOND)
    network.down_second()
    leftovers.remove_state(second.state)


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
    _second_kill(plane)
    for name in _PROCESSES:
        if name == "containerd":
            leftovers.kill_containers(state)
        plane.process(name).stop()
    leftovers.unmount(state)
    leftovers.remove_control_groups("kubepods", CGROUP_OF_THE_SECOND)
    leftovers.remove_log_links(state)
    network.down(state.root / "settings.before")
    leftovers.remove_state(state)
    if _RUNNING.is_symlink() and os.readlink(_RUNNING) == str(state.root):
        _RUNNING.unlink()
