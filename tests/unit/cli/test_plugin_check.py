"""`slipway plugin check` on plugins of any origin, in processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from slipway.cli.commands import plugin
from slipway.cli.main import app
from slipway.local.plugin_check import run_python, run_twice
from slipway.sdk.manifest import ONNX_FILE
from slipway.sdk.plugin import GROUP
from support.examples import describe
from support.graphs import content_of, identity_graph
from support.local_runs import until
from support.stores import put

PLUGINS = """
import numpy
from pydantic import BaseModel, ConfigDict, Field
from slipway.sdk import State

class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")
    scale: float = Field(default=0.5, description="Of the noise.")

class Noisy:
    name, version, description = "noisy", "1.0.0", "Adds noise to the weights, with a generator of its own."
    consumes = produces = State.ONNX
    conversion = needs_data = False
    params = Params

    def run(self, model, params, context):
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(str(model.file("model.onnx")))
        for tensor in graph.graph.initializer:
            array = numpy_helper.to_array(tensor)
            noise = numpy.random.default_rng().standard_normal(array.shape).astype(array.dtype) * params.scale
            tensor.CopyFrom(numpy_helper.from_array(array + noise, tensor.name))
        return context.write_onnx(graph.SerializeToString())

class Told(BaseModel):
    model_config = ConfigDict(extra="forbid")
    prompt: str = Field(default="", max_length=1000000, description="Anything.")

class Wordy(Noisy):
    name, params = "wordy", Told

    def run(self, model, params, context):
        from slipway.sdk import PluginError

        raise PluginError(f"a prompt of {len(params.prompt)} characters")

class Waiting(Noisy):
    name = "waiting"

    def run(self, model, params, context):
        import os, pathlib, subprocess, sys

        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        pathlib.Path(os.environ["TOLD"], f"{os.getpid()}-{child.pid}").touch()
        child.wait()
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution with these plugins, on the path of this process and of those that it starts."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "strange_plugins.py").write_text(PLUGINS)
    points = {name: f"strange_plugins:{name.title()}" for name in ("noisy", "waiting", "wordy")}
    describe(folder, "strange-plugins", "1.0.0", {GROUP: {**points, "shattered": "strange_plugins:Nowhere"}})
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.delitem(sys.modules, "strange_plugins", raising=False)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    put(tmp_path, "model", content_of((3,), 3), {ONNX_FILE: identity_graph()})
    return tmp_path / "model/artifact"


def check(*words: str) -> Result:
    return CliRunner().invoke(app, ["plugin", "check", *words])


@pytest.mark.usefixtures("installed")
def test_chance_without_the_seed_a_missing_bound_and_a_heavy_import_are_failures_in_one_run(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    result = check("noisy", "--model", str(model), "-o", "json")
    assert result.exit_code == 1, result.output
    found = {one["check"]: one for one in json.loads(result.stdout)}
    assert {check for check, one in found.items() if one["level"] == "fail"} == {"bounds", "import", "model: same seed"}
    assert found["bounds"]["what"] == "scale has no lower bound; scale has no upper bound"
    assert found["import"]["what"] == "importing its module imports numpy"
    assert found["model: same seed"]["what"] == "the same seed gave another result: model.onnx differs"
    assert found["model: size"]["level"] == "warn"
    assert all(one["cure"] for one in found.values() if one["level"] != "ok")
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nonesuch"], 3, 'plugin "nonesuch" is not installed; installed: '),
        (["shattered"], 1, "plugin shattered (strange_plugins:Nowhere): AttributeError"),
        (["noisy", "--param", "scale"], 2, "--param scale: write NAME=VALUE"),
        (["noisy", "--param", "scale=[1"], 2, "--param scale=[1: '[1' is not YAML"),
        (["noisy", "--param", "scale=1", "--param", "scale.of=2"], 2, "--param scale.of=2: scale already has a value"),
        (["noisy", "--param", "scale=much"], 2, "--param: plugin 'noisy' 1.0.0: params.scale: Input should be"),
        (["noisy", "--param", "scales=1"], 2, "params.scales: Extra inputs are not permitted"),
        (["noisy", "--model", "/nowhere"], 3, "--model: there is no artifact at /nowhere; use the folder that holds"),
        (["noisy", "--data", "/nowhere"], 2, "--data needs --model"),
        (["prune-structured", "--model", "MODEL"], 2, "its state is onnx, and plugin prune-structured needs module"),
        (["quantize-int8", "--model", "MODEL"], 2, "takes [(3,)], not digits of [28, 28]; add --data"),
        (["noisy", "--model", "MODEL", "--data", "MODEL"], 2, "its state is onnx, not a data set"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_tried_is_one_line_before_anything_runs(
    model: Path, words: list[str], code: int, said: str
) -> None:
    result = check(*(str(model) if word == "MODEL" else word for word in words))
    assert result.exit_code == code
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert result.stdout == ""


@pytest.mark.usefixtures("installed")
def test_parameters_may_be_longer_than_an_argument_of_a_process(model: Path) -> None:
    result = check("wordy", "--model", str(model), "--param", f"prompt={'x' * 200_000}")
    assert "a prompt of 200000 characters" in result.output


@pytest.mark.usefixtures("installed")
def test_without_torch_the_class_is_checked_and_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "NEEDED", ("onnx", "no_such_torch"))
    result = check("noisy")
    assert result.exit_code == 1
    assert "bounds               fail" in result.stdout
    last = result.stdout.splitlines()[-1]
    assert last.split()[:2] == ["run", "fail"]
    assert "no_such_torch cannot be imported; pip install 'slipway-operator[runtime]'" in last


@pytest.mark.usefixtures("installed")
def test_interrupted_it_ends_every_process_that_it_started(tmp_path: Path, model: Path) -> None:
    told, temporary, said = tmp_path / "told", tmp_path / "temporary", tmp_path / "said"
    told.mkdir()
    temporary.mkdir()
    # A shell without job control starts what runs in the background with SIGINT ignored.
    interruptible = ["env", "--default-signal=INT", sys.executable]
    command = [*interruptible, "-m", "slipway.cli.main", "plugin", "check", "waiting", "--model", str(model)]
    with said.open("wb") as stream:
        environment = {**os.environ, "TOLD": str(told), "TMPDIR": str(temporary)}
        running = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream, start_new_session=True)
    try:
        until(lambda: len(list(told.iterdir())) == 2, said.read_text)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 130
    finally:
        running.kill()
    pids = [pid for path in told.iterdir() for pid in path.name.split("-")]
    assert len(pids) == 4
    assert [pid for pid in pids if Path("/proc", pid).exists()] == []
    assert list(temporary.iterdir()) == []


def test_a_process_that_takes_too_long_or_fails_says_so(tmp_path: Path) -> None:
    def ended(code: str, folder: str, **limits: Any) -> str:
        return asyncio.run(run_python(["-c", code], tmp_path / folder, **limits))

    assert ended("pass", "well") == ""
    assert ended("import time; time.sleep(600)", "slow", timeout_seconds=0.2) == "it did not end within 0.2 s"
    assert ended("print('what'); raise SystemExit(3)", "fails") == "its process ended with code 3: what"
    assert ended("import os; os.kill(os.getpid(), 9)", "killed") == "its process was ended by SIGKILL: it wrote nothing"
    crashed = ended("import ctypes\ndef reads_nothing(): ctypes.string_at(0)\nreads_nothing()", "crashes")
    assert crashed.startswith("its process was ended by SIGSEGV: ")
    assert "in reads_nothing" in crashed


def test_two_runs_differ_in_hashes_and_folders_and_in_nothing_that_they_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "relative")
    code = (
        "import os, tempfile; print(hash('x'), os.getcwd(), tempfile.gettempdir(), os.environ['PYTHONPATH'], sep='\\n')"
    )

    async def run(number: int, folder: Path) -> list[str]:
        assert await run_python(["-c", code], folder, hash_seed=number) == ""
        return (folder / "log").read_text().splitlines()

    first, second = asyncio.run(run_twice(run, tmp_path))
    assert [one == other for one, other in zip(first, second, strict=True)] == [False, False, False, True]
    assert first[3] == str(Path("relative").absolute())
