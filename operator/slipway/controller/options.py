"""What the operator process is started with."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import uuid4

from slipway.plan.plan import Settings

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def own_namespace() -> str:
    """The namespace that this process runs in; `default` outside a cluster."""
    if namespace := os.environ.get("POD_NAMESPACE"):
        return namespace
    return NAMESPACE_FILE.read_text().strip() if NAMESPACE_FILE.exists() else "default"


def own_identity() -> str:
    """Who holds the Lease: the pod or host, and which start of it (a restarted pod keeps its name)."""
    return f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid4().hex[:8]}"


@dataclass(frozen=True, slots=True)
class Options:
    """One operator process.

    namespaces: to serve; none means all. workers: resources that are reconciled at the same time.
    host: the address that probes and metrics are answered at; None for all of the pod, of IPv6 as well.
    defaults: a folder of manifests (*.yaml) that the leader applies (see defaults.py); None for none.
    resync_seconds: how often what is known is compared with what the API server lists.
    revisit_seconds: how often objects are read that stand in our way or lost our label, which no watch shows.
    """

    settings: Settings
    namespaces: tuple[str, ...] = ()
    workers: int = 8
    elect: bool = True
    lease_namespace: str = field(default_factory=own_namespace)
    lease_name: str = "slipway-operator"
    identity: str = field(default_factory=own_identity)
    host: str | None = None
    metrics_port: int = 9090
    health_port: int = 8080
    log_format: Literal["json", "console"] = "json"
    log_level: str = "info"
    defaults: Path | None = None
    resync_seconds: float = 600.0
    revisit_seconds: float = 30.0
