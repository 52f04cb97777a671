"""Builds the Go modules of this folder into the cache, once for each content of their files."""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devcluster import needs, paths

KUBERNETES_VERSION = "v1.37.2"
HELM_VERSION = "v4.3.1"


@dataclass(frozen=True)
class Module:
    """A Go module: which packages become which binary, and by which other names that binary is called."""

    name: str
    packages: dict[str, str]
    names: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def sources(self) -> Path:
        return paths.SOURCES / self.name

    def digest(self) -> str:
        """Changes with whatever changes the binary, but for the Go release."""
        content = hashlib.sha256(repr(self).encode())
        for file in sorted(self.sources.iterdir()):
            content.update(file.name.encode() + b"\0" + file.read_bytes())
        return content.hexdigest()[:12]

    def folder(self) -> Path:
        return paths.cache_dir() / "bin" / f"{self.name}-{self.digest()}"


def _kubernetes_variables() -> tuple[tuple[str, str], ...]:
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    version = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return tuple((f"{package}.{name}", value) for package in packages for name, value in version.items())


KUBERNETES = Module(
    "kubernetes",
    packages={"kubernetes": "."},
    names=("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"),
    variables=_kubernetes_variables(),
)
COREDNS = Module("coredns", packages={"coredns": "."})
PAUSE = Module("pause", packages={"pause": "."})
TOOLS = Module(
    "tools",
    packages={"helm": "helm.sh/helm/v4/cmd/helm", "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform"},
    variables=(("helm.sh/helm/v4/internal/version.version", HELM_VERSION),),
)
VERDICTS = Module("verdicts", packages={"verdicts": "."})
MODULES = (KUBERNETES, COREDNS, PAUSE, TOOLS, VERDICTS)


def build(module: Module) -> Path:
    """The folder with the module's binaries, built first where the cache lacks it (Kubernetes: about 8 minutes)."""
    folder = module.folder()
    if folder.exists():
        return folder
    go = needs.go()
    with locked(folder.with_suffix(".lock")):
        if folder.exists():
            return folder
        print(f"building {module.name} into {folder}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
            made = Path(scratch) / "bin"
            made.mkdir()
            for binary, package in module.packages.items():
                _compile(go, module, package, made / binary)
            for name in module.names:
                (made / name).symlink_to(next(iter(module.packages)))
            made.rename(folder)
    return folder


def program(module: Module, name: str) -> str:
    return str(build(module) / name)


def _compile(go: str, module: Module, package: str, output: Path) -> None:
    flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in module.variables)])
    command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", str(output), package]
    if nice := shutil.which("nice"):
        command = [nice, "-n", "5", *command]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
    subprocess.run(command, cwd=module.sources, env=environment, check=True)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Keeps a second build of the same thing waiting."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what the cache lacks and print where each binary is."""
    known = {name: module for module in MODULES for name in (*module.packages, *module.names)}
    parser = argparse.ArgumentParser(prog="build", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these: " + ", ".join(known))
    names = parser.parse_args(arguments).names
    if unknown := [name for name in names if name not in known]:
        parser.error(f"{unknown[0]}: not built here; one of {', '.join(known)} is")
    for name in names or known:
        print(program(known[name], name))
    return 0
