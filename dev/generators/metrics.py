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
        "What the operator shows at `/metrics`, by the names of controller-runtime, so that dashboards made for it fit."
        " Besides these there are `process_*` and `python_info` of the Prometheus client.",
        "",
        "| metric | type | says |",
        "|---|---|---|",
    ]
    for family in families:
        if not family.name.startswith(("process_", "python_")):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            lines.append(f"| `{name}` | {family.type} | {family.documentation} |")
    return "\n".join(lines) + "\n"
