"""The seed of all tests that draw by chance: SEED, else the commit, so that each commit tries another sample."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
DIGITS = 6
"""Hexadecimal digits of the commit that make a seed: a number that a person can copy."""


def _seed_of_commit() -> int:
    """0 in a checkout without git, for example an archive of the sources."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, check=True, text=True
        )
    except (subprocess.CalledProcessError, FileNotFoundError):
        return 0
    return int(head.stdout[:DIGITS], 16)


SEED = int(os.environ.get("SEED") or _seed_of_commit())
SAMPLE_EVERY = int(os.environ.get("SAMPLE_EVERY", "8"))
"""Sampling rate: one in N cases is tried; 1 for all of them (`make soak`)."""


def sample(items: Sequence[T], *, seed: int = SEED, every: int = SAMPLE_EVERY) -> Sequence[T]:
    """One in `every` of the items, and at least one; the seed says which."""
    return items[seed % min(every, len(items) or 1) :: every]
