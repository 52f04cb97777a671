"""A fresh kube-apiserver and etcd whose audit log tells what each user wrote."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.audit import AuditLog
from devcluster.certs import Authority
from devcluster.paths import State
from support.apiserver import ApiServer, connect, install_crds, running

OPERATOR = "slipway-operator"
BARE = "bare-client"

_NEVER_FULL = 1_000_000  # MB; at 100, the default, the log is moved away while it is read

# Both clients of a ratio pay for the same log.
_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "resources": [{"group": "coordination.k8s.io"}]},
        {"level": "None", "verbs": ["get", "list", "watch"]},
        {"level": "Request", "users": [OPERATOR, BARE]},
        {"level": "None"},
    ],
}


@dataclass(frozen=True)
class Server:
    """admin: the administrator's connection. kubeconfigs: by user."""

    admin: ApiServer
    kubeconfigs: dict[str, Path]
    audit: AuditLog

    def connection(self, user: str) -> ApiServer:
        return connect(self.kubeconfigs[user])


@contextmanager
def audited_server() -> Iterator[Server]:
    """Ends with the block. No controllers: whoever measures makes pods and ends Jobs."""
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        root = Path(folder)
        policy, log = root / "policy.yaml", root / "audit.log"
        policy.write_text(json.dumps(_POLICY))
        flags = ("--", f"--audit-policy-file={policy}", f"--audit-log-path={log}", f"--audit-log-maxsize={_NEVER_FULL}")
        with running("--state", str(root / "state"), *flags) as admin:
            install_crds(admin)
            authority = Authority(State(root / "state").certificates)
            kubeconfigs = {
                user: authority.kubeconfig(
                    admin.url, authority.client(user, groups=["system:masters"]), root / f"{user}.kubeconfig"
                )
                for user in (OPERATOR, BARE)
            }
            yield Server(admin, kubeconfigs, AuditLog(log))
