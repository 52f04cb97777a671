"""The page of the command line, from the commands' own help."""

from __future__ import annotations

import re

import typer.main
from typer.cli import get_docs_for_click
from typer.models import Context

from generators.manifests import COMMAND
from slipway.cli.main import app
from slipway.cli.rendering import errors


def commands_page() -> str:
    """docs/reference/cli.md: exit codes, then every command with its arguments, options and examples."""
    command = typer.main.get_command(app)
    body = get_docs_for_click(obj=command, ctx=Context(command), name="slipway").replace("\b", "")
    body = re.sub(r"\n+Examples:\n((?:  .*\n)+)", _examples, body)
    body = re.sub(r"^\* `--help`: .*\n", "", body, flags=re.MULTILINE)
    body = body.removeprefix("# `slipway`\n")
    head = f"<!-- Made by `{COMMAND}` from operator/slipway/cli. Do not edit. -->\n# The command `slipway`\n"
    return f"{head}{body.rstrip()}\n\n## Exit codes\n\n{_exit_codes()}"


def _examples(found: re.Match[str]) -> str:
    return "\n\n```console\n" + re.sub(r"^  ", "", found[1], flags=re.MULTILINE) + "```\n"


def _exit_codes() -> str:
    rows = re.findall(r"^(\d+)\s{2,}(.+)$", errors.__doc__ or "", flags=re.MULTILINE)
    return "| code | means |\n|---|---|\n" + "".join(f"| {code} | {text} |\n" for code, text in rows)
