"""How to reach the Triton of a ModelDeployment: its Service, or a port forwarded to one of its pods."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from slipway.api.kinds import POD, SERVICE, Key, Object
from slipway.cli.access import Access
from slipway.cli.exits import UNAVAILABLE, CommandError
from slipway.cli.portforward import forwarded
from slipway.cli.summary import reference, summary

CONNECT_SECONDS = 1.0
PORTS = {"http": 8000, "grpc": 8001}


class Endpoint(NamedTuple):
    """Where requests go. address: host:port; via: in words."""

    address: str
    via: str


@asynccontextmanager
async def reach(way: Access, deployment: Object, protocol: str) -> AsyncIterator[Endpoint]:
    """The Service where this machine can connect to it, else a port forwarded to a ready pod.

    Raises CommandError where nothing serves.
    """
    name = service_name(deployment)
    service = await way.cluster.get(Key(SERVICE, way.namespace, name))
    port = _port(service, protocol)
    inside = "KUBERNETES_SERVICE_HOST" in os.environ
    outer = str(service["spec"].get("clusterIP") or "None")
    host = _host(deployment["status"]["url"], deployment) if inside else outer
    if host != "None" and await _connects(host, port["port"]):
        yield Endpoint(f"{host}:{port['port']}", f"service {name}")
        return
    pods = await way.cluster.list(POD, way.namespace, service["spec"].get("selector") or {})
    pod = next((pod for pod in pods if is_ready(pod)), None)
    if pod is None:
        raise CommandError(f"service {name} has no ready pod", UNAVAILABLE)
    target = container_port(pod, port)
    async with (
        way.session() as session,
        forwarded(session, way.connection.host, way.namespace, pod["metadata"]["name"], target) as address,
    ):
        yield Endpoint(address, f"port-forward to pod {pod['metadata']['name']}")


def service_name(deployment: Object) -> str:
    """The Service that status.url leads to. Raises CommandError where nothing serves."""
    url = deployment.get("status", {}).get("url")
    if not url:
        phase, _, wrong = summary(deployment)
        raise CommandError(f"{reference(deployment)} serves nothing yet ({phase}{f', {wrong}' if wrong else ''})")
    return _host(url, deployment).partition(".")[0]


def _host(url: str, deployment: Object) -> str:
    try:
        return str(urlsplit(url).hostname)
    except ValueError as error:
        raise CommandError(f"{reference(deployment)}: status.url: {url!r} is no address: {error}") from error


def is_ready(pod: Object) -> bool:
    conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", ())}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def container_port(pod: Object, port: Object) -> int:
    """The number behind a Service port, whose targetPort may be a container port's name. Raises CommandError."""
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    ports: Sequence[Object] = [p for c in pod["spec"]["containers"] for p in c.get("ports", ())]
    found = next((p["containerPort"] for p in ports if p.get("name") == target), None)
    if found is None:
        raise CommandError(f"pod {pod['metadata']['name']} has no port named {target!r}", UNAVAILABLE)
    return int(found)


def _port(service: Object, protocol: str) -> Object:
    ports: Sequence[Object] = service["spec"].get("ports") or ()
    found = next((p for p in ports if p.get("name") == protocol or p["port"] == PORTS[protocol]), None)
    if found is None:
        raise CommandError(f"service {service['metadata']['name']} has no port for {protocol}", UNAVAILABLE)
    return found


async def _connects(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
