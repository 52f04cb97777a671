"""What can be wrong between a user and a model that serves: one function for each thing that is looked at."""

from slipway.cli.checks.asking import Asked

__all__ = ["Asked"]
