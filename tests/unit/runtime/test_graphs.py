"""Comparison of this processor's int8 kernels with exact arithmetic."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from slipway.runtime import graphs
from support.graphs import identity_graph, mlp_graph, saturating

ROWS = np.random.default_rng(0).random((64, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def _asked_again() -> Iterator[None]:
    graphs.int8_saturates.cache_clear()
    yield
    graphs.int8_saturates.cache_clear()


def test_the_probe_agrees_with_the_flags_of_the_processor():
    flags = Path("/proc/cpuinfo").read_text(errors="replace")
    exact = platform.machine() not in ("x86_64", "AMD64") or any(
        flag in flags for flag in ("avx512_vnni", "avx_vnni", "avx_vnni_int8")
    )
    assert graphs.int8_saturates() is not exact


def test_sums_of_16_bits_are_found_to_saturate(monkeypatch: pytest.MonkeyPatch):
    def pairs_in_16_bits(_session: Any, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        return [saturating(inputs["x"], np.full((inputs["x"].shape[1], 1), 127, np.int8))]

    monkeypatch.setattr(graphs, "run_session", pairs_in_16_bits)
    assert graphs.int8_saturates()


def test_a_graph_without_integers_agrees_with_itself():
    assert graphs.kernel_error(identity_graph(), ROWS) == 0


@pytest.mark.parametrize(
    ("saturates", "differs"), [(False, "fused"), (True, "precise")], ids=["any kernel", "a kernel that saturates"]
)
def test_the_error_is_the_share_by_which_the_outputs_differ(
    monkeypatch: pytest.MonkeyPatch, saturates: bool, differs: str
):
    """The kernels of this processor answer three times what exact ones do."""
    wrong = mlp_graph([(3 * np.eye(3, dtype=np.float32), np.zeros(3, np.float32))], (3,))
    real = graphs.open_session

    def opened(graph: bytes, *, fused: bool = True, precise: bool = False) -> Any:
        asked = {"fused": not fused, "precise": precise}
        return real(graph if asked[differs] else wrong)

    monkeypatch.setattr(graphs, "int8_saturates", lambda: saturates)
    monkeypatch.setattr(graphs, "open_session", opened)
    assert graphs.kernel_error(identity_graph(), ROWS) == pytest.approx(0.5)  # (3x - x) / (3x + x)


def test_an_output_of_nan_is_an_error_unless_exact_sums_give_it_too(monkeypatch: pytest.MonkeyPatch):
    rows = ROWS.copy()
    rows[0] = np.nan
    assert graphs.kernel_error(identity_graph(), rows) == 0
    answers = iter([[rows], [np.zeros_like(rows)]])
    monkeypatch.setattr(graphs, "run_session", lambda *_: next(answers))
    monkeypatch.setattr(graphs, "int8_saturates", lambda: False)
    assert graphs.kernel_error(identity_graph(), rows) == 1
