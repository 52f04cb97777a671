"""Determinism: equal seeds give equal bits, on equal hardware."""

from __future__ import annotations

import os
import random

import numpy as np


def make_deterministic(seed: int, *, strict: bool, with_torch: bool = True) -> None:
    """Seed every generator and choose deterministic algorithms.

    strict: one thread, and an error for an operation that has no deterministic form; otherwise a warning.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # libraries use the global generator
    if not with_torch:
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=not strict)
    if strict:
        torch.set_num_threads(1)  # sums are split by threads, and a container sees all cores of its node
