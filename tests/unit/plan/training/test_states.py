"""Each row of the status table, and how a TrainingJob gets there and leaves."""

from __future__ import annotations

from datetime import timedelta

import pytest

from slipway.api.kinds import SERVICE, key_of
from slipway.plan.observation import Observation, Snapshot
from slipway.plan.plan import Plan
from slipway.plan.training import plan_training
from support.builders import (
    SETTINGS,
    T0,
    artifact,
    failed,
    pool,
    resource,
    store,
    stored_data,
    succeeded,
    training_job,
)
from support.training import TrainingWorld, row, tasks_of

BUILT_IN = [{"name": "train", "dataset": "digits"}]


def test_a_job_that_starts_is_pending_until_its_pods_run() -> None:
    world = TrainingWorld(nodes=2).plan()
    assert row(world) == ("Pending", {"Reconciling"})
    assert world.says("Ready") == "False Starting: attempt 1: waits for its 2 pods to run"
    assert world.status(world.key)["observedGeneration"] == 1


@pytest.mark.parametrize(
    ("missing", "reason", "names"),
    [
        ("store", "StoreNotFound", '"default"'),
        ("readiness", "StoreNotReady", '"default"'),
        ("pool", "PoolNotFound", '"h100"'),
    ],
    ids=["the store", "the store's claim", "the pool"],
)
def test_what_the_spec_names_is_waited_for(missing: str, reason: str, names: str) -> None:
    world = TrainingWorld(pool(), pools=["h100"])
    there = {"store": store(), "pool": pool()}
    if missing == "readiness":
        world.put(store(ready=False))
    else:
        world.remove(key_of(there[missing]))
    world.plan()
    assert row(world) == ("Pending", {"Reconciling"})
    assert reason in world.says("Reconciling")
    assert names in world.says("Ready")
    assert world.writes == [("status", "TrainingJob", "digits")]
    assert world.wake_at is not None
    world.put(store())
    world.put(pool())
    assert world.plan().training_jobs()


def test_data_are_prepared_before_the_first_attempt() -> None:
    world = TrainingWorld(data=[*BUILT_IN, {"name": "test", "dataset": "digits", "split": "test"}]).plan()
    assert row(world) == ("Pending", {"Reconciling"})
    assert world.says("Ready").startswith("False PreparingData")
    assert tasks_of(world) == ["prepare", "prepare"]
    world.step()
    world.plan()
    assert len(world.training_jobs()) == 1
    assert [one["name"] for one in world.status(world.key)["data"]] == ["train", "test"]


def test_data_sets_of_one_content_are_prepared_by_one_job() -> None:
    world = TrainingWorld(data=[*BUILT_IN, {**BUILT_IN[0], "name": "again"}]).plan()
    assert tasks_of(world) == ["prepare"]
    world.step()
    world.plan()
    assert len(world.training_jobs()) == 1


def test_suspended_from_the_start_nothing_is_made() -> None:
    world = TrainingWorld(suspend=True, data=BUILT_IN).plan()
    assert row(world) == ("Suspended", set())
    assert world.says("Ready").startswith("False Suspended")
    assert world.writes == [("status", "TrainingJob", "digits")]
    assert world.events == []


def test_running_when_all_pods_run() -> None:
    world = TrainingWorld(nodes=2).plan()
    world.pod_is(0).plan()
    assert row(world) == ("Pending", {"Reconciling"})
    world.pods_run()
    assert row(world) == ("Running", {"Reconciling", "Running"})
    assert world.status(world.key)["workers"] == "2/2"
    assert "runningAt" in world.attempts[0]


def test_between_attempts_the_cause_is_shown() -> None:
    world = TrainingWorld(nodes=2).plan().pods_run().fails("no such file", rank=1)
    assert row(world) == ("Restarting", {"Reconciling"})
    assert world.says("Running") == (
        "False Error: attempt 1 failed: rank 1 (pod 1): ValueError: no such file (exit code 1)"
    )
    assert "attempt 2 starts at 12:00:10 UTC" in world.says("Reconciling")
    assert "workers" not in world.status(world.key)
    world.passes(seconds=10)
    assert row(world) == ("Restarting", {"Reconciling"})
    assert world.says("Running").startswith("False Error")
    world.pods_run()
    assert row(world) == ("Running", {"Reconciling", "Running"})


def test_done() -> None:
    world = TrainingWorld(nodes=2).plan().pods_run().succeeds()
    assert row(world) == ("Succeeded", {"Ready", "Complete"})
    status = world.status(world.key)
    assert status["artifact"]["digest"] in world.says("Complete")
    assert status["metrics"] == {"loss": 0.1}
    assert status["finishedAt"] == "2026-03-01T12:00:00Z"
    assert world.events[-1][:2] == ("Normal", "Succeeded")


def test_given_up_when_the_restarts_are_spent() -> None:
    world = TrainingWorld(nodes=2, restarts={"max": 1}).plan().fails("first").passes(seconds=10).fails("second", rank=1)
    assert row(world) == ("Failed", {"Stalled", "Failed"})
    said = world.says("Failed")
    assert said.startswith("True RestartsExhausted")
    assert "rank 1 (pod 1): ValueError: second (exit code 1)" in said
    assert said.endswith(
        "restart limit reached (spec.restarts.max: 1); fix the cause, then delete and re-create the TrainingJob"
    )
    assert world.status(world.key)["restarts"] == 2
    assert [event[1] for event in world.events] == ["AttemptFailed", "AttemptStarted", "RestartsExhausted"]


def test_given_up_at_the_deadline_while_pods_run() -> None:
    world = TrainingWorld(activeDeadline="1h").plan().pods_run()
    assert world.wake_at == T0 + timedelta(hours=1)
    world.passes(minutes=59)
    assert world.phase == "Running"
    world.passes(minutes=1)
    assert row(world) == ("Failed", {"Stalled", "Failed"})
    assert world.says("Failed").startswith("True DeadlineExceeded: spec.activeDeadline (1h) exceeded")
    assert world.attempts[0]["outcome"] == "Cancelled"
    assert world.training_jobs() == []


def test_the_deadline_counts_suspended_time_and_waiting_for_a_restart() -> None:
    suspended = TrainingWorld(activeDeadline="1h").plan().edits(suspend=True).passes(hours=1)
    assert suspended.says("Failed").startswith("True DeadlineExceeded")
    waiting = TrainingWorld(activeDeadline="1h", restarts={"backoff": "40m"}).plan().fails()
    waiting.passes(minutes=50).fails("again").passes(minutes=10)
    assert waiting.says("Failed").startswith("True DeadlineExceeded")
    assert "ValueError: again" in waiting.says("Failed")


def test_an_attempt_that_has_ended_well_is_done_even_when_it_is_seen_after_the_deadline() -> None:
    world = TrainingWorld(activeDeadline="1h").plan().pods_run()
    world.now += timedelta(hours=2)
    assert row(world.succeeds()) == ("Succeeded", {"Ready", "Complete"})


def test_data_that_cannot_be_prepared_fail_the_job_with_the_cause() -> None:
    world = TrainingWorld(data=BUILT_IN).plan().task_ends(failed("no space left", exception="OSError", rank=None))
    assert row(world) == ("Failed", {"Stalled", "Failed"})
    assert world.says("Stalled") == (
        "True PrepareFailed: spec.data[train]: step prepare-train failed: OSError: no space left;"
        " see the log of its pod"
    )
    assert "finishedAt" not in world.status(world.key)


def test_data_that_the_store_refused_are_prepared_again_and_the_job_says_so() -> None:
    denied = failed("access is denied; give the key the right to write", exception="StoreError", rank=None)
    world = TrainingWorld(data=BUILT_IN).plan().task_ends(denied)
    assert world.says("Stalled").endswith("right to write; Slipway retries within 16 minutes")
    world.passes(minutes=1)
    assert row(world) == ("Pending", {"Reconciling"})
    assert tasks_of(world) == ["prepare"]


def test_a_new_runtime_image_prepares_again_what_an_old_one_could_not() -> None:
    world = TrainingWorld(data=BUILT_IN).plan().task_ends(failed("a defect"))
    world.settings = type(SETTINGS)(runtime_image="registry.example/slipway-runtime:2", serving_image="x")
    world.plan()
    assert world.phase == "Pending"
    assert tasks_of(world) == ["prepare"]


def test_an_image_of_the_users_is_sealed_after_it_has_succeeded() -> None:
    world = TrainingWorld(image="mine:1", entrypoint={"module": {"name": "mine.train"}}).plan().pods_run()
    world.succeeds({"their": "words"})
    assert row(world) == ("Running", {"Reconciling", "Running"})
    assert world.says("Running").startswith("True Sealing")
    assert tasks_of(world) == ["seal"]
    world.task_ends(succeeded(artifact("sealed", folder="training/uid-of-digits/1"), {"accuracy": 0.9}))
    assert row(world) == ("Succeeded", {"Ready", "Complete"})
    assert world.status(world.key)["artifact"] == artifact("sealed", folder="training/uid-of-digits/1")
    assert world.status(world.key)["metrics"] == {"accuracy": 0.9}


def test_an_output_that_cannot_be_sealed_fails_the_job_with_the_cause() -> None:
    world = TrainingWorld(image="mine:1", entrypoint={"module": {"name": "mine.train"}}).plan().pods_run().succeeds()
    world.task_ends(failed("the output folder is empty", exception="ArtifactError", rank=None))
    assert row(world) == ("Failed", {"Stalled", "Failed"})
    assert "SealFailed: spec.entrypoint: step seal failed: ArtifactError" in world.says("Stalled")
    assert len(world.attempts) == 1


def test_a_name_that_another_owns_is_never_taken_over_and_leaves_with_its_cause() -> None:
    name = TrainingWorld(nodes=2).plan().peers
    theirs = resource(SERVICE, name, clusterIP="10.0.0.1")
    world = TrainingWorld(theirs, nodes=2).plan()
    assert row(world) == ("Failed", {"Stalled", "Failed"})
    assert world.says("Stalled").startswith(f"True NameConflict: metadata.name: Service {name} exists")
    assert world.training_jobs() == []
    assert world.events == [("Warning", "NameConflict", world.says("Stalled").removeprefix("True NameConflict: "))]
    assert world.objects[key_of(theirs)]["spec"] == theirs["spec"]
    world.remove(key_of(theirs))
    assert row(world.passes(minutes=1)) == ("Pending", {"Reconciling"})
    assert world.training_jobs() == [f"{name}-1"]
    assert len(world.attempts) == 1


def test_a_spec_that_an_older_crd_let_in_is_refused_by_its_field() -> None:
    world = TrainingWorld(data=[stored_data("train"), {"name": "test"}]).plan()
    assert row(world) == ("Failed", {"Stalled", "Failed"})
    assert "InvalidSpec: spec.data[1]: exactly one of dataset, stored must be set" in world.says("Stalled")


def test_a_job_that_is_being_deleted_is_left_to_the_garbage_collector() -> None:
    going = training_job()
    going["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    assert plan_training(going, Observation(Snapshot([store()]), SETTINGS, T0)) == Plan()


def test_conditions_flip_only_when_they_change() -> None:
    world = TrainingWorld().plan().passes(minutes=5).pods_run().passes(minutes=5).succeeds()
    moved = {one["type"]: one["lastTransitionTime"][11:16] for one in world.status(world.key)["conditions"]}
    assert moved == {
        "Ready": "12:10",
        "Reconciling": "12:10",
        "Stalled": "12:00",
        "Running": "12:10",
        "Complete": "12:10",
        "Failed": "12:00",
    }


def test_an_edit_after_the_end_is_observed_and_changes_nothing_else() -> None:
    world = TrainingWorld().plan().pods_run().succeeds()
    before = world.status(world.key)
    world.edits(suspend=True)
    after = world.status(world.key)
    assert after["observedGeneration"] == 2
    assert {one["observedGeneration"] for one in after["conditions"]} == {2}
    assert (after["phase"], after["attempts"]) == (before["phase"], before["attempts"])


@pytest.mark.parametrize("spec", [True, {"persistentVolumeClaim": True}, {"persistentVolumeClaim": {"claimName": [1]}}])
def test_a_store_that_cannot_be_read_holds_up_no_job_that_uses_another(spec: object) -> None:
    odd = store("odd")
    odd["spec"] = spec
    assert TrainingWorld(odd).plan().training_jobs()
