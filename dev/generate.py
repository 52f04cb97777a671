#!/usr/bin/env python3
"""Write crds/, the chart's copies and the reference tables from the code; with --check, fail where one is stale."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

from generators.commands import commands_page
from generators.fields import fields_page
from generators.manifests import as_yaml
from generators.metrics import metrics_page
from generators.plugins import plugins_page
from generators.reference import rules_page
from slipway.api.crds import RESOURCES, crd
from slipway.sdk.plugin import GROUP, load_plugins, plugin_manifest

ROOT = Path(__file__).resolve().parent.parent
PAGES = tuple(f"docs/reference/{name}.md" for name in ("cli", "fields", "metrics", "plugins", "rules"))
OUTPUTS = ("crds", "helm/slipway/files", *PAGES)
COMMAND = "make generate"


def files() -> Iterator[tuple[str, str]]:
    """Every generated file: its path in the repository and its whole content."""
    for resource in RESOURCES:
        name = f"{resource.kind.plural}.yaml"
        text = as_yaml(crd(resource), source=f"operator/slipway/api, {resource.model.__name__}")
        yield f"crds/{name}", text
        yield f"helm/slipway/files/crds/{name}", text
    yield from _plugins()
    yield "docs/reference/cli.md", commands_page()
    yield "docs/reference/fields.md", fields_page(RESOURCES)
    yield "docs/reference/metrics.md", metrics_page()
    yield "docs/reference/rules.md", rules_page(RESOURCES)


def _plugins() -> Iterator[tuple[str, str]]:
    shipped = distribution("slipway-operator").entry_points.select(group=GROUP)  # others may be installed beside them
    plugins, broken = load_plugins(list(shipped))
    if broken:
        raise SystemExit(f"these plugins cannot be loaded: {broken}")
    yield "docs/reference/plugins.md", plugins_page(plugins[name] for name in sorted(plugins))
    for name, plugin in sorted(plugins.items()):
        source = f"plugins/slipway_plugins, {type(plugin).__name__}"
        yield f"helm/slipway/files/plugins/{name}.yaml", as_yaml(plugin_manifest(plugin), source=source)


def write() -> None:
    """Writes all of them, and removes what a generator no longer makes."""
    for folder in ("crds", "helm/slipway/files"):
        shutil.rmtree(ROOT / folder, ignore_errors=True)
    for path, text in files():
        target = ROOT / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def stale() -> str:
    """What git sees changed or new among the outputs."""
    command = ["git", "status", "--porcelain", "--untracked-files=all", "--", *OUTPUTS]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where a file in git is not what the code makes")
    options = parser.parse_args()
    write()
    if options.check and (changed := stale()):
        print(f"{changed}generated files are stale: run `{COMMAND}` and commit them", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
