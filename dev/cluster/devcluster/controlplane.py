"""etcd, the API server and its controllers: the half of a cluster that needs no root."""

import http.client
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devcluster import binaries, needs
from devcluster.certs import Authority
from devcluster.kubectl import Kubectl
from devcluster.paths import State
from devcluster.process import Process, wait_for

SERVICE_RANGE = "10.96.0.0/16"
_FIRST_SERVICE = "10.96.0.1"


@dataclass(frozen=True)
class Addresses:
    """Where the control plane listens."""

    host: str
    api_port: int
    etcd_port: int
    etcd_peer_port: int

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.api_port}"


@dataclass(frozen=True)
class ControlPlane:
    """Starts its processes in order and waits until each answers."""

    state: State
    addresses: Addresses
    die_with_us: bool = False

    @property
    def authority(self) -> Authority:
        return Authority(self.state.certificates)

    @property
    def kubectl(self) -> Kubectl:
        """kubectl as the administrator."""
        return Kubectl(self.state.kubeconfig)

    def process(self, name: str) -> Process:
        return Process(name, self.state.pids / name, self.state.logs / f"{name}.log")

    def credentials(self) -> None:
        """Make the authority and the administrator's kubeconfig."""
        self.state.root.mkdir(parents=True, exist_ok=True)
        self.authority.create()
        administrator = self.authority.client("slipway-dev-admin", groups=["system:masters"])
        self.authority.kubeconfig(self.addresses.url, administrator, self.state.kubeconfig)

    def kubeconfig_of(self, user: str, groups: Sequence[str] = ()) -> Path:
        """The kubeconfig of a component."""
        output = self.state.config / f"{user.replace(':', '-')}.kubeconfig"
        return self.authority.kubeconfig(self.addresses.url, self.authority.client(user, groups=groups), output)

    def start_etcd(self) -> Process:
        client = f"http://127.0.0.1:{self.addresses.etcd_port}"
        peer = f"http://127.0.0.1:{self.addresses.etcd_peer_port}"
        flags = {
            "name": "slipway-dev",
            "data-dir": self.state.etcd,
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"slipway-dev={peer}",
            "log-level": "warn",
            # The data of a cluster to be thrown away need not survive a power cut.
            "unsafe-no-fsync": "true",
        }
        etcd = self.process("etcd")
        etcd.start(["etcd", *render_flags(flags)], die_with_us=self.die_with_us)
        return etcd

    def start_apiserver(self, extra: Sequence[str] = ()) -> Process:
        process = self.process("kube-apiserver")
        command = [
            binaries.program(binaries.KUBERNETES, "kube-apiserver"),
            *render_flags(self._apiserver_flags()),
            *extra,
        ]
        process.start(command, die_with_us=self.die_with_us)
        return process

    def wait_for_apiserver(self, process: Process) -> None:
        wait_for("the API server", self._ready, process, seconds=60)

    def wait_for_controllers(self, process: Process) -> None:
        """Until the namespace "default" has its account, without which no pod is admitted."""
        account = ("get", "serviceaccount", "default", "--namespace=default")
        wait_for("the controllers", lambda: self.kubectl.attempt(*account).returncode == 0, process, seconds=60)

    def start_controller_manager(self) -> Process:
        keys = self.authority
        flags = {
            "kubeconfig": self.kubeconfig_of("system:kube-controller-manager"),
            "use-service-account-credentials": "true",
            "service-account-private-key-file": keys.signing_key("service-accounts"),
            "root-ca-file": keys.certificate,
            "cluster-signing-cert-file": keys.certificate,
            "cluster-signing-key-file": keys.certificate.with_suffix(".key"),
            "flex-volume-plugin-dir": self.state.volume_plugins,
            "leader-elect": "false",
            "secure-port": "0",
            # Sooner than by default (50 s): kubelets renew their Leases every 2 s (config/kubelet.yaml).
            "node-monitor-period": "1s",
            "node-monitor-grace-period": "20s",
            # The first look at a new claim may come too early to see the volumes; the next one comes soon.
            "pvclaimbinder-sync-period": "1s",
        }
        return self._start_controller("kube-controller-manager", flags)

    def start_scheduler(self) -> Process:
        flags = {
            "kubeconfig": self.kubeconfig_of("system:kube-scheduler"),
            "leader-elect": "false",
            "secure-port": "0",
        }
        return self._start_controller("kube-scheduler", flags)

    def _start_controller(self, name: str, flags: dict[str, object]) -> Process:
        process = self.process(name)
        command = [binaries.program(binaries.KUBERNETES, name), *render_flags(flags)]
        process.start(command, die_with_us=self.die_with_us)
        return process

    def _apiserver_flags(self) -> dict[str, object]:
        keys, host = self.authority, self.addresses.host
        names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        serving = keys.server("kube-apiserver", addresses=["127.0.0.1", _FIRST_SERVICE, host], names=names)
        to_kubelet = keys.client("kube-apiserver-kubelet-client", groups=["system:masters"])
        tokens = keys.signing_key("service-accounts")
        flags: dict[str, object] = {
            "etcd-servers": f"http://127.0.0.1:{self.addresses.etcd_port}",
            "bind-address": host,
            "advertise-address": host,
            "secure-port": self.addresses.api_port,
            "service-cluster-ip-range": SERVICE_RANGE,
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "client-ca-file": keys.certificate,
            "tls-cert-file": serving.certificate,
            "tls-private-key-file": serving.key,
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": tokens,
            "service-account-signing-key-file": tokens,
            "kubelet-client-certificate": to_kubelet.certificate,
            "kubelet-client-key": to_kubelet.key,
            "kubelet-certificate-authority": keys.certificate,
            "kubelet-preferred-address-types": "InternalIP",
            "allow-privileged": "true",
            # Webhooks reach pods by their own addresses: kube-proxy need not have caught up.
            "enable-aggregator-routing": "true",
        }
        if host.startswith("127."):
            # The Service "kubernetes" can have no loopback endpoint.
            flags["endpoint-reconciler-type"] = "none"
        return flags

    def _ready(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        connection = http.client.HTTPSConnection(
            self.addresses.host, self.addresses.api_port, timeout=5, context=context
        )
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def require_programs() -> None:
    """What this half takes from Debian."""
    needs.programs(["etcd", "openssl"])


def render_flags(flags: dict[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]
