"""The command line as a whole: help, start-up, versions, plugins."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest
import typer.main
import yaml
from typer.testing import CliRunner, Result

from slipway.api.compressionplugin import CompressionPluginSpec
from slipway.api.kinds import COMPRESSION_PLUGIN
from slipway.cli.main import app
from support.builders import resource
from support.kubehttp import KubeHttp

Slipway = Callable[..., Result]


def commands(group: Any = None, *above: str) -> Iterator[list[str]]:
    """All that there are."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *above, name)
        else:
            yield [*above, name]


def run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def broken_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("shatter", "nowhere.to:Befound", "slipway.plugins")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point])  # noqa: ARG005


def test_starting_the_command_loads_none_of_what_commands_need() -> None:
    heavy = ("torch", "kopf", "kubernetes", "aiohttp", "numpy", "tritonclient", "pydantic", "rich", "yaml")
    code = f"import sys, slipway.cli.main; print([name for name in {heavy!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_the_help_of_a_command_has_examples_that_name_only_options_that_it_has(command: list[str]) -> None:
    shown = run(*command, "--help").stdout
    about, _, reference = shown.partition("Options:")
    examples = [line.split() for line in about.partition("Examples:")[2].splitlines() if "slipway" in line]
    assert examples
    used = {word for words in examples for word in words if word.startswith("-") and word != "-"}
    mine = {word.rstrip(",") for line in reference.splitlines() for word in line.split() if word.startswith("-")}
    assert used - {"-f"} <= mine | {"-o"}


def test_a_completion_script_can_be_shown_for_bash() -> None:
    env = {"_SLIPWAY_COMPLETE": "source_bash", "PATH": "/usr/bin:/bin"}
    code = "import slipway.cli.main as m; m.app(prog_name='slipway')"
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert "complete -" in answer.stdout


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert run("version").stdout.startswith(f"slipway {version('slipway-operator')} (API slipway.dev/v1alpha1")
    assert json.loads(run("version", "-o", "json").stdout)["api"] == "slipway.dev/v1alpha1"


def test_the_plugins_of_the_cluster_are_listed_by_what_they_take_and_give(slipway: Slipway) -> None:
    spec = {"version": "1.2", "entryPoint": "x", "consumes": "module", "produces": "onnx", "description": "Turns."}
    server = KubeHttp([[resource(COMPRESSION_PLUGIN, "turner", **spec)]])
    lines = slipway(server, "plugin", "list").stdout.splitlines()
    assert lines[1].split() == ["turner", "1.2", "module", "->", "onnx", "no", "runtime", "Turns."]


def test_the_plugins_that_we_ship_are_found_here_and_none_is_broken() -> None:
    result = run("plugin", "list", "--local", "-o", "json")
    assert result.exit_code == 0
    names = {item["metadata"]["name"] for item in json.loads(result.stdout)["items"]}
    assert names >= {"export-onnx", "prune-structured", "quantize-int8"}


@pytest.mark.usefixtures("broken_plugin")
def test_a_broken_plugin_is_listed_with_its_error_and_exit_code_1() -> None:
    result = run("plugin", "list", "--local")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == f"installed in {sys.prefix}"
    assert "ModuleNotFoundError: No module named 'nowhere'" in result.stdout


@pytest.mark.usefixtures("broken_plugin")
def test_no_manifest_is_made_of_a_broken_plugin() -> None:
    result = run("plugin", "manifest", "shatter")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: plugin shatter (nowhere.to:Befound): ModuleNotFoundError")


def test_a_manifest_is_a_resource_that_the_api_takes_with_the_image_that_was_asked_for() -> None:
    body = yaml.safe_load(run("plugin", "manifest", "quantize-int8", "--image", "registry.example/q:1").stdout)
    spec = CompressionPluginSpec.model_validate(body["spec"], extra="forbid")
    assert (body["kind"], body["metadata"]["name"]) == ("CompressionPlugin", "quantize-int8")
    assert (spec.image, spec.consumes, spec.entry_point) == ("registry.example/q:1", "onnx", "quantize-int8")


def test_all_manifests_are_one_stream_of_documents() -> None:
    kinds = {body["kind"] for body in yaml.safe_load_all(run("plugin", "manifest", "--all").stdout)}
    assert kinds == {"CompressionPlugin"}


def test_a_plugin_that_is_not_installed_is_exit_code_3_and_names_those_that_are() -> None:
    result = run("plugin", "manifest", "nonesuch")
    assert result.exit_code == 3
    assert "quantize-int8" in result.stderr
