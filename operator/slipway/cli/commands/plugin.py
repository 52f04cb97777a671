"""`slipway plugin`: what makes models smaller, in the cluster and on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.cli.commands.options import Context, Format, complete_plugins
from slipway.cli.commands.plugin_check import check
from slipway.cli.rendering.tables import Output
from slipway.cli.rendering.terminal import one_line, say

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slipway.sdk.plugin import BrokenPlugin, Compression

plugin = typer.Typer(
    name="plugin",
    help="Compression plugins and their manifests.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
plugin.command()(check)


@plugin.command("list")
def list_plugins(
    *,
    local: Annotated[
        bool, typer.Option("--local", help="List those installed on this machine; exit code 1 if one is broken.")
    ] = False,
    output: Format = Output.TABLE,
    context: Context = None,
) -> None:
    """List the CompressionPlugins of the cluster, or with --local those installed here.

    \b
    Examples:
      slipway plugin list
      slipway plugin list --local          also those that cannot be loaded, and why
    """
    import asyncio
    import sys

    from slipway.cli.commands.plugin_check import load_installed_plugins
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
        str | None, typer.Argument(help="The plugin, by its entry point's name.", autocompletion=complete_plugins)
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All plugins that are installed here.")] = False,
    image: Annotated[
        str | None, typer.Option("--image", help="Image that holds the plugin. Default: the operator's runtime image.")
    ] = None,
    output: Format = Output.YAML,
) -> None:
    """Print the CompressionPlugin of a plugin that is installed here, made from its code.

    \b
    Examples:
      slipway plugin manifest quantize-int8
      slipway plugin manifest my-plugin --image registry.example/my-plugin@sha256:... | kubectl apply -f -
    """
    from slipway.api.errors import PluginError
    from slipway.cli.commands.plugin_check import load_installed_plugins, select_plugin
    from slipway.cli.rendering.summary import as_list
    from slipway.cli.rendering.tables import print_data

    if (name is None) != every:
        raise typer.BadParameter("give either the name of a plugin or --all")
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
    from slipway.sdk.describe import plugin_manifest

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
