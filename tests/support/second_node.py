"""The second node of the development cluster: started for a test, cut off or killed by it, gone afterwards."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from demo.kubectl import Kubectl, Object, is_true
from support.apiserver import ROOT

FIRST, SECOND = "slipway-dev", "slipway-dev-2"
LOST_WITHIN_SECONDS = 40
"""The grace period of dev/cluster is 20 s, from the last renewal of the kubelet's Lease."""


@dataclass(frozen=True, slots=True)
class SecondNode:
    name: str = SECOND

    def start(self) -> None:
        """Or fix: what was cut or killed is whole again when this returns."""
        _node("up")
        self._until_ready(ready=True)

    def cut(self) -> None:
        """Its pods go on, and nobody hears of them. Returns when the cluster has lost it."""
        _node("cut")
        self._until_ready(ready=False)

    def kill(self) -> None:
        """Everything on it ends at once. Returns before the cluster knows."""
        _node("kill")

    def end(self) -> None:
        _node("down")

    def _until_ready(self, *, ready: bool) -> None:
        Kubectl("default").until(
            "node", self.name, lambda node: is_true(node, "Ready") == ready, timeout_seconds=LOST_WITHIN_SECONDS
        )


@contextmanager
def second_node() -> Iterator[SecondNode]:
    node = SecondNode()
    node.start()
    try:
        yield node
    finally:
        node.end()


def small_pod(name: str, node: str, *command: str, **spec: Any) -> Object:
    """Of the runtime image, on that node, within the restricted profile."""
    container = {
        "name": "main",
        "image": "slipway.local/runtime:dev",
        "command": list(command),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        **spec.pop("container", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, **spec.pop("labels", {})}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            **spec,
        },
    }


def _node(action: str) -> None:
    done = subprocess.run(
        [ROOT / "dev" / "cluster" / "node", action], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
