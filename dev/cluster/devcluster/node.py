"""The node's processes: containerd, kubelet, kube-proxy and CoreDNS."""

import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

from devcluster import binaries, hostfiles, images, network, paths
from devcluster.controlplane import SERVICE_RANGE, ControlPlane
from devcluster.kubectl import Kubectl
from devcluster.process import Process, wait_for

NAME = "slipway-dev"
LABELS = {"accelerator": "fake"}
GPUS = 3


@dataclass(frozen=True)
class Node:
    """Starts them in order; each is started only where it does not run."""

    plane: ControlPlane

    def configure(self) -> None:
        """Render the configuration files and make the bridge."""
        state = self.plane.state
        kubelet = self.plane.authority.server("kubelet", addresses=[network.NODE_ADDRESS], names=[NAME])
        values = {
            "state": state.root,
            "pause_image": images.PAUSE,
            "host_files": hostfiles.HANDLER,
            "bridge": network.BRIDGE,
            "pod_range": network.POD_RANGE,
            "node_address": network.NODE_ADDRESS,
            "ca": self.plane.authority.certificate,
            "kubelet_certificate": kubelet.certificate,
            "kubelet_key": kubelet.key,
            "proxy_kubeconfig": self.plane.kubeconfig_of("system:kube-proxy"),
            "dns_kubeconfig": self.plane.kubeconfig_of("coredns"),
        }
        for template in (paths.SOURCES / "config").iterdir():
            folder = state.config / "cni" if template.suffix == ".conflist" else state.config
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder / template.name, Template(template.read_text()).substitute(values))
        paths.POD_ENVIRONMENT.mkdir(parents=True, exist_ok=True)
        _write(self._config("host-files.json"), hostfiles.base_specification())
        network.up(state.config / "nftables.conf", SERVICE_RANGE, state.root / "ip_forward.before")

    def start_containerd(self) -> Process:
        process = self.plane.process("containerd")
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        process.start(["containerd", f"--config={self._config('containerd.toml')}"], environment={"PATH": path})
        return process

    def import_images(self, containerd: Process) -> None:
        state = self.plane.state
        archive = state.images / "images.tar"
        pause = Path(binaries.program(binaries.PAUSE, "pause"))
        images.write_archive([*images.pod_images(), images.pause_image(pause)], archive)
        command = [
            "ctr",
            f"--address={state.containerd_socket}",
            "--namespace=k8s.io",
            "images",
            "import",
            str(archive),
        ]
        wait_for("containerd", lambda: _succeeds(command), containerd, seconds=30)

    def start_kubelet(self) -> Process:
        labels = ",".join(f"{key}={value}" for key, value in LABELS.items())
        user = self.plane.kubeconfig_of(f"system:node:{NAME}", ["system:nodes"])
        flags = [
            f"--config={self._config('kubelet.yaml')}",
            f"--kubeconfig={user}",
            f"--root-dir={self.plane.state.kubelet}",
            f"--cert-dir={self.plane.state.certificates}",
            f"--hostname-override={NAME}",
            f"--node-ip={network.NODE_ADDRESS}",
            f"--node-labels={labels}",
        ]
        return self._start("kubelet", binaries.KUBERNETES, flags)

    def start_proxy(self) -> Process:
        flags = [f"--config={self._config('kube-proxy.yaml')}", f"--hostname-override={NAME}"]
        return self._start("kube-proxy", binaries.KUBERNETES, flags)

    def start_dns(self) -> Process:
        return self._start("coredns", binaries.COREDNS, [f"-conf={self._config('Corefile')}"])

    def wait(self, kubelet: Process) -> None:
        """Until the node is ready and shows its GPUs."""
        wait_for("the node", self._registered, kubelet, seconds=60)
        # No device plugin: the kubelet carries along what stands in the status.
        amounts = [
            {"op": "add", "path": f"/status/{where}/nvidia.com~1gpu", "value": str(GPUS)}
            for where in ("capacity", "allocatable")
        ]
        self.plane.kubectl(
            "patch", "node", NAME, "--subresource=status", "--type=json", f"--patch={json.dumps(amounts)}"
        )
        wait_for("the node's readiness", self._ready, kubelet, seconds=60)

    def wait_for_services(self, proxy: Process, dns: Process) -> None:
        """Until names and the addresses of Services work."""
        wait_for("kube-proxy", lambda: _answers("127.0.0.1", 10256, "/healthz"), proxy, seconds=30)
        wait_for("CoreDNS", lambda: _answers(network.NODE_ADDRESS, 8181, "/ready"), dns, seconds=30)

    def _start(self, name: str, module: binaries.Module, flags: list[str]) -> Process:
        process = self.plane.process(name)
        process.start([binaries.program(module, name), *flags])
        return process

    def _config(self, name: str) -> Path:
        return self.plane.state.config / name

    def _registered(self) -> bool:
        return self.plane.kubectl.attempt("get", "node", NAME).returncode == 0

    def _ready(self) -> bool:
        conditions = _conditions(self.plane.kubectl)
        return ("Ready", "True") in conditions


def _answers(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _write(file: Path, text: str) -> None:
    """kube-proxy ends when its configuration is written, be it the same."""
    if not file.exists() or file.read_text() != text:
        file.write_text(text)


def _conditions(kubectl: Kubectl) -> Iterator[tuple[str, str]]:
    for node in kubectl.objects("nodes"):
        for condition in node["status"]["conditions"]:
            yield condition["type"], condition["status"]


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
