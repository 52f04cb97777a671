"""Where things lie: the sources, the cache of binaries, the state of a cluster, the environment of its pods."""

import os
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent
REPOSITORY = SOURCES.parent.parent

# What runs inside pods: the same path on the host and, read-only, in every pod of a slipway.local image.
POD_ENVIRONMENT = Path("/opt/slipway")


def cache_dir() -> Path:
    """The folder that outlives clusters and checkouts: $SLIPWAY_CACHE, or ~/.cache/slipway."""
    given = os.environ.get("SLIPWAY_CACHE")
    return Path(given).absolute() if given else Path.home() / ".cache" / "slipway"


def default_state() -> Path:
    return REPOSITORY / "build" / "cluster"


@dataclass(frozen=True)
class State:
    """All files of one cluster; nothing outlives it but the logs."""

    root: Path

    def __post_init__(self) -> None:
        # A Unix socket's path holds at most 107 bytes; this is the longest one below the state folder.
        longest = self.kubelet / "pod-resources" / "kubelet.sock"
        if len(os.fsencode(longest)) > 107:
            raise SystemExit(f"{self.root}: the path is too long for Unix sockets; choose a shorter one by --state")

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def certificates(self) -> Path:
        return self.root / "pki"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def pids(self) -> Path:
        return self.root / "pids"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def etcd(self) -> Path:
        return self.root / "etcd"

    @property
    def kubelet(self) -> Path:
        return self.root / "kubelet"

    @property
    def containerd(self) -> Path:
        return self.root / "containerd"

    @property
    def containerd_socket(self) -> Path:
        return self.root / "containerd.sock"

    @property
    def volume_plugins(self) -> Path:
        """Stays empty; without it Kubernetes makes a folder in /usr."""
        return self.root / "volume-plugins"

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"
