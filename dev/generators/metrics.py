"""The page of the operator's metrics."""

from __future__ import annotations

from generators.manifests import COMMAND
from slipway.controller.telemetry import Telemetry


def metrics_page() -> str:
    """Name, type and meaning of each, but for those of the process and of Python."""
    families = sorted(Telemetry("host", "lease").registry.collect(), key=lambda family: family.name)
    lines = [
        f"<!-- Made by `{COMMAND}` from operator/slipway/controller/telemetry.py. Do not edit. -->",
        "# Metrics",
        "",
        "The operator shows these metrics at `/metrics`. They have controller-runtime's names, so dashboards for"
        " it fit. The Prometheus client adds `process_*` and `python_info`.",
        "",
    ]
    for family in families:
        if not family.name.startswith(("process_", "python_")):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            lines.append(f"- `{name}` ({family.type}): {family.documentation}")
    return "\n".join(lines) + "\n"
