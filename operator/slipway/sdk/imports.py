"""`python -m slipway.sdk.imports NAME RESULT`: find the heavy libraries that a plugin's module imports.

It is a process of its own, because another one may have imported them already. RESULT gets the names, a line each.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path

from slipway.sdk.plugin import GROUP

HEAVY = ("torch", "onnx", "onnxruntime", "numpy")
"""Libraries that the command line does not need to describe plugins."""


def main(name: str, result: Path) -> None:
    """Load every entry point of that name, and write the heavy libraries that were imported."""
    for point in entry_points(group=GROUP, name=name):
        point.load()
    result.write_text("".join(f"{heavy}\n" for heavy in HEAVY if heavy in sys.modules))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
