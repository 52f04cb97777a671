"""No text of a pod, an object, a file or a plugin does anything to the terminal, in whatever command shows it."""

from __future__ import annotations

import ast
import asyncio
import copy
import json
import os
import pty
import re
import sys
import threading
import unicodedata
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from slipway.api.kinds import COMPRESSION_PLUGIN, EVENT, Object
from slipway.cli.commands.local_run import ContainerFailures, event_lines, view
from slipway.cli.commands.logs import build_writer
from slipway.cli.commands.predict import score_tables
from slipway.cli.commands.predict import scores as scored
from slipway.cli.connections.logs import Line, Source, print_merged
from slipway.cli.connections.triton import Answers
from slipway.cli.main import app
from slipway.cli.rendering import terminal
from slipway.cli.rendering.tables import print_tables
from slipway.cli.rendering.terminal import say, visible
from slipway.cluster.twin import WatchEvent
from support import statuses
from support.builders import resource, store
from support.kubehttp import KubeHttp
from support.local_state import left, write_log
from support.statuses import rank_pod

Slipway = Callable[..., Result]

HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x1b[31mFAKE\x1b[8mhidden\x1b]8;;http://evil\x07click\x1b]8;;\x07\x9b31m\x90q\x9c"
    "\u202egnp.exe\u2066\u2069\u200b\u200d\ufeff\u00ad\u2028\u2029\U000e0041\u3164\x00\x08\x7f\x85\r[0] forged\n"
    "error: forged\ta" + "\u0301" * 40
)
NOT_OURS = re.compile(r"\x1b\[(?:\d+(?:;\d+)*)?m|\x1b\[\?25[lh]|\x1b\[\d*[AK]|\r")
"""What rich and our own colours may write to a terminal."""


def is_unsafe(character: str) -> bool:
    return character not in "\n\t" and visible(character) != character


def assert_safe(said: str, *, ours: bool = False) -> None:
    """ours: written to a terminal, where colours, a cursor that is hidden and a picture in place are ours."""
    assert "\x1b[31mFAKE" not in said
    assert "\x1b[8m" not in said
    rest = NOT_OURS.sub("", said) if ours else said
    assert [f"U+{ord(one):04X}" for one in rest if is_unsafe(one)] == []
    assert not re.search(r"^(error: forged|\[0\] forged)", rest, re.MULTILINE)


def poisoned(obj: Any, *keys: str) -> Any:
    """A copy in which the texts of these fields end in what is hostile."""
    if isinstance(obj, dict):
        return {
            key: value + HOSTILE if key in keys and isinstance(value, str) else poisoned(value, *keys)
            for key, value in obj.items()
        }
    return [poisoned(one, *keys) for one in obj] if isinstance(obj, list) else obj


def hostile_objects() -> list[Object]:
    texts = ("message", "exception")
    objects = [
        statuses.failed_training(),
        statuses.serving_deployment(),
        rank_pod(0),
        statuses.step_pod("prepare-train"),
        store(),
        resource(COMPRESSION_PLUGIN, "a-plugin", entryPoint="a", version="1", consumes="module", produces="onnx"),
    ]
    found = [poisoned(copy.deepcopy(obj), *texts) for obj in objects]
    found[1]["status"]["url"] += HOSTILE
    found[-1]["spec"]["description"] = HOSTILE
    named = copy.deepcopy(statuses.running_training())
    named["metadata"]["name"] = f"digits{HOSTILE}"
    return [*found, named]


LOGS = {
    "digits-1-0": "".join(f"2026-03-01T12:00:0{n}.000000000Z {HOSTILE.replace(chr(10), ' ')}\n" for n in range(3)),
    "digits-t-prepare-train": "2026-03-01T12:00:00.000000000Z \r 10%|#   |\r 50%|##  |\r100%|####|\r\n",
}
READS = {
    "status": "status",
    "status of one": "status tj/digits",
    "status of a deployment": "status md/digits",
    "status as JSON": "status -o json",
    "status as YAML": "status -o yaml",
    "status that follows": "status tj/digits --watch",
    "logs": "logs tj/digits",
    "logs that follow": "logs tj/digits --follow",
    "logs with times": "logs tj/digits --timestamps",
    "doctor": "doctor",
    "doctor as JSON": "doctor -o json",
    "plugin list": "plugin list",
    "plugin list as YAML": "plugin list -o yaml",
    "predict": "predict digits --dataset digits",
    "plan from the cluster": "plan --live -f {file}",
}


@pytest.fixture
def on_terminal() -> Callable[[Callable[[], Any]], str]:
    """Runs a function with standard output and error on a terminal, and returns what reached it."""

    def run(act: Callable[[], Any]) -> str:
        ours, theirs = pty.openpty()
        seen = bytearray()

        def read() -> None:
            while True:
                try:
                    chunk = os.read(ours, 4096)
                except OSError:
                    return
                if not chunk:
                    return
                seen.extend(chunk)

        reader = threading.Thread(target=read)
        reader.start()
        streams = sys.stdout, sys.stderr
        with open(theirs, "w", encoding="utf-8") as screen:
            sys.stdout = sys.stderr = screen
            try:
                act()
            except SystemExit:
                pass
            finally:
                sys.stdout, sys.stderr = streams
        reader.join(10)
        os.close(ours)
        return seen.decode()

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    job = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "digits", "annotations": {"a": HOSTILE}},
        "spec": {"entrypoint": {"module": {"name": "team.train", "args": [HOSTILE]}}},
    }
    path.write_text(yaml.safe_dump(job))
    return path


@pytest.mark.parametrize("words", READS.values(), ids=READS)
@pytest.mark.parametrize("where", ["a pipe", "a terminal"])
def test_nothing_of_a_hostile_cluster_acts_upon_the_terminal(
    words: str, where: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_terminal: Any
) -> None:
    monkeypatch.setattr("slipway.cli.rendering.details.EVERY_SECONDS", 0.01)
    monkeypatch.setenv("TERM", "xterm-256color")
    command = words.replace("{file}", str(file)).split(" ")
    with KubeHttp([hostile_objects()], LOGS).serving(tmp_path) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", kubeconfig)
        if where == "a pipe":
            result = CliRunner().invoke(app, command)
            said = result.output
            assert_safe(said)
        else:
            said = on_terminal(lambda: app(command))
            assert_safe(said, ours=True)
        assert "FAKE" in said or words in ("doctor", "doctor -o json", "plan --live -f {file}")


@pytest.mark.parametrize("words", ["status -o json", "status -o yaml"])
def test_data_is_safe_by_its_own_escapes_and_stays_what_it_is(slipway: Slipway, words: str) -> None:
    said = slipway(KubeHttp([hostile_objects()]), *words.split()).stdout
    assert_safe(said)
    items = (json.loads if words.endswith("json") else yaml.safe_load)(said)["items"]
    assert [item["status"]["conditions"][0]["message"].endswith(HOSTILE) for item in items][0]  # noqa: RUF015
    assert items[1]["metadata"]["name"] == f"digits{HOSTILE}"


@pytest.mark.parametrize("options", ["", "-o yaml", "-o json"])
def test_nothing_of_a_hostile_file_acts_upon_the_terminal(options: str, file: Path, on_terminal: Any) -> None:
    words = ["plan", "-f", str(file), *options.split()]
    assert_safe(CliRunner().invoke(app, words).output)
    assert_safe(on_terminal(lambda: app(words)), ours=True)


def test_errors_in_a_hostile_file_are_told_on_lines_of_our_own(tmp_path: Path) -> None:
    path = tmp_path / f"a{HOSTILE.replace('/', '').replace(chr(0), '')}.yaml"
    job = {"apiVersion": "slipway.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": HOSTILE, HOSTILE: "x"}}
    path.write_text(yaml.safe_dump({**job, "spec": {HOSTILE: 1, "entrypoint": {"module": {"name": HOSTILE}}}}))
    result = CliRunner().invoke(app, ["plan", "-f", str(path)])
    assert result.exit_code == 2
    assert_safe(result.output)
    assert all(line.startswith("error: ") for line in result.stderr.splitlines())


@pytest.mark.parametrize("words", ["plugin list --local", "plugin list --local -o json", "plugin check shatter"])
def test_the_error_of_a_plugin_is_shown_and_does_nothing(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("shatter", f"nowhere:{HOSTILE}", "slipway.plugins")]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)  # noqa: ARG005
    result = CliRunner().invoke(app, words.split())
    assert result.exit_code == 1
    assert_safe(result.output)


def test_what_a_run_tells_of_its_pods_is_on_lines_of_its_own(tmp_path: Path, on_terminal: Any) -> None:
    event = {"kind": EVENT.kind, "regarding": {"kind": "Pod", "name": "a"}, "type": "Warning"}
    told = WatchEvent("ADDED", {**event, "reason": "Bad", "note": HOSTILE})
    pod = rank_pod(0)
    ended = {"terminated": {"exitCode": 1}}
    pod["status"]["containerStatuses"][0]["state"] = ended
    pod["metadata"]["ownerReferences"] = []
    state = left(tmp_path / "state", pod)
    write_log(state, pod, HOSTILE)
    assert_safe("\n".join(event_lines(told)))

    def show() -> None:
        with view() as seen:
            seen.show([statuses.finished_training(), poisoned(statuses.failed_training(), "message")])
            for line in [*event_lines(told), *ContainerFailures(state)(WatchEvent("MODIFIED", pod)), HOSTILE]:
                seen.say(line)

    assert_safe(on_terminal(show), ours=True)


def test_what_a_hostile_server_calls_its_model_does_nothing(on_terminal: Any) -> None:
    import numpy as np

    facts = {"model": f"m{HOSTILE}", "version": HOSTILE, "protocol": "http", "via": HOSTILE}
    answers = scored(Answers(np.eye(2), [0.1, 0.1], 1.0), None)
    assert_safe(on_terminal(lambda: print_tables(score_tables({**facts, **answers}))), ours=True)


def test_a_progress_bar_becomes_lines_behind_the_prefix_of_its_rank(slipway: Slipway) -> None:
    server = KubeHttp([[statuses.running_training(), statuses.step_pod("prepare-train")]], LOGS)
    said = slipway(server, "logs", "tj/digits").stdout
    assert said.splitlines() == [f"[prepare-train] {bar}" for bar in (" 10%|#   |", " 50%|##  |", "100%|####|")]


def test_a_line_that_looks_like_a_time_after_a_carriage_return_is_text(slipway: Slipway) -> None:
    forged = "9999-12-31T23:59:59.000000000Z x"
    logs = {"digits-1-0": f"2026-03-01T12:00:01.000000000Z a\r{forged}\n2026-03-01T12:00:02.000000000Z b\n"}
    said = slipway(KubeHttp([[statuses.running_training(), rank_pod(0)]], logs), "logs", "tj/digits").stdout
    assert said.splitlines() == ["[0] a", f"[0] {forged}", "[0] b"]


async def test_a_line_without_end_is_shown_piece_by_piece_and_no_other_line_joins_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write = build_writer(timestamps=False)
    write("0", "", "a" * 10, more=True)
    write("0", "", "b", more=True)
    write("1", "", "other")
    write("0", "", "c")
    assert capsys.readouterr().out == "[0] aaaaaaaaaab\n[1] other\n[0] c\n"


async def test_of_many_lines_few_are_held_at_once() -> None:
    made = written = most = 0

    class Endless:
        async def lines(self, source: Source, **_: object) -> Any:
            nonlocal made
            for number in range(5_000):
                made += 1
                yield Line(f"{number:09}", "x")
                await asyncio.sleep(0)

    def write(*_: object, **__: object) -> None:
        nonlocal written, most
        written += 1
        most = max(most, made - written)

    found = [Source("n", f"p{number}", "u", "main", 0, str(number)) for number in range(2)]
    await print_merged(Endless(), found, write, None)
    assert written == 10_000
    assert most < 100


def test_whatever_unicode_calls_control_or_format_is_shown_by_its_number() -> None:
    wrong = [
        f"U+{code:04X}"
        for code in range(sys.maxunicode + 1)
        if (unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp")) and not is_unsafe(chr(code))
    ]
    assert wrong == ["U+0009", "U+000A"]
    assert visible(HOSTILE) == visible(visible(HOSTILE))
    assert visible("größer → 中文 ✓ é") == "größer → 中文 ✓ é"


def test_a_defect_is_told_whole_and_visible() -> None:
    def fail() -> None:
        with terminal.guarded():
            raise RuntimeError(HOSTILE)

    import io

    stream = sys.stderr
    sys.stderr = told = io.StringIO()
    try:
        with pytest.raises(SystemExit, match="1"):
            fail()
    finally:
        sys.stderr = stream
    assert "Traceback" in told.getvalue()
    assert_safe(re.sub(r"(?m)^(error: forged|\[0\] forged)", "", told.getvalue()))


def test_a_letter_that_the_terminal_lacks_is_no_error() -> None:
    code = "from slipway.cli.rendering.terminal import guarded, say\nwith guarded(): say('größer \\u2192')"
    import subprocess

    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "gr\\xf6\\xdfer \\u2192\n"


def test_our_own_colours_reach_the_terminal_and_no_pipe(on_terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b[36m[0]\x1b[0m a" in on_terminal(lambda: build_writer(timestamps=False)("0", "", "a"))
    build_writer(timestamps=False)("0", "", "a")
    say("x", head="y", colour="red")
    assert capsys.readouterr().out == "[0] a\nyx\n"


def test_only_one_module_of_the_command_writes() -> None:
    folder = Path(terminal.__file__).parent
    wrong = []
    for path in folder.rglob("*.py"):
        if path.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in ("print", "Console", "Live") or name.startswith(("typer.echo", "typer.secho", "sys.std")):
                    wrong.append(f"{path.name}:{node.lineno}: {name}")
    assert [one for one in wrong if "sys.stdin" not in one] == []
