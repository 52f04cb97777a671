"""Attempts: their records, when one follows another, and what remains of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from slipway.api.kinds import JOB, NETWORK_POLICY, SERVICE, Key, key_of
from support.builders import NAMESPACE, artifact, failed, pod, pool, store, succeeded, wire_time
from support.training import TrainingWorld, row, tasks_of


def disrupted(world: TrainingWorld) -> dict[str, str]:
    return {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": "preempted by a pod of higher priority",
        "lastTransitionTime": wire_time(world.now),
    }


# --- Intent, then the children, then the UID ---------------------------------------------------------------------


def test_the_intent_is_written_before_its_job_is_made_and_the_uid_after() -> None:
    world = TrainingWorld(nodes=2).plan()
    name = world.attempts[0]["job"]
    assert world.writes == [
        ("apply", "Service", world.peers),
        ("apply", "NetworkPolicy", world.peers),
        ("status", "TrainingJob", "digits"),
        ("create", "Job", name),
        ("status", "TrainingJob", "digits"),
    ]
    assert world.attempts[0]["jobUID"] == world.job()["metadata"]["uid"]


def test_all_attempts_on_several_nodes_share_one_service_and_one_policy() -> None:
    world = TrainingWorld(nodes=2, restarts={"max": 9}).plan().fails().passes(minutes=1).fails().passes(minutes=1)
    made = [write for write in world.writes if write[1] in ("Service", "NetworkPolicy")]
    assert made == [("apply", "Service", world.peers), ("apply", "NetworkPolicy", world.peers)]
    world.pods_run().succeeds()
    assert world.networks() == [world.peers]


def test_one_node_needs_neither_and_gets_them_with_its_second() -> None:
    world = TrainingWorld(nodes=1).plan().pods_run()
    assert world.networks() == []
    world.edits(nodes=2)
    world.fails().passes(minutes=1)
    assert world.networks() == [world.peers]


def test_the_pool_is_chosen_when_the_attempt_is_decided() -> None:
    world = TrainingWorld(pool(resource={"name": "nvidia.com/gpu", "perPod": 4}), pools=["h100"]).plan()
    assert (world.attempts[0]["pool"], world.attempts[0]["processesPerNode"]) == ("h100", 4)


@pytest.mark.parametrize(
    ("spec", "processes"), [({}, 1), ({"processesPerNode": 3}, 3), ({"pools": ["h100"], "processesPerNode": 2}, 2)]
)
def test_workers_a_pod(spec: dict[str, Any], processes: int) -> None:
    assert TrainingWorld(pool(), **spec).plan().attempts[0]["processesPerNode"] == processes


def test_references_that_vanish_after_the_start_do_not_disturb_the_attempt() -> None:
    world = TrainingWorld(pool(), pools=["h100"], nodes=2).plan()
    world.remove(key_of(store()))
    world.remove(key_of(pool()))
    world.pods_run()
    assert row(world) == ("Running", {"Reconciling", "Running"})
    assert row(world.succeeds()) == ("Succeeded", {"Ready", "Complete"})


def test_an_intent_whose_pool_vanished_waits_for_it() -> None:
    world = TrainingWorld(pool(), pools=["h100"])
    world.settle(world.key, crash_after=1)
    world.remove(key_of(pool()))
    world.plan()
    assert "PoolNotFound" in world.says("Reconciling")
    world.put(pool())
    assert len(world.plan().attempts) == 1
    assert len(world.training_jobs()) == 1


def test_service_and_policy_are_kept_as_they_should_be_while_the_attempt_is_open() -> None:
    world = TrainingWorld(nodes=2).plan().pods_run()
    name = world.peers
    world.remove(Key(SERVICE, NAMESPACE, name))
    world.edit(Key(NETWORK_POLICY, NAMESPACE, name), lambda spec: spec.update(ingress=[{}]))
    world.plan()
    assert world.networks() == [name]
    assert world.objects[Key(NETWORK_POLICY, NAMESPACE, name)]["spec"]["ingress"] != [{}]


# --- Ends --------------------------------------------------------------------------------------------------------


def test_the_first_failing_rank_is_recorded() -> None:
    world = TrainingWorld(nodes=2).plan().pods_run()
    world.pod_is(0, exit_code=1, message=failed("peer", exception="PeerLost", rank=0, at=world.now))
    late = world.now + timedelta(seconds=1)
    world.pod_is(1, exit_code=1, message=failed("no label 11", rank=1, at=late), at=late).job_says("Failed")
    assert world.attempts[0]["outcome"] == "Failed"
    assert world.attempts[0]["failure"] == {
        "reason": "Error",
        "index": 1,
        "rank": 1,
        "exception": "ValueError",
        "message": "no label 11",
        "exitCode": 1,
    }


def test_a_long_message_from_a_pod_fits_the_status() -> None:
    world = TrainingWorld(restarts={"max": 0}).plan().fails("x" * 1024)
    assert len(world.attempts[0]["failure"]["message"]) == 1024
    assert len(world.says("Failed")) < 2100


def test_restarts_back_off_twice_as_long_each_time_up_to_an_hour() -> None:
    world = TrainingWorld(restarts={"max": 20, "backoff": "10s"}).plan()
    waits = []
    for _ in range(12):
        world.fails()
        assert world.wake_at is not None
        waits.append((world.wake_at - world.now).total_seconds())
        world.passes(seconds=waits[-1] - 1)
        assert world.phase == "Restarting"
        assert world.attempts[-1]["outcome"] == "Failed"
        world.passes(seconds=1)
    assert waits == [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600]
    assert world.status(world.key)["restarts"] == 12
    assert world.attempts[-1]["number"] == 13


def test_a_preempted_attempt_is_not_counted_and_followed_after_a_while() -> None:
    world = TrainingWorld(nodes=2, restarts={"max": 0}).plan().pods_run()
    world.pod_is(1, exit_code=143).job_says("Failed", "PodFailurePolicy")
    assert world.attempts[0]["outcome"] == "Preempted"
    assert world.status(world.key)["restarts"] == 0
    assert len(world.attempts) == 1
    world.passes(seconds=10)
    assert len(world.attempts) == 2
    assert row(world) == ("Restarting", {"Reconciling"})
    assert world.says("Running").startswith("False Preempted: attempt 1 was preempted")


def test_a_preempted_attempt_counts_where_the_user_says_so() -> None:
    world = TrainingWorld(restarts={"max": 0, "ignorePreemption": False}).plan().pods_run()
    world.job_says("Failed", "PodFailurePolicy")
    assert row(world) == ("Failed", {"Stalled", "Failed"})
    assert "attempt 1 was preempted" in world.says("Failed")


def test_preemption_is_remembered_though_the_other_pods_fail_of_it_first_and_the_pod_is_gone() -> None:
    world = TrainingWorld(nodes=2, restarts={"max": 0}).plan().pods_run()
    world.pod_is(1, conditions=(disrupted(world),)).plan()
    world.now += timedelta(seconds=1)
    world.pod_is(0, exit_code=1, message=failed("boom", rank=0, at=world.now))
    world.remove(key_of(pod(world.job(), 1)))
    world.job_says("Failed", "BackoffLimitExceeded")
    assert world.attempts[0]["outcome"] == "Preempted"
    assert world.attempts[0]["failure"]["message"] == "PreemptionByScheduler: preempted by a pod of higher priority"


def test_an_attempt_that_succeeds_in_spite_of_a_disruption_has_succeeded() -> None:
    world = TrainingWorld().plan().pods_run()
    world.pod_is(0, conditions=(disrupted(world),)).plan()
    world.succeeds()
    assert world.phase == "Succeeded"
    assert "failure" not in world.attempts[0]


def test_a_job_that_cannot_end_because_a_node_is_lost_is_given_up_after_a_while() -> None:
    world = TrainingWorld(nodes=2).plan().pods_run()
    world.pod_is(0, exit_code=1, message=failed("lost", exception="PeerLost", rank=0, at=world.now))
    world.job_says("FailureTarget")
    assert world.phase == "Running"
    assert world.wake_at == world.now + timedelta(seconds=120)
    world.passes(seconds=120)
    assert world.phase == "Restarting"
    assert world.attempts[0]["outcome"] == "NodeLost"
    assert world.attempts[0]["failure"]["message"].endswith(
        "-1-xxxx1 does not end, though its Job has failed; the others: PeerLost"
    )
    assert world.status(world.key)["restarts"] == 0


# --- Reports of pods that are gone -------------------------------------------------------------------------------


def test_the_report_of_a_job_that_vanished_is_read_from_the_store() -> None:
    world = TrainingWorld().plan().pods_run().vanishes()
    assert world.phase == "Running"
    assert tasks_of(world) == ["recover"]
    assert world.attempts[0]["recoveries"] == 1
    trained = artifact("trained", folder="training/uid-of-digits/1")
    world.task_ends(succeeded(trained))
    assert row(world) == ("Succeeded", {"Ready", "Complete"})
    assert world.status(world.key)["artifact"] == trained


@pytest.mark.parametrize("elsewhere", ["steps/" + "a" * 64, "training/uid-of-digits/10", "training/uid-of-digits/1x"])
def test_an_artifact_outside_of_the_attempts_own_folder_fails_the_attempt(elsewhere: str) -> None:
    """What reads the artifact next would mount whatever folder the report names."""
    world = TrainingWorld().plan().pods_run().succeeds(succeeded(artifact("x", folder=elsewhere)))
    assert world.attempts[0]["outcome"] == "Failed"
    assert f"store:///{elsewhere}/x, outside of its own folder" in world.attempts[0]["failure"]["message"]


def test_a_vanished_job_without_a_whole_report_is_lost_and_counts() -> None:
    world = TrainingWorld().plan().pods_run().vanishes()
    world.task_ends({"outcome": "none", "at": wire_time(world.now)})
    assert world.attempts[0]["failure"]["reason"] == "Lost"
    assert world.status(world.key)["restarts"] == 1
    assert world.says("Running").startswith("False Lost")


def test_a_job_whose_pods_are_gone_has_its_report_read_from_the_store_once_they_might_have_been_observed() -> None:
    world = TrainingWorld().plan().pods_run()
    world.remove(key_of(pod(world.job())))
    world.job_says("Complete").passes(seconds=29)
    assert tasks_of(world) == []
    assert tasks_of(world.passes(seconds=1)) == ["recover"]


@pytest.mark.parametrize("spec", [{}, {"image": "mine:1", "entrypoint": {"module": {"name": "mine"}}}])
def test_a_job_that_is_seen_to_end_before_its_pods_is_closed_by_what_they_say(spec: dict[str, object]) -> None:
    world = TrainingWorld(restarts={"max": 0}, **spec).plan().pods_run().job_says("Failed")
    assert (world.phase, tasks_of(world)) == ("Running", [])
    world.pod_is(0, exit_code=1, message=failed("no such column", at=world.now)).plan()
    assert world.attempts[0]["failure"]["message"] == "no such column"


def test_nothing_is_waited_for_where_the_clocks_of_operator_and_api_server_do_not_agree() -> None:
    world = TrainingWorld().plan()
    world.now += timedelta(hours=1)
    world.job_says("Complete")
    world.now -= timedelta(hours=1)
    assert tasks_of(world.plan()) == ["recover"]


def a_peer_is_lost(world: TrainingWorld) -> None:
    """Rank 1 fails first, but its pod still ends when that of rank 0 has failed of it: the controller deletes it."""
    world.pod_is(0, exit_code=1, message=failed("peer", exception="PeerLost", rank=0, at=world.now))
    world.remove(key_of(pod(world.job(), 1)))
    world.job_says("Failed", "BackoffLimitExceeded")


def test_where_only_a_consequence_is_left_of_the_pods_the_cause_is_read_from_the_store() -> None:
    world = TrainingWorld(nodes=2).plan().pods_run()
    a_peer_is_lost(world)
    assert tasks_of(world) == ["recover"]
    world.task_ends(failed("no label 11", rank=1))
    assert (world.attempts[0]["failure"]["rank"], world.attempts[0]["failure"]["message"]) == (1, "no label 11")


def test_where_the_store_knows_no_cause_either_the_consequence_is_told() -> None:
    world = TrainingWorld(nodes=2).plan().pods_run()
    a_peer_is_lost(world)
    world.task_ends({"outcome": "none", "at": wire_time(world.now)})
    assert world.attempts[0]["failure"]["exception"] == "PeerLost"


def test_a_stored_failure_is_told_as_the_pod_would_have_told_it() -> None:
    world = TrainingWorld().plan().pods_run().vanishes().task_ends(failed("no label 11"))
    assert world.attempts[0]["failure"]["message"] == "no label 11"


def test_an_image_of_the_users_leaves_no_report_so_a_vanished_job_is_lost_at_once() -> None:
    world = TrainingWorld(image="mine:1", entrypoint={"module": {"name": "mine"}}).plan().pods_run().vanishes()
    assert tasks_of(world) == []
    assert world.attempts[0]["failure"]["reason"] == "Lost"


def test_a_recorded_end_never_looks_at_its_children_again() -> None:
    world = TrainingWorld().plan().pods_run().succeeds()
    before = world.status(world.key)
    world.vanishes()
    assert world.status(world.key) == before
    assert world.training_jobs() == []


# --- Suspension and other edits ----------------------------------------------------------------------------------


def test_suspending_ends_the_attempt_uncounted_and_resuming_makes_the_next() -> None:
    world = TrainingWorld(nodes=2).plan().pods_run().edits(suspend=True)
    assert row(world) == ("Suspended", set())
    assert world.attempts[0]["outcome"] == "Suspended"
    assert world.training_jobs() == []
    assert [event[1] for event in world.events] == ["Suspended"]
    world.edits(suspend=False)
    assert row(world) == ("Pending", {"Reconciling"})
    assert [attempt["number"] for attempt in world.attempts] == [1, 2]
    assert world.status(world.key)["restarts"] == 0


def test_suspending_during_the_back_off_rests_and_resuming_goes_on_waiting() -> None:
    world = TrainingWorld().plan().fails().edits(suspend=True)
    assert row(world) == ("Suspended", set())
    assert row(world.edits(suspend=False)) == ("Restarting", {"Reconciling"})
    assert len(world.passes(seconds=10).attempts) == 2


def test_an_attempt_whose_job_was_deleted_for_its_suspension_is_not_taken_for_lost() -> None:
    world = TrainingWorld().plan().pods_run()
    world.edit(world.key, lambda spec: spec.update(suspend=True))
    world.vanishes()
    assert world.attempts[0]["outcome"] == "Suspended"


@pytest.mark.parametrize("edit", [{"suspend": True}, {"nodes": 3}], ids=["suspended", "other nodes"])
def test_an_intent_is_cancelled_where_the_spec_changed_before_it_was_carried_out(edit: dict[str, Any]) -> None:
    world = TrainingWorld(nodes=2)
    world.settle(world.key, crash_after=3)
    world.edits(**edit)
    assert world.attempts[0]["outcome"] == "Cancelled"
    assert "jobUID" not in world.attempts[0]
    assert [name for _, kind, name in world.writes if kind == "Job" and name == world.attempts[0]["job"]] == []


def test_a_cancelled_intent_whose_job_was_made_after_all_is_cleaned_up() -> None:
    world = TrainingWorld(nodes=2)
    world.settle(world.key, crash_after=4)  # the Job is made, its UID is not recorded
    late = world.objects.pop(Key(JOB, NAMESPACE, world.attempts[0]["job"]))  # and not seen yet
    world.edits(suspend=True)
    assert world.attempts[0]["outcome"] == "Cancelled"
    world.put(late)
    assert world.plan().training_jobs() == []


def test_another_number_of_nodes_holds_from_the_next_attempt_on() -> None:
    world = TrainingWorld(nodes=2).plan().pods_run().edits(nodes=3)
    assert world.phase == "Running"
    world.fails().passes(seconds=10)
    assert [attempt["nodes"] for attempt in world.attempts] == [2, 3]
    assert world.job()["spec"]["completions"] == 3


def test_a_lower_maximum_of_restarts_holds_at_once() -> None:
    world = TrainingWorld().plan().fails().edits(restarts={"max": 0})
    assert row(world) == ("Failed", {"Stalled", "Failed"})


# --- What is kept ------------------------------------------------------------------------------------------------


def test_jobs_are_kept_for_their_logs_the_newest_and_the_newest_that_failed() -> None:
    world = TrainingWorld(restarts={"max": 9}).plan().fails().passes(minutes=1).fails().passes(minutes=1)
    first, second, third = (attempt["job"] for attempt in world.attempts)
    assert world.training_jobs() == [second, third]
    assert first not in world.training_jobs()
    world.pods_run().succeeds()
    assert world.training_jobs() == [second, third]


def test_recoveries_of_obsolete_attempts_go_with_them() -> None:
    world = TrainingWorld(name="my-quick-job", restarts={"max": 9}).plan().pods_run().vanishes()
    world.task_ends({"outcome": "none", "at": wire_time(world.now)})
    assert len(world.names(JOB, "recover")) == 1
    world.passes(minutes=1).fails().passes(minutes=1)
    assert world.names(JOB, "recover") == []
    assert len(world.training_jobs()) == 2


def test_the_status_keeps_the_newest_32_attempts_and_counts_on() -> None:
    world = TrainingWorld(restarts={"max": 1000, "backoff": "0s"}).plan()
    for _ in range(40):
        world.fails()
    assert len(world.attempts) == 32
    assert world.attempts[-1]["number"] == 41
    assert world.status(world.key)["restarts"] == 40
    assert world.status(world.key)["startedAt"] == "2026-03-01T12:00:00Z"


def test_the_ttl_removes_the_children_and_never_the_training_job() -> None:
    data = [{"name": "train", "dataset": "digits"}]
    world = TrainingWorld(ttlAfterFinished="2h", data=data, nodes=2).plan()
    world.step()
    world.plan().pods_run().succeeds()
    assert world.wake_at == world.now + timedelta(hours=2)
    before = world.status(world.key)
    world.passes(hours=2)
    children = [key for key in world.objects if key.kind in (JOB, SERVICE, NETWORK_POLICY)]
    assert children == []
    assert world.status(world.key) == before
    assert world.wake_at is None


def test_a_shorter_ttl_after_the_end_holds() -> None:
    world = TrainingWorld().plan().pods_run().succeeds()
    assert len(world.training_jobs()) == 1
    assert world.wake_at is None
    world.now += timedelta(days=1)
    assert world.edits(ttlAfterFinished="1h").training_jobs() == []


@pytest.mark.parametrize("edit", [{"suspend": True}, {"activeDeadline": "1s"}], ids=["suspended", "late"])
def test_a_training_that_is_done_is_not_given_up_while_its_report_is_looked_for(edit: dict[str, object]) -> None:
    world = TrainingWorld().plan()
    world.job_says("Complete")  # its pods are gone with their Node
    world.edits(**edit)
    world.passes(minutes=5)
    assert world.attempts[-1].get("outcome") is None
    assert any(name.endswith("-q1") for name in world.names(JOB, "recover"))


def test_an_attempt_records_the_image_that_its_tag_stood_for() -> None:
    world = TrainingWorld(nodes=2).plan()
    for index in range(2):
        made = pod(world.job(), index)
        made["status"]["containerStatuses"][0]["imageID"] = "registry.example/runtime@sha256:one"
        world.put(made)
    assert "imageID" not in world.attempts[-1]
    assert world.plan().attempts[-1]["imageID"] == "registry.example/runtime@sha256:one"


def test_a_pod_that_is_never_seen_to_end_holds_up_no_job_that_has_ended() -> None:
    world = TrainingWorld(nodes=2).plan()
    world.pod_is(0, exit_code=1, message=failed("did not meet", exception="RendezvousTimeout", rank=None, at=world.now))
    world.pod_is(1, phase="Pending").job_says("Failed", "BackoffLimitExceeded")
    assert "outcome" not in world.attempts[-1]
    before = world.now
    while world.wake_at is not None and len(world.attempts) == 1 and "outcome" not in world.attempts[0]:
        world.now = world.wake_at
        world.plan()
    assert world.now - before < timedelta(minutes=3)
    assert world.attempts[0]["outcome"] == "NotStarted"
