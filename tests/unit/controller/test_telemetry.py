"""What the kubelet and Prometheus are answered, and where."""

from __future__ import annotations

import socket

import aiohttp
import pytest

from slipway.controller.operator import Options
from slipway.controller.telemetry import Telemetry, serve_endpoints
from support.builders import SETTINGS
from support.servers import free_ports

LOOPBACKS = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}


def has(address: str) -> bool:
    """Return True if this machine has that address: the kubelet asks at those that the pod has."""
    try:
        with socket.socket(LOOPBACKS[address]) as tried:
            tried.bind((address, 0))
    except OSError:
        return False
    return True


async def answers(address: str, port: int, path: str) -> tuple[int, str]:
    host = f"[{address}]" if ":" in address else address
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}{path}") as response:
        return response.status, await response.text()


@pytest.mark.parametrize("ready", [True, False])
async def test_probes_and_metrics_are_answered_at_every_address_of_the_pod(ready: bool) -> None:
    health, metrics = free_ports(2)
    host = Options(SETTINGS).host
    async with serve_endpoints(
        Telemetry("api", "lease"), lambda: ready, host=host, metrics_port=metrics, health_port=health
    ):
        for address in filter(has, LOOPBACKS):
            assert await answers(address, health, "/healthz") == (200, "ok")
            assert (await answers(address, health, "/readyz"))[0] == (200 if ready else 503)
            assert "workqueue_depth" in (await answers(address, metrics, "/metrics"))[1]
