"""A TrainingJob whose task is too long for a variable, and which tells by its end what it was given."""

from __future__ import annotations

from hashlib import sha256

from support.manifests import Object, script_training

WORDS = ("--home=$(HOME)", "$$", "$$(HOME)", '"', *["\U0001f600" * 1000] * 17)
"""Arguments that take 204 kB as JSON."""
_SCRIPT = """
import hashlib, os, sys, time

if os.environ["RANK"] == "0":
    raise ValueError("given " + hashlib.sha256(repr(sys.argv[1:]).encode()).hexdigest())
time.sleep(60)
"""


def long_training(name: str) -> tuple[Object, Object]:
    """Two pods run a script with WORDS; rank 0 raises the error that `was_given` knows."""
    script = {"path": "/code/train.py", "args": list(WORDS)}
    return script_training(name, _SCRIPT, entrypoint={"script": script})


def was_given(job: Object) -> bool:
    """Return True if the script of the TrainingJob found the very words."""
    failure = job["status"]["attempts"][-1]["failure"]
    return bool(failure["message"] == f"given {sha256(repr(list(WORDS)).encode()).hexdigest()}")
