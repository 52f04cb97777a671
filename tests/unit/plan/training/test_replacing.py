"""A pod that is lost before all pods of its attempt have run is replaced; any other loss ends the attempt."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from slipway.api.kinds import JOB, NETWORK_POLICY, SERVICE, Key, Object, key_of
from slipway.api.trainingjob import MAX_REPLACEMENTS
from support.builders import NAMESPACE, artifact, failed, pod, pool, succeeded, wire_time
from support.training import TrainingWorld, row
from support.world import env_of

PENDING = {"phase": "Pending"}


def waiting(nodes: int = 3, **spec: Any) -> TrainingWorld:
    """All pods run but the last one, which waits for room."""
    world = TrainingWorld(nodes=nodes, **spec).plan()
    for index in range(nodes - 1):
        world.pod_is(index)
    return world.pod_is(nodes - 1, **PENDING).plan()


def replaced(world: TrainingWorld, index: int = 1, **state: Any) -> TrainingWorld:
    """Its replacement is made, and its pod runs unless the state says otherwise."""
    (record,) = [one for one in replacements(world) if one["index"] == index]
    starts_at = datetime.fromisoformat(record["startsAt"])
    assert world.wake_at is not None
    assert world.wake_at <= starts_at
    world.passes(seconds=(starts_at - world.now).total_seconds())
    world.put(pod(world.job_of(index), index, **state))
    return world.plan()


def all_run(world: TrainingWorld) -> TrainingWorld:
    world.pod_is(2).plan()
    assert world.phase == "Running"
    return world


def replacements(world: TrainingWorld) -> list[Object]:
    found: list[Object] = world.attempts[-1].get("replacements", [])
    return found


def jobs(world: TrainingWorld) -> set[str]:
    """The Jobs of attempts and replacements, by what follows the name of the first attempt's."""
    return {name.removeprefix(world.attempts[0]["job"]) for name in world.training_jobs()}


def lost_with_its_node(world: TrainingWorld, index: int = 1) -> TrainingWorld:
    silent = pod(world.job_of(index), index)
    silent["metadata"]["deletionTimestamp"] = wire_time(world.now)
    silent["spec"]["nodeName"] = "node-7"
    world.put(silent)
    return world.plan().passes(seconds=20)


# --- A pod is replaced -------------------------------------------------------------------------------------------


def test_a_pod_that_is_evicted_while_another_waits_is_replaced_after_ten_seconds_in_the_same_attempt() -> None:
    world = waiting().loses(1)
    (record,) = replacements(world)
    name = f"{world.attempts[0]['job']}-i1-1"
    assert (record["index"], record["number"], record["job"]) == (1, 1, name)
    assert record["startsAt"] == wire_time(world.now + timedelta(seconds=10))
    assert (record["failure"]["reason"], record["failure"]["index"]) == ("Preempted", 1)
    assert jobs(world) == {""}
    assert "failure" not in world.attempts[0]
    replaced(world)
    assert replacements(world)[0]["jobUID"] == world.job_of(1)["metadata"]["uid"]
    assert world.phase == "Pending"
    all_run(world)
    status = world.status(world.key)
    assert (len(world.attempts), status.get("restarts", 0), status["disruptions"]) == (1, 0, 1)
    assert status["workers"] == "3/3"


def test_the_loss_is_told_by_an_event_that_says_when_another_pod_starts() -> None:
    world = waiting().loses(1)
    (message,) = [message for _, reason, message in world.events if reason == "PodReplaced"]
    assert message == "attempt 1: pod 1: Preempted: EvictionByEvictionAPI; another pod starts at 12:00:10 UTC"


def test_the_pod_of_a_replacement_has_the_name_the_index_and_the_labels_of_the_lost_one() -> None:
    world = waiting(egress="restricted").loses(1)
    replaced(world)
    whole, alone = world.job()["spec"], world.job_of(1)
    assert alone["spec"]["completionMode"] == "NonIndexed"
    assert (alone["spec"]["completions"], alone["spec"]["backoffLimit"]) == (1, 0)
    assert env_of(alone)["JOB_COMPLETION_INDEX"] == "1"
    spec, labels = alone["spec"]["template"]["spec"], alone["spec"]["template"]["metadata"]["labels"]
    assert (spec["hostname"], spec["subdomain"]) == (f"{world.attempts[0]['job']}-1", world.peers)
    own = {"batch.kubernetes.io/job-completion-index": "1", "slipway.dev/replacement": "1"}
    assert labels == {**whole["template"]["metadata"]["labels"], **own}
    assert world.networks() == [world.peers]


@pytest.mark.parametrize("reason", ["OutOfcpu", "NodeAffinity", "UnexpectedAdmissionError", "NodeShutdown"])
def test_a_pod_that_a_kubelet_would_not_run_is_replaced(reason: str) -> None:
    world = waiting()
    rejected = pod(world.job(), 1, phase="Failed")
    rejected["status"] |= {"reason": reason, "message": "Pod was rejected"}
    world.put(rejected)
    world.index_fails(1)
    assert replacements(world)[0]["failure"]["reason"] == reason


def test_a_pod_that_was_taken_away_while_no_operator_ran_is_replaced() -> None:
    world = waiting()
    world.remove(key_of(pod(world.job(), 1)))
    world.index_fails(1)
    assert replacements(world)[0]["failure"]["message"] == "the pod of index 1 was taken away before it ended"


def test_a_pod_on_a_lost_node_is_replaced_and_does_not_count_any_more_whatever_becomes_of_it() -> None:
    world = lost_with_its_node(waiting())
    (record,) = replacements(world)
    assert (record["failure"]["reason"], record["index"]) == ("NodeLost", 1)
    assert "Node node-7 does not answer" in record["failure"]["message"]
    world.pod_is(2).plan()
    assert world.phase == "Pending"  # the lost pod still says that it runs
    replaced(world)
    assert world.phase == "Running"
    world.pod_is(1, exit_code=1, message=failed("I am back", rank=1)).index_fails(1)
    assert world.phase == "Running"
    assert len(world.attempts) == 1


def test_a_replacement_that_is_lost_too_is_followed_by_the_next_generation_later_and_its_job_goes() -> None:
    world = replaced(waiting().loses(1)).loses(1)
    (record,) = replacements(world)
    assert (record["number"], record["startsAt"]) == (2, wire_time(world.now + timedelta(seconds=20)))
    assert jobs(world) == {""}
    replaced(world)
    assert jobs(world) == {"", "-i1-2"}
    all_run(world)
    assert world.status(world.key)["disruptions"] == 2


def test_two_pods_that_are_lost_at_once_are_both_replaced() -> None:
    world = TrainingWorld(nodes=4).plan()
    for index in range(4):
        world.pod_is(index, **({} if index < 3 else PENDING))
    world.loses(1).loses(2)
    assert [one["index"] for one in replacements(world)] == [1, 2]
    world.passes(seconds=20)
    for index in (1, 2):
        world.put(pod(world.job_of(index), index))
    world.pod_is(3).plan()
    assert world.phase == "Running"


# --- The attempt ends --------------------------------------------------------------------------------------------


def test_the_attempt_has_succeeded_when_all_other_indices_and_the_replacement_have() -> None:
    world = all_run(replaced(waiting().loses(1)))
    report = succeeded(artifact("trained", folder="training/uid-of-digits/1"), {"loss": 0.1})
    world.pod_is(0, exit_code=0, message=report).index_succeeds(0)
    world.pod_is(2, exit_code=0).index_succeeds(2)
    world.job_says("Failed", "FailedIndexes")
    assert world.phase == "Running"
    world.put(pod(world.job_of(1), 1, exit_code=0))
    world.ends(world.job_of(1), "Complete")
    assert (world.phase, world.attempts[0]["outcome"]) == ("Succeeded", "Succeeded")
    assert jobs(world) == {"", "-i1-1"}


def test_an_attempt_whose_lost_node_stays_away_succeeds_though_its_job_never_ends() -> None:
    world = all_run(replaced(lost_with_its_node(waiting())))
    report = succeeded(artifact("trained", folder="training/uid-of-digits/1"), {"loss": 0.1})
    world.put(pod(world.job_of(1), 1, exit_code=0))
    world.ends(world.job_of(1), "Complete")
    world.pod_is(2, exit_code=0).index_succeeds(2)
    assert world.phase == "Running"
    world.pod_is(0, exit_code=0, message=report).index_succeeds(0)
    assert world.phase == "Succeeded"
    assert jobs(world) == {"-i1-1"}


def test_the_loss_of_index_0_ends_the_attempt_and_its_job() -> None:
    world = waiting().loses(0)
    assert (world.attempts[0]["outcome"], world.phase) == ("Preempted", "Restarting")
    assert jobs(world) == set()
    assert world.passes(seconds=10).attempts[-1]["number"] == 2


def test_a_loss_after_all_pods_have_run_ends_the_attempt_and_its_job() -> None:
    world = TrainingWorld(nodes=3).plan().pods_run().loses(1)
    assert (world.attempts[0]["outcome"], world.attempts[0]["failure"]["index"]) == ("Preempted", 1)
    assert replacements(world) == []
    assert jobs(world) == set()
    assert world.status(world.key)["disruptions"] == 1


def test_a_replacement_that_is_lost_after_all_pods_have_run_ends_the_attempt_and_all_its_jobs() -> None:
    world = all_run(replaced(waiting().loses(1))).loses(1)
    assert world.attempts[0]["outcome"] == "Preempted"
    assert world.status(world.key)["disruptions"] == 2
    world.passes(seconds=20)
    assert world.training_jobs() == [world.attempts[1]["job"]]


def test_a_disruption_explains_what_the_others_report_of_it_and_the_store_is_not_asked() -> None:
    world = TrainingWorld(nodes=3).plan().pods_run()
    target = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    world.pod_is(1, conditions=({**target, "lastTransitionTime": wire_time(world.now)},)).plan()
    world.remove(key_of(pod(world.job(), 1)))
    world.pod_is(0, exit_code=1, message=failed("it is gone", exception="PeerLost", rank=0, at=world.now))
    world.pod_is(2, exit_code=143)
    message = "Container main for pod team/x failed with exit code 1 matching FailJob rule at index 1"
    world.ends(world.job(), "Failed", "PodFailurePolicy", message)
    assert world.attempts[0]["outcome"] == "Preempted"
    assert "recoveries" not in world.attempts[0]


def test_a_worker_that_raises_fails_the_job_by_its_exit_code_and_counts() -> None:
    world = TrainingWorld(nodes=3).plan().pods_run()
    world.pod_is(1, exit_code=1, message=failed("boom", rank=1, at=world.now))
    world.pod_is(0, exit_code=143).pod_is(2, exit_code=143)
    message = "Container main for pod team/x failed with exit code 1 matching FailJob rule at index 1"
    world.ends(world.job(), "Failed", "PodFailurePolicy", message)
    assert (world.attempts[0]["outcome"], world.attempts[0]["failure"]["exception"]) == ("Failed", "ValueError")
    assert world.status(world.key)["restarts"] == 1
    assert jobs(world) == {""}


def failing_replacement() -> TrainingWorld:
    """A worker of the replacement raises, once all run."""
    world = all_run(replaced(waiting().loses(1)))
    world.put(pod(world.job_of(1), 1, exit_code=1, message=failed("boom", rank=1, at=world.now)))
    return world.ends(world.job_of(1), "Failed", "BackoffLimitExceeded")


def test_a_replacement_that_fails_gives_the_others_time_to_end_by_it_and_is_the_cause() -> None:
    world = failing_replacement()
    assert world.phase == "Running"
    world.passes(seconds=3)
    world.pod_is(0, exit_code=1, message=failed("it is gone", exception="PeerLost", rank=0, at=world.now))
    world.pod_is(2, exit_code=143)
    message = "Container main for pod team/x failed with exit code 1 matching FailJob rule at index 1"
    world.ends(world.job(), "Failed", "PodFailurePolicy", message)
    failure = world.attempts[0]["failure"]
    assert (world.attempts[0]["outcome"], failure["exception"], failure["index"]) == ("Failed", "ValueError", 1)
    assert jobs(world) == {"", "-i1-1"}


def test_others_that_hang_after_a_replacement_has_failed_are_ended() -> None:
    world = failing_replacement().passes(seconds=29)
    assert world.phase == "Running"
    world.passes(seconds=1)
    assert (world.attempts[0]["outcome"], world.attempts[0]["failure"]["exception"]) == ("Failed", "ValueError")
    assert jobs(world) == {"-i1-1"}  # its log says why
    assert world.status(world.key)["restarts"] == 1


@pytest.mark.parametrize("exception", ["DistStoreError", "torch.distributed.DistStoreError"])
def test_agents_that_met_the_lost_pod_end_the_attempt_as_its_loss_and_uncounted(exception: str) -> None:
    """torchrun counts an agent for 15 s after it was killed, and the one that was missing may come within them."""
    world = all_run(replaced(waiting().loses(1)))
    world.pod_is(0, exit_code=1, message=failed("wait timeout", exception=exception, rank=None, at=world.now))
    world.pod_is(2, exit_code=143)
    world.put(pod(world.job_of(1), 1, exit_code=143))
    message = "Container main for pod team/x failed with exit code 1 matching FailJob rule at index 1"
    world.ends(world.job(), "Failed", "PodFailurePolicy", message)
    assert (world.attempts[0]["outcome"], world.status(world.key).get("restarts", 0)) == ("Preempted", 0)
    assert "the lost pod 1 (DistStoreError)" in world.attempts[0]["failure"]["message"]


def test_a_replacement_that_a_user_deletes_ends_the_attempt() -> None:
    world = replaced(waiting().loses(1))
    world.remove(key_of(world.job_of(1)))
    world.plan()
    assert (world.attempts[0]["outcome"], world.attempts[0]["failure"]["reason"]) == ("NotStarted", "NotStarted")
    assert jobs(world) == set()


# --- What is not replaced ----------------------------------------------------------------------------------------


def test_an_eviction_that_the_pod_caused_itself_ends_the_attempt_and_counts() -> None:
    world = waiting()
    message = 'Container main exceeded its local ephemeral storage limit "10Gi". '
    target = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "TerminationByKubelet",
        "message": message,
        "lastTransitionTime": wire_time(world.now),
    }
    world.pod_is(1, exit_code=137, conditions=(target,)).index_fails(1)
    assert (world.attempts[0]["outcome"], world.attempts[0]["failure"]["reason"]) == ("Failed", "Evicted")
    assert world.status(world.key)["restarts"] == 1


@pytest.mark.parametrize(
    "spec",
    [{"restarts": {"ignorePreemption": False}}, {"restarts": {"maxDisruptions": 0}}],
    ids=["preemption counts", "no disruption is allowed"],
)
def test_a_loss_that_counts_against_a_limit_ends_the_attempt(spec: dict[str, Any]) -> None:
    world = waiting(**spec).loses(1)
    assert world.attempts[0]["outcome"] == "Preempted"
    assert replacements(world) == []


def test_replacements_count_against_the_limit_of_disruptions() -> None:
    world = replaced(waiting(restarts={"maxDisruptions": 1}).loses(1)).loses(1)
    assert world.says("Failed").startswith("True DisruptionsExhausted: attempt 1 was preempted")
    assert "(spec.restarts.maxDisruptions: 1)" in world.says("Failed")


def test_one_more_loss_than_a_status_has_room_for_ends_the_attempt() -> None:
    world = waiting(nodes=MAX_REPLACEMENTS + 3)
    for index in range(1, MAX_REPLACEMENTS + 1):
        world.loses(index)
    assert len(replacements(world)) == MAX_REPLACEMENTS
    assert world.attempts[0].get("outcome") is None
    world.loses(MAX_REPLACEMENTS + 1)
    assert world.attempts[0]["outcome"] == "Preempted"
    assert len(world.attempts[0]["replacements"]) == MAX_REPLACEMENTS


def test_no_pod_is_replaced_while_the_spec_wants_another_number_of_pods() -> None:
    world = waiting().edits(nodes=2).loses(1)
    assert world.attempts[0]["outcome"] == "Preempted"


def test_an_attempt_whose_job_fails_as_a_whole_ends_with_a_lost_pod() -> None:
    """Jobs of an operator that replaced no pods: their policy fails them."""
    world = waiting()
    job = world.job()
    del job["spec"]["backoffLimitPerIndex"]
    world.put(job)
    world.remove(key_of(pod(job, 1)))
    world.job_says("Failed", "PodFailurePolicy")
    assert world.attempts[0]["outcome"] == "Preempted"
    assert replacements(world) == []


# --- What may happen meanwhile -----------------------------------------------------------------------------------


def test_a_replacement_is_recorded_before_its_job_is_made_and_made_once_whenever_the_operator_dies() -> None:
    for crash_after in range(1, 5):
        world = waiting()
        world.operator_runs = False
        world.remove(key_of(pod(world.job(), 1)))
        world.index_fails(1)
        for _ in range(4):
            world.settle(world.key, crash_after=crash_after)
            world.passes(seconds=10)
        world.operator_runs = True
        world.plan()
        made = [name for verb, kind, name in world.writes if (verb, kind) == ("create", "Job") and "-i1-" in name]
        assert made == [replacements(world)[0]["job"]]
        assert world.status(world.key)["disruptions"] == 1


def test_a_suspended_job_leaves_no_replacement() -> None:
    world = replaced(waiting().loses(1)).edits(suspend=True)
    assert (world.phase, jobs(world)) == ("Suspended", set())
    world.edits(suspend=False)
    assert world.attempts[-1]["number"] == 2
    assert replacements(world) == []


def test_a_suspension_while_a_replacement_waits_for_its_time_makes_none() -> None:
    world = waiting().loses(1).edits(suspend=True)
    assert (world.passes(minutes=1).phase, jobs(world)) == ("Suspended", set())


def test_the_deadline_and_the_time_limit_of_pending_pods_end_the_replacements_too() -> None:
    for spec in ({"activeDeadline": "5m"}, {"restarts": {"pendingTimeout": "5m"}}):
        world = replaced(waiting(**spec).loses(1)).passes(minutes=5)
        assert (world.phase, jobs(world)) == ("Failed", set())


def test_children_of_replacements_go_with_the_rest_when_their_time_is_over() -> None:
    world = all_run(replaced(waiting(ttlAfterFinished="1h").loses(1)))
    world.put(pod(world.job_of(1), 1, exit_code=0))
    world.ends(world.job_of(1), "Complete")
    report = succeeded(artifact("trained", folder="training/uid-of-digits/1"), {"loss": 0.1})
    world.pod_is(0, exit_code=0, message=report).index_succeeds(0)
    world.pod_is(2, exit_code=0).index_succeeds(2)
    world.job_says("Failed", "FailedIndexes")
    assert world.phase == "Succeeded"
    world.passes(hours=1)
    assert not [key for key in world.objects if key.kind in (JOB, SERVICE, NETWORK_POLICY)]


def test_while_a_replacement_waits_the_job_says_which_pod_is_missing_and_until_when() -> None:
    world = TrainingWorld(nodes=2).plan().pod_is(0).pod_is(1, **PENDING).plan()
    for _ in range(3):
        replaced(world.loses(1), **PENDING)
    world.loses(1)
    world.passes(seconds=70)
    assert "1 of 2 pods run; pod 1 was lost and is replaced at 12:0" in world.says("Reconciling")


def test_a_job_under_the_name_of_a_replacement_that_runs_something_else_is_a_named_conflict() -> None:
    world = waiting().loses(1)
    forged = {**world.job(), "metadata": {**world.job()["metadata"], "name": replacements(world)[0]["job"], "uid": "f"}}
    world.put(forged)
    world.passes(seconds=10)
    assert world.says("Stalled").startswith("True NameConflict: metadata.name: Job")


def test_nothing_is_replaced_under_a_spec_that_cannot_be_read() -> None:
    world = waiting().loses(1).edits(nodes="many").passes(minutes=1)
    assert jobs(world) == {""}
    assert world.attempts[-1].get("outcome") is None
    assert not {"Failed", "Complete"} & row(world)[1]


def test_a_pool_is_asked_again_for_the_replacement_as_for_the_first_pod() -> None:
    world = TrainingWorld(pool(), nodes=2, pools=["h100"]).plan().pod_is(0).pod_is(1, **PENDING).plan()
    world.loses(1)
    replaced(world)
    spec = world.job_of(1)["spec"]["template"]["spec"]
    assert spec["nodeSelector"] == {"accelerator": "h100"}
    assert Key(JOB, NAMESPACE, replacements(world)[0]["job"]) in world.objects
