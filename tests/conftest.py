"""Fixtures that several suites share, and the seed that repeats a run."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from support.seed import SAMPLE_EVERY, SEED

pytest_plugins = ("support.apiserver", "support.seaweed")

LONGEST_FILES = (
    "integration/test_local_run.py",
    "integration/test_store_chain.py",
    "integration/test_runtime_train.py",
    "integration/test_leadership.py",
    "integration/test_api_faults.py",
    "integration/test_bucket_faults.py",
    "contract/test_plugins.py",
)
"""They run first, the longest at the head: a worker that began one last would end minutes after the others."""
SHOWN = 5
"""Failures that the command which repeats them names."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the seed of each run, and after a failure the command that repeats it with the same seed."""
    terminalreporter.write_line(f"SEED={SEED} SAMPLE_EVERY={SAMPLE_EVERY}")
    failed = [report.nodeid for report in terminalreporter.stats.get("failed", ())]
    if failed:
        tests = shlex.join(failed[:SHOWN])
        command = f"SEED={SEED} SAMPLE_EVERY={SAMPLE_EVERY} .venv/bin/python -m pytest {tests}"
        terminalreporter.write_line(f"repeat it by: {command}")
