"""Service accounts of a real API server, and kubeconfigs that act as one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from support.apiserver import ApiServer


@dataclass(frozen=True, slots=True)
class Account:
    namespace: str
    name: str

    @property
    def user(self) -> str:
        """As the API server names it."""
        return f"system:serviceaccount:{self.namespace}:{self.name}"

    def kubeconfig(self, server: ApiServer, path: Path, *, url: str = "") -> Path:
        """Writes one with a token of this account, which is made if there is none. url: of a proxy before it."""
        accounts = f"/api/v1/namespaces/{self.namespace}/serviceaccounts"
        server.request("POST", accounts, {"metadata": {"name": self.name}})
        token = server.must("POST", f"{accounts}/{self.name}/token", {"spec": {"expirationSeconds": 7200}})
        config = yaml.safe_load(server.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token["status"]["token"]}
        if url:
            config["clusters"][0]["cluster"]["server"] = url
        path.write_text(yaml.safe_dump(config))
        return path

    def make_administrator(self, server: ApiServer) -> None:
        """It may do everything: for tests that are not about rights."""
        api = "rbac.authorization.k8s.io"
        binding = {
            "metadata": {"name": f"{self.namespace}-{self.name}"},
            "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "namespace": self.namespace, "name": self.name}],
        }
        server.must("POST", f"/apis/{api}/v1/clusterrolebindings", binding)
