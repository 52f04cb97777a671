"""The pods' networks: a bridge on each node, whose address is the node's, and one nftables table of the host.

The first node is the machine itself. The second one is a network namespace: a pair of virtual interfaces is the cable
between the two, and taking its end down cuts the node off.
"""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from devcluster import needs, policies

BRIDGE = "slipway0"
NODE_ADDRESS = "10.244.0.1"
POD_RANGE = "10.244.0.0/24"
SECOND_ADDRESS = "10.244.1.1"
SECOND_POD_RANGE = "10.244.1.0/24"
CLUSTER_RANGE = "10.244.0.0/16"
"""Of the pods of all nodes."""
NAMESPACE = "slipway-dev-2"

_CABLE = ("slipway-cable", "eth0")
_CABLE_ADDRESSES = ("10.244.255.1", "10.244.255.2")
# Ours, and those that kube-proxy makes.
_TABLES = (("ip", "slipway-dev"), ("ip", policies.TABLE), ("ip", "kube-proxy"), ("ip6", "kube-proxy"))
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
# Packets between two pods of one bridge pass the rules for packets between networks, too.
_BRIDGED = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
_LINKS = Path("/sys/class/net")


@dataclass(frozen=True)
class Network:
    """Of one node. namespace: its network namespace, empty for the machine's own."""

    address: str
    pod_range: str
    namespace: str = ""

    def enter(self, *command: str) -> list[str]:
        """The command, run inside; the process's id is the command's own."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", *command] if self.namespace else [*command]

    def make_bridge(self, service_range: str) -> None:
        """The node has the bridge's address: on the machine it is there everywhere and nothing outside can reach it."""
        if _fails(*self.enter("ip", "link", "show", BRIDGE)):
            _run(*self.enter("ip", "link", "add", BRIDGE, "type", "bridge"))
        _run(*self.enter("ip", "address", "replace", f"{self.address}/24", "dev", BRIDGE))
        _run(*self.enter("ip", "link", "set", BRIDGE, "up"))
        # The node needs a route before the addresses of Services are translated.
        _run(*self.enter("ip", "route", "replace", service_range, "dev", BRIDGE))


FIRST = Network(NODE_ADDRESS, POD_RANGE)
SECOND = Network(SECOND_ADDRESS, SECOND_POD_RANGE, NAMESPACE)


def up(rules: Path, service_range: str, before: Path) -> None:
    """Make the machine's bridge and load the rules; what the machine's settings were is kept for down()."""
    if not _BRIDGED.exists() and _fails("modprobe", "br_netfilter"):
        raise needs.Missing(f"{_BRIDGED} is missing: NetworkPolicies and Services need the kernel module br_netfilter")
    FIRST.make_bridge(service_range)
    if not before.exists():
        before.write_text(json.dumps({str(setting): setting.read_text().strip() for setting in (_FORWARD, _BRIDGED)}))
    for setting in (_FORWARD, _BRIDGED):
        setting.write_text("1")
    _run("nft", "-f", str(rules))


def up_second(service_range: str) -> None:
    """Make the second node's namespace with its bridge, and plug it in."""
    ours, theirs = _CABLE
    if not Path(f"/run/netns/{NAMESPACE}").exists():
        _run("ip", "netns", "add", NAMESPACE)
    if not (_LINKS / ours).exists():
        _run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", NAMESPACE)
    # /proc/sys/net is that of the reader's namespace.
    _run(*SECOND.enter("sh", "-c", f"echo 1 > {_FORWARD}; echo 1 > {_BRIDGED}"))
    _run(*SECOND.enter("ip", "link", "set", "lo", "up"))
    _run(*SECOND.enter("ip", "address", "replace", f"{_CABLE_ADDRESSES[1]}/30", "dev", theirs))
    _run("ip", "address", "replace", f"{_CABLE_ADDRESSES[0]}/30", "dev", ours)
    SECOND.make_bridge(service_range)
    plug_in()


def plug_in() -> None:
    """Routes go when their interface does, so each plug makes them again."""
    ours, theirs = _CABLE
    _run("ip", "link", "set", ours, "up")
    _run(*SECOND.enter("ip", "link", "set", theirs, "up"))
    _run("ip", "route", "replace", SECOND_POD_RANGE, "via", _CABLE_ADDRESSES[1], "src", NODE_ADDRESS)
    _run(*SECOND.enter("ip", "route", "replace", "default", "via", _CABLE_ADDRESSES[0], "src", SECOND_ADDRESS))


def unplug() -> None:
    """From now on nothing reaches the second node, and it reaches nothing."""
    if (_LINKS / _CABLE[0]).exists():
        _run("ip", "link", "set", _CABLE[0], "down")


def down(before: Path) -> None:
    for family, table in _TABLES:
        subprocess.run(["nft", "delete", "table", family, table], capture_output=True, check=False)
    down_second()
    if (_LINKS / BRIDGE).exists():
        _run("ip", "link", "delete", BRIDGE)
    if before.exists():
        for setting, value in json.loads(before.read_text()).items():
            Path(setting).write_text(value)


def down_second() -> None:
    """The pods' own namespaces must be gone: they hold interfaces of this one."""
    if (_LINKS / _CABLE[0]).exists():
        _run("ip", "link", "delete", _CABLE[0])
    if Path(f"/run/netns/{NAMESPACE}").exists():
        _run("ip", "netns", "delete", NAMESPACE)


def _fails(*command: str) -> bool:
    return shutil.which(command[0]) is None or subprocess.run(command, capture_output=True, check=False).returncode != 0


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
