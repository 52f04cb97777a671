"""`python -m slipway.sdk.imports NAME RESULT`: what of the heavy libraries importing a plugin's module brings in.

A process of its own, as in any other something else may have imported it. RESULT gets the names, a line each.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path

from slipway.sdk.plugin import GROUP

HEAVY = ("torch", "onnx", "onnxruntime", "numpy")
"""The command line describes plugins where these are not installed."""


def main(name: str, result: Path) -> None:
    """Loads every entry point of that name."""
    for point in entry_points(group=GROUP, name=name):
        point.load()
    result.write_text("".join(f"{heavy}\n" for heavy in HEAVY if heavy in sys.modules))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
