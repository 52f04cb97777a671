"""A node's processes: containerd, kubelet and kube-proxy; the first one has CoreDNS as well."""

import http.client
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template

from devcluster import binaries, hostfiles, images, leftovers, network, paths, policies
from devcluster.controlplane import SERVICE_RANGE, ControlPlane
from devcluster.network import FIRST, Network
from devcluster.paths import State
from devcluster.process import Process, wait_for

NAMES = ("slipway-dev", "slipway-dev-2")
LABELS = {"accelerator": "fake"}
GPUS = 3
CGROUP_OF_THE_SECOND = "slipway-dev-2"


@dataclass(frozen=True)
class Node:
    """Starts them in order; each is started only where it does not run."""

    plane: ControlPlane
    name: str = NAMES[0]
    network: Network = FIRST

    @property
    def state(self) -> State:
        """Its own files; certificates, logs and pidfiles are with those of the cluster."""
        return self.plane.state if self.name == NAMES[0] else State(self.plane.state.root / "node2")

    def process(self, name: str) -> Process:
        return self.plane.process(name if self.name == NAMES[0] else f"{name}-2")

    def configure(self) -> None:
        """Render the configuration files."""
        state, authority = self.state, self.plane.authority
        of_the_second = "" if self.name == NAMES[0] else "-2"
        kubelet = authority.server(f"kubelet{of_the_second}", addresses=[self.network.address], names=[self.name])
        values = {
            "state": state.root,
            "pause_image": images.PAUSE,
            "host_files": hostfiles.HANDLER,
            "bridge": network.BRIDGE,
            "pod_range": self.network.pod_range,
            "cluster_range": network.CLUSTER_RANGE,
            "node_address": self.network.address,
            "dns_address": network.NODE_ADDRESS,
            "cgroup_root": f"/{CGROUP_OF_THE_SECOND}" if of_the_second else "/",
            "ca": authority.certificate,
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

    def connect(self) -> None:
        """Make the node's network."""
        if self.name == NAMES[0]:
            network.up(self._config("nftables.conf"), SERVICE_RANGE, self.state.root / "settings.before")
            return
        network.up_second(SERVICE_RANGE)
        for top in leftovers.control_groups():
            (top / CGROUP_OF_THE_SECOND).mkdir(exist_ok=True)

    def start_containerd(self) -> Process:
        process = self.process("containerd")
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        command = self.network.enter("containerd", f"--config={self._config('containerd.toml')}")
        process.start(command, environment={"PATH": path})
        return process

    def import_images(self, containerd: Process) -> None:
        state = self.state
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
        user = self.plane.kubeconfig_of(f"system:node:{self.name}", ["system:nodes"])
        flags = [
            f"--config={self._config('kubelet.yaml')}",
            f"--kubeconfig={user}",
            f"--root-dir={self.state.kubelet}",
            f"--cert-dir={self.plane.state.certificates}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.network.address}",
            f"--node-labels={labels}",
        ]
        return self._start("kubelet", binaries.KUBERNETES, flags)

    def start_proxy(self) -> Process:
        flags = [f"--config={self._config('kube-proxy.yaml')}", f"--hostname-override={self.name}"]
        return self._start("kube-proxy", binaries.KUBERNETES, flags)

    def start_enforcer(self) -> Process:
        """Of NetworkPolicies."""
        authority = self.plane.authority
        user = authority.client("network-policies")
        process = self.process("network-policies")
        flags = [
            f"--server={self.plane.addresses.url}",
            f"--ca={authority.certificate}",
            f"--certificate={user.certificate}",
            f"--key={user.key}",
        ]
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        environment = {"PYTHONPATH": str(paths.SOURCES), "PATH": path}
        process.start(self.network.enter(sys.executable, "-m", "devcluster.enforcer", *flags), environment=environment)
        return process

    def start_dns(self) -> Process:
        return self._start("coredns", binaries.COREDNS, [f"-conf={self._config('Corefile')}"])

    def wait(self, kubelet: Process) -> None:
        """Until the node is ready and shows its GPUs."""
        wait_for(f"node {self.name}", self._registered, kubelet, seconds=60)
        # No device plugin: the kubelet carries along what stands in the status.
        amounts = [
            {"op": "add", "path": f"/status/{where}/nvidia.com~1gpu", "value": str(GPUS)}
            for where in ("capacity", "allocatable")
        ]
        self.plane.kubectl(
            "patch", "node", self.name, "--subresource=status", "--type=json", f"--patch={json.dumps(amounts)}"
        )
        wait_for(f"readiness of node {self.name}", self._ready, kubelet, seconds=60)

    def wait_for_enforcer(self, enforcer: Process) -> None:
        """Until the NetworkPolicies that there are hold."""
        table = self.network.enter("nft", "list", "table", "ip", policies.TABLE)
        wait_for("NetworkPolicies", lambda: _succeeds(table), enforcer, seconds=30)

    def wait_for_services(self, proxy: Process, dns: Process) -> None:
        """Until names and the addresses of Services work."""
        wait_for("kube-proxy", lambda: _answers("127.0.0.1", 10256, "/healthz"), proxy, seconds=30)
        wait_for("CoreDNS", lambda: _answers(network.NODE_ADDRESS, 8181, "/ready"), dns, seconds=30)

    def _start(self, name: str, module: binaries.Module, flags: list[str]) -> Process:
        process = self.process(name)
        process.start(self.network.enter(binaries.program(module, name), *flags))
        return process

    def _config(self, name: str) -> Path:
        return self.state.config / name

    def _registered(self) -> bool:
        return self.plane.kubectl.attempt("get", "node", self.name).returncode == 0

    def _ready(self) -> bool:
        conditions = json.loads(self.plane.kubectl("get", "node", self.name, "--output=json"))["status"]["conditions"]
        return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)


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


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0
