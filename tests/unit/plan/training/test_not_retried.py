"""Failures that no other attempt cures end the job at once, and it says why."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.api.kinds import Object
from support.builders import failed, pod
from support.training import TrainingWorld, row

MINE = {"image": "mine:1", "entrypoint": {"script": {"path": "/train.py"}}}
SUMMARY = """Traceback (most recent call last):
  File "/train.py", line 3, in <module>
    import tensorboardX
ModuleNotFoundError: No module named 'tensorboardX'
============================================================
Root Cause (first observed failure):
[0]:
  time      : 2026-03-01_12:00:00
  rank      : 0 (local_rank: 0)
  exitcode  : 1 (pid: 17)
  error_file: <N/A>
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
"""
NO_SCRIPT = """/usr/bin/python3: can't open file '/train.py': [Errno 2] No such file or directory
E0301 12:00:00 failed (exitcode: 2) local_rank: 0 (pid: 17) of binary: /usr/bin/python3
Root Cause (first observed failure):
[0]:
  rank      : 0 (local_rank: 0)
  exitcode  : 2 (pid: 17)
"""
NO_MODULE = """/usr/bin/python3: No module named mine.train
Root Cause (first observed failure):
[0]:
  rank      : 0 (local_rank: 0)
  exitcode  : 1 (pid: 17)
"""


def ended(world: TrainingWorld, exit_code: int, message: Any = None, **terminated: Any) -> TrainingWorld:
    world.pod_is(0, exit_code=exit_code, message=message, **terminated)
    return world.job_says("Failed", "BackoffLimitExceeded")


def not_retried(world: TrainingWorld) -> str:
    """What is said of a job that has ended at its first attempt, which used up no restart."""
    assert row(world) == ("Failed", {"Stalled", "Failed"})
    assert len(world.attempts) == 1
    assert world.status(world.key)["restarts"] == 0
    kind, _, said = world.says("Failed").removeprefix("True ").partition(": ")
    assert kind == "NotRetried"
    assert said.endswith("; fix the cause, then delete and re-create the TrainingJob")
    return said


@pytest.mark.parametrize(
    "exception",
    [
        *("SpecError", "ArtifactError", "OutputError", "PluginError", "ContractError"),
        *("ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError"),
    ],
)
def test_what_every_attempt_would_raise_again_is_not_retried(exception: str) -> None:
    world = TrainingWorld(nodes=1).plan().pods_run()
    said = not_retried(ended(world, 1, failed("no such optimizer", exception=exception)))
    assert (
        f"{exception}: no such optimizer (exit code 1); not retried, because {exception} would be raised again" in said
    )


@pytest.mark.parametrize(
    ("log", "names"),
    [
        (SUMMARY, "ModuleNotFoundError: No module named 'tensorboardX'"),
        (NO_SCRIPT, "/train.py"),
        (NO_MODULE, "mine.train"),
    ],
    ids=["a missing package", "a missing script", "a missing module"],
)
def test_the_same_of_a_users_image_is_read_from_its_log(log: str, names: str) -> None:
    world = TrainingWorld(**MINE).plan().pods_run()
    assert names in not_retried(ended(world, 1, log))


@pytest.mark.parametrize(("code", "why"), [(126, "cannot be executed"), (127, "is not in the image")])
def test_a_command_that_the_image_does_not_have_is_not_retried(code: int, why: str) -> None:
    world = TrainingWorld(**MINE).plan().pods_run()
    assert why in not_retried(ended(world, code, "exec: torchrun: not found"))


def test_a_process_that_cannot_be_started_for_want_of_its_file_is_not_retried() -> None:
    words = 'exec: "/bin/sh": stat /bin/sh: no such file or directory: unknown'
    world = TrainingWorld(**MINE).plan()
    assert words in not_retried(ended(world, 128, words, reason="StartError"))


def test_a_process_that_its_node_could_not_start_is_retried() -> None:
    world = TrainingWorld(**MINE).plan()
    ended(world, 128, "nvidia-container-cli: initialization error: driver rpc error: timed out", reason="StartError")
    assert (world.phase, world.attempts[0]["failure"]["reason"]) == ("Restarting", "StartError")


def test_an_image_whose_name_is_none_ends_the_job_though_its_pod_waits_for_ever() -> None:
    world = TrainingWorld(**MINE).plan()
    waits = pod(world.job(), phase="Pending")
    state = {"waiting": {"reason": "InvalidImageName", "message": 'couldn\'t parse image name "Mine:1"'}}
    waits["status"]["containerStatuses"] = [{"name": "main", "state": state}]
    world.put(waits)
    said = not_retried(world.plan())
    assert "couldn't parse image name" in said
    assert world.training_jobs() == []


NEVER = {"exitCodes": [42], "exceptions": ["BadConfig"]}


@pytest.mark.parametrize(
    ("report", "code", "why"),
    [
        (failed("bad", exception="BadConfig"), 1, 'spec.restarts.never.exceptions names "BadConfig"'),
        (failed("gave up", exception="SystemExit", code=42), 42, "spec.restarts.never.exitCodes names 42"),
        (None, 42, "spec.restarts.never.exitCodes names 42"),
    ],
    ids=["an exception", "an exit code of a worker", "an exit code of a pod"],
)
def test_what_the_user_names_is_not_retried(report: Object | None, code: int, why: str) -> None:
    world = TrainingWorld(restarts={"never": NEVER}).plan().pods_run()
    assert f"not retried, because {why}" in not_retried(ended(world, code, report))


def test_what_the_user_names_takes_nothing_from_preemption() -> None:
    world = TrainingWorld(restarts={"never": {"exitCodes": [143], "exceptions": ["SIGTERM"]}}).plan().pods_run()
    world.pod_is(0, exit_code=143, message=failed("asked to end", exception="SIGTERM", rank=None, code=143))
    world.job_says("Failed", "PodFailurePolicy")
    assert world.phase == "Restarting"


@pytest.mark.parametrize(
    "exception", ["ValueError", "RuntimeError", "FileNotFoundError", "OutOfMemoryError", "StoreError"]
)
def test_other_failures_are_retried(exception: str) -> None:
    world = TrainingWorld().plan().pods_run()
    ended(world, 1, failed("boom", exception=exception))
    assert (world.phase, world.status(world.key)["restarts"]) == ("Restarting", 1)
