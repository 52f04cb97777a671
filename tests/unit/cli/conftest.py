"""The command, run against a server that answers as a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from slipway.cli.connections import logs as connection_logs
from slipway.cli.main import app
from slipway.cli.rendering import details
from support.kubehttp import KubeHttp


@pytest.fixture
def slipway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """`slipway(server, "status", ...)`; None for no server and no kubeconfig."""
    for module in (details, connection_logs):
        monkeypatch.setattr(module, "EVERY_SECONDS", 0.01)
    with ExitStack() as stack:

        def run(server: KubeHttp | None, *words: str) -> Result:
            path = stack.enter_context(server.serving(tmp_path)) if server else str(tmp_path / "none")
            monkeypatch.setenv("KUBECONFIG", path)
            return CliRunner().invoke(app, list(words))

        yield run
