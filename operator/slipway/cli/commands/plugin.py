"""`slipway plugin`: list compression plugins, print their manifests, and check their contract."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.cli.commands.options import Context, Format, complete_plugins
from slipway.cli.rendering.tables import Output
from slipway.cli.rendering.terminal import one_line, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slipway.api.errors import Finding
    from slipway.local.plugin_check import CheckOptions
    from slipway.sdk.artifact import Artifact
    from slipway.sdk.plugin import BrokenPlugin, Compression

NEEDED = ("torch", "onnx", "onnxruntime", "numpy", "safetensors", "sklearn", "tritonclient")
TIMEOUT_SECONDS = 600.0
SHOWN = 80
"""Characters of a parameter in a message."""
DIGIT = (28, 28)
"""Shape of a sample of the built-in data."""

plugin = typer.Typer(
    name="plugin",
    help="List compression plugins, print their manifests, and check their contract.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@plugin.command()
def check(
    name: Annotated[str, typer.Argument(help="Name of the plugin's entry point.", autocompletion=complete_plugins)],
    *,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param", metavar="NAME=VALUE", help="Parameter, such as energy=0.8 or recover.epochs=1. Repeatable."
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model", metavar="DIR", help="Run on this artifact, instead of small built-in models of digits."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="With --model: data artifact that fits the model. Default: digits."),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, metavar="SECONDS", help="Time limit for each process.")
    ] = TIMEOUT_SECONDS,
    output: Format = Output.TABLE,
) -> None:
    """Check an installed plugin against the plugin contract.

    Checks its class first: manifest, parameters, and the modules that its import loads. Then it runs twice on small
    models, in processes with different hash seeds and folders: the same seed must give the same artifact, and the
    result must answer like a served model. Prints one line for each check: ok, warn or fail. Exit code 1 if one fails.
    Needs `pip install 'slipway-operator[runtime]'`.

    \b
    Examples:
      slipway plugin check svd-linear
      slipway plugin check svd-linear --param energy=0.8
      slipway plugin check my-plugin --model artifact/ --data data/ -o json
    """
    import asyncio

    from slipway.cli.rendering.tables import print_findings
    from slipway.local.plugin_check import CheckOptions

    plugin = select_plugin(name, *load_installed_plugins())
    options = CheckOptions(_params(plugin, param or ()), *_given(plugin, model, data), timeout_seconds=timeout)
    raise typer.Exit(print_findings(asyncio.run(_run_checks(plugin, options)), output))


async def _run_checks(plugin: Compression[Any], options: CheckOptions) -> list[Finding]:
    from importlib.util import find_spec
    from tempfile import TemporaryDirectory

    from slipway.api.errors import Finding
    from slipway.local.plugin_check import check_imports, check_runs
    from slipway.sdk.contract import class_findings

    with TemporaryDirectory(prefix="slipway-") as folder:
        found = class_findings(plugin)
        found.append(await check_imports(plugin.name, Path(folder), options.timeout_seconds))
        if missing := [library for library in NEEDED if find_spec(library) is None]:
            what = f"not run: {', '.join(missing)} cannot be imported"
            return [*found, Finding("run", "fail", what, "pip install 'slipway-operator[runtime]'")]
        say(f"running {plugin.name} twice on each model, which takes a while", err=True)
        return found + await check_runs(plugin, Path(folder), options)


def _params(plugin: Compression[Any], words: Sequence[str]) -> dict[str, Any]:
    """Return the parameters. Raises CommandError for a text that is not NAME=VALUE, or that the plugin refuses."""
    from slipway.api.errors import PluginError
    from slipway.cli.rendering.errors import USAGE, CommandError
    from slipway.manifests.documents import documents
    from slipway.sdk.plugin import parameters

    params: dict[str, Any] = {}
    for word in words:
        path, equals, text = word.partition("=")
        *outer, last = path.split(".")
        if not equals or not path:
            raise typer.BadParameter(f"--param {word}: write NAME=VALUE")
        inner = params
        for part in outer:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise typer.BadParameter(f"--param {word}: {part} already has a value; remove one of the two")
        read, faults = documents(text)
        if faults or len(read) > 1:
            why = f"{text[:SHOWN]!r} is not YAML: {faults[0].what}" if faults else "write one value"
            raise typer.BadParameter(f"--param {word[:SHOWN]}: {why}")
        inner[last] = read[0].value if read else None
    try:
        parameters(plugin, params)
    except PluginError as error:
        raise CommandError(f"--param: {error}", USAGE) from error
    return params


def _given(plugin: Compression[Any], model: Path | None, data: Path | None) -> tuple[Artifact | None, Artifact | None]:
    """Return model and data of the command line. Raises CommandError if they do not fit the plugin or each other."""
    from slipway.api.artifacts import State
    from slipway.cli.rendering.errors import USAGE, CommandError

    if model is None:
        if data is not None:
            raise typer.BadParameter("--data needs --model: the built-in models take digits")
        return None, None
    own, arrays = _read(model, "--model"), _read(data, "--data") if data else None
    if own.state is not plugin.consumes:
        raise CommandError(
            f"--model {model}: its state is {own.state}, and plugin {plugin.name} needs {plugin.consumes}", USAGE
        )
    if arrays is not None and arrays.state is not State.DATASET:
        raise CommandError(f"--data {data}: its state is {arrays.state}, not a data set", USAGE)
    shapes = [spec.shape for spec in own.content.inputs]
    if arrays is None and plugin.needs_data and shapes != [DIGIT]:
        raise CommandError(
            f"--model {model}: it takes {shapes}, not digits of {list(DIGIT)}; add --data for plugin {plugin.name}",
            USAGE,
        )
    return own, arrays


def _read(folder: Path, option: str) -> Artifact:
    from slipway.api.errors import ArtifactError
    from slipway.cli.rendering.errors import NOT_FOUND, CommandError
    from slipway.sdk.artifact import read_artifact

    try:
        return read_artifact(folder.absolute())
    except ArtifactError as error:
        raise CommandError(f"{option}: {error}; use the folder that holds manifest.json", NOT_FOUND) from error


@plugin.command("list")
def list_plugins(
    *,
    local: Annotated[
        bool,
        typer.Option("--local", help="List plugins installed on this machine; exit code 1 if one cannot be loaded."),
    ] = False,
    output: Format = Output.TABLE,
    context: Context = None,
) -> None:
    """List the CompressionPlugins of the cluster, or with --local the plugins installed here.

    \b
    Examples:
      slipway plugin list
      slipway plugin list --local          also those that cannot be loaded, and why
    """
    import asyncio
    import sys

    from slipway.cli.rendering.summary import as_list
    from slipway.cli.rendering.tables import print_data, print_tables

    loaded, broken = load_installed_plugins() if local else ({}, [])
    manifests = _manifests(loaded.values(), None) if local else asyncio.run(_in_cluster(context))
    if output is not Output.TABLE:
        print_data(as_list(manifests), output)
    elif manifests or broken:
        print_tables([_table(manifests, broken, f"installed in {sys.prefix}" if local else "")])
    else:
        say("no plugins", err=True)
    if output is not Output.TABLE:
        for found in broken:
            say(one_line(f"error: plugin {found.name} ({found.value}): {found.error}"), err=True)
    raise typer.Exit(1 if broken else 0)


@plugin.command()
def manifest(
    name: Annotated[
        str | None, typer.Argument(help="Name of the plugin's entry point.", autocompletion=complete_plugins)
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Print the manifests of all installed plugins.")] = False,
    image: Annotated[
        str | None, typer.Option("--image", help="Image that holds the plugin. Default: the operator's runtime image.")
    ] = None,
    output: Format = Output.YAML,
) -> None:
    """Print the CompressionPlugin manifest of an installed plugin, for `kubectl apply`.

    \b
    Examples:
      slipway plugin manifest quantize-int8
      slipway plugin manifest my-plugin --image registry.example/my-plugin@sha256:... | kubectl apply -f -
    """
    from slipway.api.errors import PluginError
    from slipway.cli.rendering.summary import as_list
    from slipway.cli.rendering.tables import print_data

    if (name is None) != every:
        raise typer.BadParameter("use either the name of a plugin or --all")
    loaded, broken = load_installed_plugins()
    if every and broken:
        raise PluginError("; ".join(f"plugin {found.name} ({found.value}): {found.error}" for found in broken))
    manifests = _manifests([select_plugin(name, loaded, broken)] if name else loaded.values(), image)
    if output is Output.JSON:
        print_data(manifests[0] if name else as_list(manifests), output)
        return
    for number, body in enumerate(manifests):
        if number:
            say("---")
        print_data(body, Output.YAML)


def _manifests(plugins: Iterable[Compression[Any]], image: str | None) -> list[dict[str, Any]]:
    from slipway.sdk.plugin import plugin_manifest

    return [plugin_manifest(plugin, image) for plugin in sorted(plugins, key=lambda plugin: plugin.name)]


async def _in_cluster(context: str | None) -> list[dict[str, Any]]:
    from slipway.api.kinds import COMPRESSION_PLUGIN
    from slipway.cli.connections.cluster import connect_to_cluster

    async with connect_to_cluster(context, None) as connection:
        return list(await connection.cluster.list(COMPRESSION_PLUGIN))


def _table(manifests: list[dict[str, Any]], broken: list[BrokenPlugin], title: str) -> Any:
    from slipway.cli.rendering.tables import Table

    rows = [
        (
            body["metadata"]["name"],
            spec["version"],
            f"{spec['consumes']} -> {spec['produces']}",
            "yes" if spec.get("needs", {}).get("data") else "no",
            spec.get("image") or "runtime",
            spec.get("description", ""),
        )
        for body in manifests
        for spec in (body["spec"],)
    ]
    rows += [(found.name, "broken", "-", "-", found.value, found.error) for found in broken]
    return Table(("NAME", "VERSION", "STATE", "DATA", "IMAGE", "DESCRIPTION"), tuple(rows), title)


# --- Installed plugins -------------------------------------------------------------------------------------------


def load_installed_plugins() -> tuple[dict[str, Compression[Any]], list[BrokenPlugin]]:
    """Return the plugins of this Python environment by name, and those that cannot be loaded."""
    from importlib.metadata import entry_points

    from slipway.sdk.plugin import GROUP, load_plugins

    return load_plugins(list(entry_points(group=GROUP)))


def select_plugin(
    name: str, loaded: Mapping[str, Compression[Any]], broken: Sequence[BrokenPlugin]
) -> Compression[Any]:
    """Return the plugin. Raises PluginError for a broken one, and CommandError for one that is not installed."""
    from slipway.api.errors import PluginError
    from slipway.cli.rendering.errors import NOT_FOUND, CommandError

    if failed := [found for found in broken if found.name == name]:
        raise PluginError("; ".join(f"plugin {name} ({found.value}): {found.error}" for found in failed))
    if name not in loaded:
        raise CommandError(f'plugin "{name}" is not installed; installed: {", ".join(loaded) or "none"}', NOT_FOUND)
    return loaded[name]
