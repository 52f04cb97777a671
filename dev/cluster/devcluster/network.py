"""The host's side of the pods' network: one bridge, whose address is the node's, and one nftables table."""

import subprocess
from pathlib import Path

BRIDGE = "slipway0"
NODE_ADDRESS = "10.244.0.1"
POD_RANGE = "10.244.0.0/24"
# Ours, and those that kube-proxy makes.
_TABLES = (("ip", "slipway-dev"), ("ip", "kube-proxy"), ("ip6", "kube-proxy"))
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


def up(rules: Path, service_range: str, forward_before: Path) -> None:
    """Make the bridge and load the rules; what ip_forward was is kept for down().

    The node has the bridge's address: it is there on every machine and nothing outside can reach it.
    """
    if not Path(f"/sys/class/net/{BRIDGE}").exists():
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
    _run("ip", "address", "replace", f"{NODE_ADDRESS}/24", "dev", BRIDGE)
    _run("ip", "link", "set", BRIDGE, "up")
    # The host needs a route before the addresses of Services are translated.
    _run("ip", "route", "replace", service_range, "dev", BRIDGE)
    if not forward_before.exists():
        forward_before.write_text(_FORWARD.read_text())
    _FORWARD.write_text("1")
    _run("nft", "-f", str(rules))


def down(forward_before: Path) -> None:
    for family, table in _TABLES:
        subprocess.run(["nft", "delete", "table", family, table], capture_output=True, check=False)
    if Path(f"/sys/class/net/{BRIDGE}").exists():
        _run("ip", "link", "delete", BRIDGE)
    if forward_before.exists():
        _FORWARD.write_text(forward_before.read_text())


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
