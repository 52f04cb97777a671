"""A replica that ends costs no request of anybody who asks through pinned connections, as those of a Service are.

Two real servers behind the local mode's own Service, which passes a connection on to one pod for as long as it lasts.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from slipway.local.network import Proxy, Target
from slipway.plan.deployment.manifests import EXIT_SECONDS
from slipway.runtime.serving import frontend
from support.clients import Server, four_clients
from support.threads import loop_in_thread
from support.triton import Triton, process_runs, serving

ENDPOINTS_SECONDS = 1
"""What the pods' preStop sleep covers in a cluster; here endpoints change at once."""
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", np.zeros((1, 10), np.float32))]) for _ in requests]
"""
CONFIG = """
backend: "python"
max_batch_size: 8
input [{name: "x" data_type: TYPE_FP32 dims: [28, 28]}]
output [{name: "y" data_type: TYPE_FP32 dims: [10]}]
instance_group [{count: 1 kind: KIND_CPU}]
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    version = tmp_path / "models/zeros/1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(MODEL)
    (version.parent / "config.pbtxt").write_text(CONFIG)
    return tmp_path / "models"


def pinning(live: Sequence[Triton], port: Callable[[Triton], str]) -> Proxy:
    """One port of a Service: each new connection goes to one of those that are live then."""

    async def targets() -> list[Target]:
        return [(host, int(number)) for host, _, number in (port(one).partition(":") for one in live)]

    return Proxy(targets)


@pytest.mark.timeout(180)
def test_no_request_of_any_client_fails_while_a_replica_ends(models: Path, tmp_path: Path):
    pids: list[int] = []
    scratch = [tmp_path / name for name in ("first", "second")]
    for folder in scratch:
        folder.mkdir()
    with (
        serving(models, scratch[0], pids) as first,
        serving(models, scratch[1], pids) as second,
        loop_in_thread() as loop,
    ):
        live = [first, second]
        service = [pinning(live, lambda one: one.http), pinning(live, lambda one: one.grpc)]
        http, grpc = (loop.run(proxy.listen(0)) for proxy in service)
        with four_clients(Server(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", "zeros")) as tallies:
            time.sleep(frontend.MAX_CONNECTION_SECONDS / 2)
            live.remove(first)
            time.sleep(ENDPOINTS_SECONDS)
            os.kill(pids[0], signal.SIGTERM)
            began = time.monotonic()
            while process_runs(pids[0]):
                time.sleep(0.1)
            took = time.monotonic() - began
            time.sleep(1)
        for proxy in service:
            loop.run(proxy.close())
    assert {name: tally.failures for name, tally in tallies.items()} == {name: [] for name in tallies}
    assert min(tally.answered for tally in tallies.values()) > 20
    assert took < 1.1 * frontend.MAX_CONNECTION_SECONDS + EXIT_SECONDS
