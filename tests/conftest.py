"""Fixtures that several suites share, and the seed that repeats a run."""

from __future__ import annotations

import shlex

import pytest

from support.seed import SAMPLE_EVERY, SEED

pytest_plugins = ("support.apiserver", "support.seaweed")

SHOWN = 5
"""Failures that the command which repeats them names."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the seed of each run, and after a failure the command that repeats it with the same seed."""
    terminalreporter.write_line(f"SEED={SEED} SAMPLE_EVERY={SAMPLE_EVERY}")
    failed = [report.nodeid for report in terminalreporter.stats.get("failed", ())]
    if failed:
        tests = shlex.join(failed[:SHOWN])
        command = f"SEED={SEED} SAMPLE_EVERY={SAMPLE_EVERY} .venv/bin/python -m pytest {tests}"
        terminalreporter.write_line(f"repeat it by: {command}")
