"""`slipway version`."""

from __future__ import annotations

from slipway.cli.options import Format, Output
from slipway.cli.terminal import say


def version(output: Format = Output.TABLE) -> None:
    """Show the version of slipway and of its API.

    \b
    Examples:
      slipway version
      slipway version -o json
    """
    import platform
    from importlib.metadata import version as version_of

    from slipway.api.kinds import API_VERSION
    from slipway.cli.tables import print_data

    facts = {"slipway": version_of("slipway-operator"), "api": API_VERSION, "python": platform.python_version()}
    if output is Output.TABLE:
        say(f"slipway {facts['slipway']} (API {facts['api']}, Python {facts['python']})")
    else:
        print_data(facts, output)
