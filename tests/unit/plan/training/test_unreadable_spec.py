"""A spec that no longer can be read: an attempt that runs is followed to its end all the same, and none follows it."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import artifact
from support.training import TrainingWorld

DEEP: list[Any] = []
for _ in range(200):
    DEEP = [DEEP]
UNREADABLE: dict[str, dict[str, Any]] = {
    "a number that is a text": {"restarts": {"max": "many"}},
    "a number beyond any": {"processesPerNode": 2**70},
    "an entrypoint of another kind": {"entrypoint": {"notebook": "train.ipynb"}},
    "parameters too deep": {"entrypoint": {"recipe": {"name": "classifier", "params": {"deep": DEEP}}}},
    "an image that is a list": {"image": ["mine:1"]},
}


each = pytest.mark.parametrize("spec", UNREADABLE.values(), ids=UNREADABLE.keys())


@each
def test_an_attempt_that_runs_is_reported_while_the_spec_is_unreadable(spec: dict[str, Any]) -> None:
    world = TrainingWorld(nodes=2).plan().edits(**spec)
    assert world.truths()["Stalled"]
    assert not world.truths()["Running"]
    world.pods_run()
    assert world.says("Running").startswith("True")
    assert world.says("Stalled").startswith("True InvalidSpec: spec.")
    assert world.status(world.key)["workers"] == "2/2"


def test_a_success_is_told_though_the_spec_is_unreadable() -> None:
    world = TrainingWorld().plan().pods_run().edits(restarts={"max": "many"})
    world.succeeds()
    assert world.phase == "Succeeded"
    assert world.status(world.key)["artifact"] == artifact("trained", folder="training/uid-of-digits/1")


@each
def test_a_failure_is_recorded_and_no_attempt_follows_until_the_spec_is_corrected(spec: dict[str, Any]) -> None:
    world = TrainingWorld(nodes=2).plan().pods_run().edits(**spec).fails().passes(minutes=30)
    assert [(one["outcome"], one["failure"]["exception"]) for one in world.attempts] == [("Failed", "ValueError")]
    assert world.status(world.key)["restarts"] == 1
    assert world.says("Stalled").startswith("True InvalidSpec: spec.")
    assert not world.truths()["Running"]
    before = TrainingWorld(nodes=2).objects
    readable = next(obj for key, obj in before.items() if key == world.key)["spec"]
    world.edits(**{name: readable.get(name) for name in spec}).passes(minutes=30)
    assert len(world.attempts) == 2


def test_a_suspended_job_is_ended_though_another_field_is_unreadable() -> None:
    world = TrainingWorld().plan().pods_run().edits(suspend=True, restarts={"max": "many"})
    assert world.attempts[-1]["outcome"] == "Suspended"
    assert world.training_jobs() == []


def test_an_unreadable_egress_opens_no_policy() -> None:
    world = TrainingWorld(nodes=2, egress="restricted").plan().pods_run()
    (policy,) = [obj for key, obj in world.objects.items() if key.kind.kind == "NetworkPolicy"]
    world.edits(egress=["open"])
    (after,) = [obj for key, obj in world.objects.items() if key.kind.kind == "NetworkPolicy"]
    assert after["spec"] == policy["spec"]
