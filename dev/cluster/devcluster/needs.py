"""What the machine must have: says what is missing and how to get it, and installs what apt can."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping

# The command that shows a package is there, and Debian's package that brings it.
PACKAGES = {
    "etcd": "etcd-server",
    "openssl": "openssl",
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "nft": "nftables",
    "ip": "iproute2",
    "mount": "mount",
    "/usr/bin/python3.11": "python3.11",
    "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0": "libpython3.11",
}
# Go is looked for on PATH, then where its own installer puts it.
GO = ("go", "/usr/local/go/bin/go", "/usr/lib/go/bin/go")


class Missing(SystemExit):
    """Ends the command with what is missing and the cure, exit status 1."""


def root(why: str = "the cluster makes containers, networks and mounts") -> None:
    if os.geteuid() != 0:
        raise Missing(f"{why}, which needs root: run this command by sudo or as root")


def go() -> str:
    """The go command's path."""
    for candidate in GO:
        if found := shutil.which(candidate):
            return found
    raise Missing("Kubernetes is built from source and Go is missing: install Go 1.26 or later from https://go.dev/dl")


def programs(names: Iterable[str] = tuple(PACKAGES), packages: Mapping[str, str] = PACKAGES) -> None:
    """Install the Debian packages of those programs that are missing."""
    missing = sorted(
        packages[name] for name in names if shutil.which(name, path=_search_path()) is None and not os.path.exists(name)
    )
    if not missing:
        return
    listed = " ".join(missing)
    if shutil.which("apt-get") is None:
        raise Missing(f"missing: {listed} (names of Debian packages); install them, there is no apt-get here to do it")
    if os.geteuid() != 0:
        raise Missing(f"missing: run `apt-get install {listed}` as root")
    print(f"installing {listed}", file=sys.stderr, flush=True)
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if subprocess.run(install, env=quiet, stdout=subprocess.DEVNULL, check=False).returncode == 0:
        return
    # A fresh machine knows no packages, or an old list of them.
    subprocess.run(["apt-get", "update", "-q"], stdout=subprocess.DEVNULL, check=True)
    subprocess.run(install, env=quiet, stdout=subprocess.DEVNULL, check=True)


def _search_path() -> str:
    """PATH with the folders of system programs, which a user's own may lack."""
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"
