"""Attempts that do not find their data in the store: it is prepared again, or the user is asked for it."""

from __future__ import annotations

from typing import Any

from support.builders import DIGEST, failed
from support.training import TrainingWorld, row, tasks_of

BUILT_IN = [{"name": "train", "dataset": "digits"}, {"name": "test", "dataset": "digits", "split": "test"}]


def prepared(**spec: Any) -> TrainingWorld:
    world = TrainingWorld(data=BUILT_IN, **spec).plan()
    world.step()
    return world.plan()


def digest_of(world: TrainingWorld, name: str) -> str:
    return str(next(one for one in world.steps() if one["name"] == name)["artifact"]["digest"])


def misses(world: TrainingWorld, digest: str | None) -> TrainingWorld:
    report = failed("there is no artifact at steps/x", exception="InputMissing", rank=None, at=world.now)
    if digest is not None:
        report["error"]["missing"] = digest
    world.pods_run().pod_is(0, exit_code=1, message=report)
    return world.job_says("Failed", "BackoffLimitExceeded")


def waits(world: TrainingWorld) -> TrainingWorld:
    assert world.wake_at is not None
    return world.passes(seconds=(world.wake_at - world.now).total_seconds())


def test_prepared_data_that_the_store_has_lost_is_prepared_again_and_the_attempt_does_not_count() -> None:
    world = prepared(restarts={"max": 0})
    misses(world, digest_of(world, "prepare-train"))
    assert world.attempts[0]["outcome"] == "InputMissing"
    assert "attempt 1 did not find an input: there is no artifact at steps/x" in world.says("Running")
    waits(world)
    assert (world.says("Ready").split(":")[0], tasks_of(world)) == ("False PreparingData", ["prepare"])
    world.step()
    world.plan()
    assert len(world.attempts) == 2
    assert row(world.pods_run().succeeds()) == ("Succeeded", {"Ready", "Complete"})
    assert world.status(world.key)["restarts"] == 0


def test_where_the_pod_does_not_say_what_is_missing_all_data_is_prepared_again() -> None:
    world = misses(prepared(), None)
    assert tasks_of(waits(world)) == ["prepare", "prepare"]


def test_data_that_is_lost_each_time_ends_the_job_in_the_end() -> None:
    world = prepared(restarts={"max": 0})
    for _ in range(20):
        misses(world, digest_of(world, "prepare-train"))
        if world.phase == "Failed":
            break
        waits(world)
        world.step()
        world.plan()
    assert len(world.attempts) == 6
    assert world.says("Failed").startswith("True InputMissing: attempt 6 did not find an input: there is no artifact")


def test_stored_data_that_is_missing_is_asked_for_by_its_field_and_looked_for_again() -> None:
    world = TrainingWorld(restarts={"max": 0}).plan()
    misses(world, DIGEST)
    assert row(world) == ("Failed", {"Stalled", "Failed"})
    assert world.says("Stalled").startswith(
        "True InputMissing: spec.data[train].stored: attempt 1 did not find an input"
    )
    assert "finishedAt" not in world.status(world.key)
    assert len(waits(world).attempts) == 2
    assert row(world.pods_run().succeeds()) == ("Succeeded", {"Ready", "Complete"})
