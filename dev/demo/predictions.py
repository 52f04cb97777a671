"""`slipway predict` on all held-out digits."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def asked(arguments: Sequence[str]) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """One sample a request: what `slipway predict` says, and the raw outputs [N, classes].

    arguments: which server, and how. Raises CalledProcessError.
    """
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "outputs.npy"
        command = ["slipway", "predict", *arguments, "--dataset", "digits", "--split", "test"]
        options = ["--save", str(saved), "--output", "json"]
        done = subprocess.run([*command, *options], check=True, stdout=subprocess.PIPE, timeout=300)
        return json.loads(done.stdout), np.load(saved, allow_pickle=False)
