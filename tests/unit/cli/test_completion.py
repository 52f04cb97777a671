"""What shells and kubectl offer for half a word."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from slipway.cli.main import complete
from support import statuses
from support.builders import training_job
from support.kubehttp import KubeHttp, kubeconfig

OBJECTS = [
    training_job("digits"),
    training_job("letters"),
    *statuses.compressing_steps(),
    statuses.compressing_deployment(),
]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Completion speaks by variables: none of them outlives a test."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ["KUBECONFIG"] = str(tmp_path / "none")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[None]:
    with serving(tmp_path):
        yield


@contextmanager
def serving(folder: Path) -> Iterator[None]:
    with ExitStack() as stack:
        os.environ["KUBECONFIG"] = stack.enter_context(KubeHttp([OBJECTS]).serving(folder))
        yield


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["status", ""], ["digits", "letters"]),
        (["logs", "le"], ["letters"]),
        (["status", "tj/"], ["tj/digits", "tj/letters"]),
        (["status", "md/"], ["md/digits"]),
        (["predict", ""], ["digits"]),
        (["logs", "md/digits", "--step", "step-1"], ["step-1-quantize-int8"]),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("cluster")
def test_names_of_the_cluster_are_offered(words: list[str], offered: list[str]) -> None:
    assert complete(words) == offered


@pytest.mark.parametrize(
    ("words", "some"),
    [
        (["pl"], {"plan", "plugin"}),
        (["plugin", "manifest", "qu"], {"quantize-int8"}),
        (["plugin", "check", "qu"], {"quantize-int8"}),
        (["status", "--all"], {"--all-namespaces"}),
        (["plan", "-o", ""], {"text", "yaml", "json"}),
    ],
)
def test_what_needs_no_cluster_is_offered_without_one(words: list[str], some: set[str]) -> None:
    assert set(complete(words)) == some


def test_a_cluster_that_is_away_offers_nothing_and_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert complete(["status", ""]) == []
    assert capfd.readouterr() == ("", "")


def test_contexts_are_those_of_the_kubeconfig(tmp_path: Path) -> None:
    import yaml

    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(kubeconfig("http://nowhere.invalid")))
    os.environ["KUBECONFIG"] = f"{tmp_path / 'none'}{os.pathsep}{path}"
    assert complete(["status", "--context", ""]) == ["here"]


def test_namespaces_are_those_of_the_cluster(tmp_path: Path) -> None:
    spaces = {"items": [{"metadata": {"name": name}} for name in ("one", "two")]}
    server = KubeHttp([[]], answers={"/api/v1/namespaces": spaces})
    with ExitStack() as stack:
        os.environ["KUBECONFIG"] = stack.enter_context(server.serving(tmp_path))
        assert complete(["status", "-n", "t"]) == ["two"]


@pytest.mark.parametrize(("words", "last"), [(["pl"], ":4"), (["plan", "-f", "exa"], ":0")])
def test_kubectl_is_answered_in_lines_and_a_directive(words: list[str], last: str) -> None:
    script = Path(sys.executable).with_name("kubectl_complete-slipway")
    answer = subprocess.run([script, *words], capture_output=True, text=True, timeout=60, check=True)
    lines = answer.stdout.splitlines()
    assert lines[-1] == last
    assert set(lines[:-1]) == ({"plan", "plugin"} if last == ":4" else set())
