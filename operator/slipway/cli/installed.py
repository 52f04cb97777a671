"""Plugins of this Python environment, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slipway.api.errors import PluginError
from slipway.cli.exits import NOT_FOUND, CommandError
from slipway.sdk.plugin import GROUP, BrokenPlugin, Compression, load_plugins


def installed() -> tuple[dict[str, Compression[Any]], list[BrokenPlugin]]:
    """All, and those that cannot be loaded."""
    from importlib.metadata import entry_points

    return load_plugins(list(entry_points(group=GROUP)))


def named(name: str, loaded: Mapping[str, Compression[Any]], broken: Sequence[BrokenPlugin]) -> Compression[Any]:
    """The one. Raises PluginError where it is broken, and CommandError naming those that there are."""
    if failed := [found for found in broken if found.name == name]:
        raise PluginError("; ".join(f"plugin {name} ({found.value}): {found.error}" for found in failed))
    if name not in loaded:
        raise CommandError(f"no plugin {name!r} is installed; there is {', '.join(loaded) or 'none'}", NOT_FOUND)
    return loaded[name]
