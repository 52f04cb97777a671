"""The startup probe, against answers that a server might give."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slipway.runtime.serving import probe

GOLDEN = {
    "model": "digits",
    "tolerance": 1e-4,
    "requests": [
        {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [0.5, 1.0]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [0.1, 0.9, 0.7, 0.3]}],
        }
    ],
}


def reason(*outputs: dict[str, Any]) -> str | None:
    return probe.check(GOLDEN, lambda _body: {"outputs": list(outputs)})


def output(data: list[Any], name: str = "y") -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": [2, 2], "data": data}


def test_answers_within_the_tolerance_pass():
    assert reason(output([0.10009, 0.9, 0.7, 0.29995])) is None


def test_the_golden_inputs_are_what_is_asked():
    asked: list[Any] = []
    probe.check(GOLDEN, lambda body: asked.append(body) or {})  # type: ignore[func-returns-value]
    assert asked == [{"inputs": GOLDEN["requests"][0]["inputs"]}]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ([], "output y is missing"),
        ([output([0.1, 0.9, 0.7, 0.3], name="z")], "output y is missing"),
        ([output([])], "output y has 0 values, not 4"),
        ([{"name": "y"}], "output y has 0 values, not 4"),
        ([output([0.1, 0.9, 0.7, 0.3002])], "output y has 1 of 4 values off by more than 0.0001: 0.3002 for 0.3"),
        ([output([0.1, float("nan"), 0.7, 0.3])], "output y has 1 of 4 values off by more than 0.0001: nan for 0.9"),
        ([output([0.1, None, 0.7, 0.3])], "output y has 1 of 4 values off by more than 0.0001: None for 0.9"),
    ],
    ids=["nothing", "another name", "empty", "no data", "a value off", "NaN", "null"],
)
def test_other_answers_fail_with_the_reason(answer: list[dict[str, Any]], why: str):
    assert reason(*answer) == f"golden request 0: {why}"


def test_another_class_fails_although_the_values_are_near():
    close = {"name": "y", "shape": [1, 2], "data": [0.50004, 0.5]}
    assert probe.difference(close, output([0.5, 0.50004]), 1e-4) == "output y has other classes"


def test_it_runs_on_the_standard_library_and_reports_a_missing_answer_in_one_line(tmp_path: Path):
    (tmp_path / "probe.py").write_text(Path(probe.__file__).read_text())
    (tmp_path / "requests.json").write_text('{"model": "digits", "tolerance": 0.1, "requests": [{"inputs": []}]}')
    with socket.socket() as taken:  # bound and not listening: a connection is refused
        taken.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{taken.getsockname()[1]}"
        command = [sys.executable, "-I", "-S", tmp_path / "probe.py", server]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith(f"no answer from {server}: ")
    assert done.stdout.count("\n") == 1
    assert not done.stderr
