"""Objects as YAML files that say where they come from."""

from __future__ import annotations

import re
from typing import Any

import yaml

COMMAND = "make generate"

# YAML 1.1 reads these as true and false, and PyYAML does not quote them.
_ONE_LETTER_BOOLEAN = re.compile(r"^[yYnN]$")


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Every occurrence is written out: CRDs are read by people and by tools without anchors."""
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if _ONE_LETTER_BOOLEAN.match(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def as_yaml(manifest: dict[str, Any], *, source: str) -> str:
    """One document; the first line says by what and from what it was made."""
    body = yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=118, allow_unicode=True)
    return f"# Made by `{COMMAND}` from {source}. Do not edit.\n{body}"
