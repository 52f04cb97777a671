"""Takeover, drain, revert, what is kept, and what never rolls anybody's model."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from slipway.api.kinds import CONTROLLER_REVISION, DEPLOYMENT, JOB, POD_DISRUPTION_BUDGET, SERVICE, STEP, Key
from slipway.plan.deployment.revision import DRAIN_DELAY
from support.builders import NAMESPACE, SETTINGS, artifact, prune_plugin, resource, training_job
from support.deployments import (
    DIGITS,
    counting,
    live_jobs,
    replicas,
    served,
    service_target,
    until,
    with_ratio,
    world_with,
)
from support.world import task_of


def serving(world):
    return world.status(DIGITS)["serving"]


def revisions(world):
    return [one["name"] for one in world.status(DIGITS)["revisions"]]


def scale(count):
    return lambda spec: spec.setdefault("serving", {}).update(replicas=count)


def max_drop(value):
    return lambda spec: spec["evaluation"].update(gate={"maxDrop": value})


def since(world, writes):
    return world.writes[writes:]


def test_a_revision_takes_over_only_when_all_its_replicas_are_ready():
    world = served(serving={"replicas": 2})
    old = serving(world)
    world.gets_ready = lambda live: live["metadata"]["name"] == old
    world.edit(DIGITS, with_ratio(0.4))
    world.run(DIGITS)
    new = world.status(DIGITS)["candidate"]
    assert replicas(world) == {old: 2, new: 2}
    one_ready = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 1}
    world.set_status(Key(DEPLOYMENT, NAMESPACE, new), one_ready)
    world.settle(DIGITS)
    assert (serving(world), service_target(world)) == (old, old)
    world.set_status(Key(DEPLOYMENT, NAMESPACE, new), {**one_ready, "readyReplicas": 2})
    world.settle(DIGITS)
    assert (serving(world), service_target(world)) == (new, new)


@pytest.mark.parametrize(
    "stale",
    [
        {"observedGeneration": 0, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1},
        {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 0, "readyReplicas": 1},
    ],
    ids=["of an older template", "of an older pod"],
)
def test_readiness_of_something_older_counts_for_nothing(stale):
    world = served()
    old = serving(world)
    world.gets_ready = lambda live: live["metadata"]["name"] == old
    world.edit(DIGITS, with_ratio(0.4))
    world.run(DIGITS)
    world.set_status(Key(DEPLOYMENT, NAMESPACE, world.status(DIGITS)["candidate"]), stale)
    world.settle(DIGITS)
    assert serving(world) == old


def test_pods_of_a_revision_that_is_being_scaled_down_do_not_count_when_it_is_gone_back_to():
    """The Deployment controller reports the new generation while the ReplicaSet still counts the pods that go."""
    world = served()
    first, original = serving(world), world.objects[DIGITS]["spec"]["compression"]
    world.edit(DIGITS, with_ratio(0.4))
    world.run(DIGITS)
    second, key = serving(world), Key(DEPLOYMENT, NAMESPACE, first)
    going = {**world.objects[key]["status"], "readyReplicas": 1, "updatedReplicas": 1}
    assert world.objects[key]["spec"]["replicas"] == 0
    world.set_status(key, going)
    world.gets_ready = lambda live: live["metadata"]["name"] != first
    world.edit(DIGITS, lambda spec: spec.update(compression=original))
    world.settle(DIGITS)
    assert (serving(world), service_target(world)) == (second, second)


def test_the_status_names_the_new_revision_before_the_service_does_and_then_the_old_one_drains():
    world = served()
    old = serving(world)
    world.edit(DIGITS, with_ratio(0.4))
    while service_target(world) == old:
        world.settle(DIGITS)
        world.step()
    new = serving(world)
    writes = [(verb, kind) for verb, kind, _ in world.writes]
    assert writes[-3:] == [("status", "ModelDeployment"), ("apply", "Service"), ("status", "ModelDeployment")]
    assert replicas(world) == {old: 1, new: 1}
    assert world.wake_at == world.now + DRAIN_DELAY
    world.now = world.wake_at - timedelta(seconds=1)
    world.settle(DIGITS)
    assert replicas(world) == {old: 1, new: 1}
    world.now += timedelta(seconds=1)
    world.settle(DIGITS)
    assert replicas(world) == {old: 0, new: 1}
    assert world.wake_at is None


def test_a_clock_that_is_set_back_brings_nothing_up_again_to_drain_it():
    world = served()
    world.edit(DIGITS, with_ratio(0.25))
    world.run(DIGITS)
    down = replicas(world)
    assert sorted(down.values()) == [0, 1]
    world.now -= timedelta(hours=1)
    world.settle(DIGITS)
    assert replicas(world) == down


def test_a_revert_runs_no_step_and_takes_over_from_the_frozen_record():
    world = served()
    first, jobs = serving(world), list(world.jobs())
    original = world.objects[DIGITS]["spec"]["compression"]
    world.edit(DIGITS, with_ratio(0.4))
    world.run(DIGITS)
    second, jobs = serving(world), list(world.jobs())
    world.edit(DIGITS, lambda spec: spec.update(compression=original))
    world.run(DIGITS)
    assert serving(world) == service_target(world) == first != second
    assert world.jobs() == jobs
    assert replicas(world) == {first: 1, second: 0}
    assert world.status(DIGITS)["phase"] == "Ready"


def test_a_revert_in_the_middle_of_the_steps_ends_the_running_ones():
    world = served()
    first = serving(world)
    original = world.objects[DIGITS]["spec"]["compression"]
    before = live_jobs(world)
    world.behaviour = until("prune-structured")
    world.edit(DIGITS, with_ratio(0.4))
    world.run(DIGITS)
    assert len(world.steps()) > len(before)
    world.edit(DIGITS, lambda spec: spec.update(compression=original))
    world.run(DIGITS)
    assert live_jobs(world) == before
    assert revisions(world) == [first]
    assert {one["state"] for one in world.steps()} == {"Succeeded"}


def test_two_retired_revisions_are_kept_and_older_ones_go_with_all_they_had():
    world = served()
    names = [serving(world)]
    for ratio in (0.1, 0.2, 0.3):
        world.edit(DIGITS, with_ratio(ratio))
        world.run(DIGITS)
        world.now += timedelta(minutes=1)
        names.append(serving(world))
    assert set(revisions(world)) == set(names[1:])
    assert replicas(world) == {names[1]: 0, names[2]: 0, names[3]: 1}
    records = {key.name for key in world.objects if key.kind == CONTROLLER_REVISION}
    assert records == set(names[1:])
    kept = {mark for one in world.status(DIGITS)["revisions"] for mark in one["steps"]}
    assert {key.name.rsplit("-", 1)[1] for key in world.objects if key.kind == STEP} == kept
    assert {one["job"] for one in world.steps()} == {k.name for k in world.objects if k.kind == JOB}


def test_what_is_being_deleted_already_is_not_deleted_again_but_waited_for():
    world = world_with()
    world.gets_ready = lambda _: False
    world.run(DIGITS)
    dropped = world.status(DIGITS)["candidate"]
    key = Key(DEPLOYMENT, NAMESPACE, dropped)
    world.objects[key]["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    world.edit(DIGITS, with_ratio(0.4))
    world.run(DIGITS)
    assert ("delete", "Deployment", dropped) not in world.writes
    assert dropped in revisions(world)
    world.remove(key)
    world.run(DIGITS)
    assert dropped not in revisions(world)


def test_replicas_are_applied_live_and_roll_nothing():
    world = served()
    template = world.get(DEPLOYMENT, NAMESPACE, serving(world))["spec"]["template"]
    writes = len(world.writes)
    world.edit(DIGITS, scale(3))
    world.run(DIGITS)
    assert replicas(world) == {serving(world): 3}
    assert world.status(DIGITS)["readyReplicas"] == 3
    assert world.get(DEPLOYMENT, NAMESPACE, serving(world))["spec"]["template"] == template
    assert {kind for _, kind, _ in since(world, writes)} == {"Deployment", "ModelDeployment"}


def test_while_replicas_are_added_it_is_not_ready_and_yet_available():
    world = served()
    world.gets_ready = lambda _: False
    world.edit(DIGITS, scale(2))
    world.settle(DIGITS)
    assert world.status(DIGITS)["phase"] == "RollingOut"
    assert world.condition(DIGITS, "Available")[0] == "True"


def test_at_zero_replicas_it_is_done_and_not_available():
    world = served()
    world.edit(DIGITS, scale(0))
    world.run(DIGITS)
    assert replicas(world) == {serving(world): 0}
    assert world.condition(DIGITS, "Ready")[:2] == ("True", "ScaledToZero")
    assert world.condition(DIGITS, "Available")[:2] == ("False", "NoReplicaReady")


def test_at_zero_replicas_a_new_revision_is_packed_and_waits():
    world = served()
    old = serving(world)
    world.edit(DIGITS, lambda spec: (with_ratio(0.4)(spec), scale(0)(spec)))
    world.run(DIGITS)
    assert serving(world) == old
    assert world.condition(DIGITS, "Ready")[:2] == ("False", "ScaledToZero")
    assert world.condition(DIGITS, "Stalled")[0] == world.condition(DIGITS, "Reconciling")[0] == "False"
    world.edit(DIGITS, scale(1))
    world.run(DIGITS)
    assert serving(world) == world.status(DIGITS)["candidate"] != old


def test_an_operator_with_other_images_rolls_nothing_and_runs_nothing():
    world = served()
    writes = len(world.writes)
    world.settings = replace(SETTINGS, runtime_image="new-runtime", serving_image="new-triton")
    world.run(DIGITS)
    assert since(world, writes) == []


def test_a_refreshed_plugin_rolls_nothing_and_runs_nothing():
    world = served()
    writes = len(world.writes)
    world.put(prune_plugin(version="2.0.0", image="acme/prune:2"))
    world.run(DIGITS)
    assert since(world, writes) == []


def test_a_reverted_revision_has_the_images_that_it_was_made_with():
    world = served()
    first = serving(world)
    original = world.objects[DIGITS]["spec"]["compression"]
    world.settings = replace(SETTINGS, serving_image="new-triton")
    world.edit(DIGITS, with_ratio(0.4))
    world.run(DIGITS)

    def image():
        deployment = world.get(DEPLOYMENT, NAMESPACE, serving(world))
        return deployment["spec"]["template"]["spec"]["containers"][0]["image"]

    assert image() == "new-triton"
    world.edit(DIGITS, lambda spec: spec.update(compression=original))
    world.run(DIGITS)
    assert (serving(world), image()) == (first, SETTINGS.serving_image)


def test_a_revision_that_never_served_is_fixed_by_an_operator_with_the_right_image():
    world = world_with()
    world.gets_ready = lambda live: "right" in live["spec"]["template"]["spec"]["containers"][0]["image"]
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "RollingOut"
    world.settings = replace(SETTINGS, serving_image="right")
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready"


def test_a_plugin_refreshed_before_its_step_ran_is_the_one_that_runs():
    world = world_with()
    world.behaviour = until("prune-structured")
    world.run(DIGITS)
    world.put(prune_plugin(version="2.0.0"))
    world.run(DIGITS)
    running = [one for one in world.steps() if one["state"] == "Running"]
    assert "step-0-prune-structured" in {one["name"] for one in running}
    assert len([one for one in running if one["name"] == "step-0-prune-structured"]) == 1


def test_a_looser_gate_lets_a_refused_candidate_serve_without_counting_again():
    world = world_with()
    world.behaviour = counting(lost=18, gained=2)
    world.run(DIGITS)
    counted = world.jobs()
    assert world.condition(DIGITS, "Ready")[1] == "GateRefused"
    world.edit(DIGITS, max_drop(0.05))
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready"
    assert [role for role in world.jobs() if role not in counted] == ["package"]


def test_a_stricter_gate_refuses_what_serves_and_leaves_it_serving():
    world = served()
    writes = len(world.writes)
    world.edit(DIGITS, max_drop(0.001))
    world.run(DIGITS)
    assert (world.status(DIGITS)["phase"], world.condition(DIGITS, "Ready")[1]) == ("Degraded", "GateRefused")
    assert world.condition(DIGITS, "Available")[0] == "True"
    assert {kind for _, kind, _ in since(world, writes)} == {"ModelDeployment"}
    world.edit(DIGITS, max_drop(0.02))
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready"


def test_a_stricter_gate_stops_a_rollout_that_is_under_way():
    world = served()
    old = serving(world)
    world.gets_ready = lambda live: live["metadata"]["name"] == old
    world.edit(DIGITS, with_ratio(0.4))
    world.run(DIGITS)
    world.edit(DIGITS, max_drop(0.001))
    world.gets_ready = lambda _: True
    world.run(DIGITS)
    assert (serving(world), service_target(world)) == (old, old)
    assert replicas(world)[world.status(DIGITS)["candidate"]] == 0


NEW_URI = "store:///held-out-2"
NEW_DATA = {"stored": {"uri": NEW_URI, "digest": "sha256:" + "d" * 64}}


def test_a_stored_model_that_was_moved_rolls_nothing_and_is_read_from_its_new_place():
    stored = {"uri": "store:///mine", "digest": "sha256:" + "b" * 64, "state": "onnx"}
    world = served(model={"stored": stored}, compression={"steps": []})
    old, jobs = serving(world), len(world.jobs())
    world.edit(DIGITS, lambda spec: spec["model"].update(stored={**stored, "uri": "store:///moved"}))
    world.run(DIGITS)
    assert (serving(world), len(world.jobs())) == (old, jobs)
    world.edit(DIGITS, lambda spec: spec["evaluation"].update(data=NEW_DATA))
    world.run(DIGITS)
    asked = [task_of(job) for key, job in world.objects.items() if key.kind == JOB]
    evaluated = [task for task in asked if task["task"] == "evaluate" and task["data"]["artifact"]["uri"] == NEW_URI]
    assert [task["model"]["uri"] for task in evaluated] == ["store:///moved"]
    assert world.status(DIGITS)["phase"] == "Ready"


def test_new_evaluation_data_evaluates_alone_while_the_revision_goes_on_serving():
    world = served()
    old, jobs = serving(world), len(world.jobs())
    world.behaviour = until("compare")
    world.edit(DIGITS, lambda spec: spec["evaluation"].update(data=NEW_DATA))
    world.run(DIGITS)
    assert world.jobs()[jobs:] == ["evaluate-baseline", "evaluate-candidate", "compare"]
    assert world.status(DIGITS)["phase"] == "Evaluating"
    assert world.condition(DIGITS, "Available")[0] == "True"
    assert replicas(world) == {old: 1}
    world.behaviour = counting(lost=3, gained=1, n=1000)
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready"
    assert world.status(DIGITS)["revisions"][0]["gate"]["counts"]["n"] == 1000
    writes = len(world.writes)
    world.run(DIGITS)
    assert since(world, writes) == []


def test_new_evaluation_data_that_fails_to_evaluate_degrades_and_serves_on():
    world = served()
    old = serving(world)
    report = {"outcome": "failed", "at": "2026-03-01T12:00:00Z", "error": {"exception": "E", "message": "no data"}}
    world.behaviour = until("evaluate", report)
    world.edit(DIGITS, lambda spec: spec["evaluation"].update(data=NEW_DATA))
    world.run(DIGITS)
    assert (world.status(DIGITS)["phase"], world.condition(DIGITS, "Ready")[1]) == ("Degraded", "StepFailed")
    assert (serving(world), service_target(world)) == (old, old)


def test_a_training_job_made_again_with_another_artifact_makes_a_new_revision():
    world = served()
    old = serving(world)
    data = [{"name": "train", "dataset": "digits"}]
    world.put(training_job(uid="second", status={"phase": "Running"}, data=data))
    world.run(DIGITS)
    assert (serving(world), world.status(DIGITS)["phase"]) == (old, "Ready")
    other = {**artifact("again"), "digest": "sha256:" + "e" * 64}
    world.put(training_job(uid="second", status={"phase": "Succeeded", "artifact": other}, data=data))
    world.run(DIGITS)
    assert serving(world) != old
    assert world.status(DIGITS)["model"] == other


def test_another_training_job_is_waited_for_while_the_old_model_serves():
    world = served()
    old = serving(world)
    world.edit(DIGITS, lambda spec: spec.update(model={"trainingJob": "other"}))
    world.run(DIGITS)
    assert (world.status(DIGITS)["phase"], world.condition(DIGITS, "Ready")[1]) == ("Pending", "ModelNotReady")
    assert (serving(world), replicas(world)) == (old, {old: 1})


def test_what_a_user_changed_or_deleted_is_put_right():
    world = served()
    name = serving(world)
    deployment = world.get(DEPLOYMENT, NAMESPACE, name)
    template = deployment["spec"]["template"]
    for kind, child in ((SERVICE, "digits"), (DEPLOYMENT, name), (CONTROLLER_REVISION, name)):
        world.remove(Key(kind, NAMESPACE, child))
    world.run(DIGITS)
    assert service_target(world) == name
    assert world.get(DEPLOYMENT, NAMESPACE, name)["spec"]["template"] == template
    assert world.get(CONTROLLER_REVISION, NAMESPACE, name) is not None


def test_a_service_of_another_user_in_the_place_of_ours_is_left_alone():
    world = served()
    world.put(resource(SERVICE, "digits", uid="theirs", selector={"app": "another"}))
    world.run(DIGITS)
    assert world.get(SERVICE, NAMESPACE, "digits")["spec"]["selector"] == {"app": "another"}
    assert (world.status(DIGITS)["phase"], world.condition(DIGITS, "Ready")[1]) == ("Degraded", "NameConflict")
    assert replicas(world) == {serving(world): 1}


def test_a_deleted_record_is_written_from_what_runs_not_from_new_images():
    world = served()
    name = serving(world)
    world.settings = replace(SETTINGS, serving_image="new-triton")
    world.remove(Key(CONTROLLER_REVISION, NAMESPACE, name))
    world.run(DIGITS)
    record = world.get(CONTROLLER_REVISION, NAMESPACE, name)
    assert record["data"]["images"]["triton"] == SETTINGS.serving_image


def test_a_lost_pod_makes_another_try_and_a_task_that_fails_by_itself_makes_none():
    world = world_with()
    world.behaviour = until("evaluate-baseline")
    world.run(DIGITS)
    task = next(one for one in world.steps() if one["name"] == "evaluate-baseline")
    ended = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "preempted"}
    world.set_status(Key(JOB, NAMESPACE, task["job"]), {"conditions": [ended]})
    world.settle(DIGITS)
    assert world.status(DIGITS)["phase"] == "Evaluating"  # it waits for its next try, and has not failed
    world.behaviour = until("nothing")
    world.run(DIGITS)
    task = next(one for one in world.steps() if one["name"] == "evaluate-baseline")
    assert (task["tries"], task["state"]) == (2, "Succeeded")
    assert world.status(DIGITS)["phase"] == "Ready"


def test_a_budget_guards_the_pods():
    world = served()
    (budget,) = [obj for key, obj in world.objects.items() if key.kind == POD_DISRUPTION_BUDGET]
    labels = world.get(DEPLOYMENT, NAMESPACE, serving(world))["spec"]["template"]["metadata"]["labels"]
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_two_deployments_of_one_model_prepare_and_convert_into_the_same_folders():
    one, other = served(), served(steps=())
    folders = [
        {task["artifact"]["uri"] for task in world.steps() if task["name"] == "convert-baseline"}
        for world in (one, other)
    ]
    assert folders[0] == folders[1] != set()


def test_the_seed_of_the_steps_is_none_of_a_conversion():
    """Else the same uncompressed model would be converted, and evaluated, for every seed again."""
    world = served()
    jobs = len(world.jobs())
    world.edit(DIGITS, lambda spec: spec["compression"].update(seed=7))
    world.run(DIGITS)
    again = world.jobs()[jobs:]
    assert "step-0-prune-structured" in again
    assert "convert-baseline" not in again
    assert "evaluate-baseline" not in again


def test_a_deployment_that_is_being_deleted_is_left_to_the_garbage_collector():
    world = served()
    writes = len(world.writes)
    obj = world.objects[DIGITS]
    world.put({**obj, "metadata": {**obj["metadata"], "deletionTimestamp": "2026-03-01T12:00:00Z"}})
    world.remove(Key(SERVICE, NAMESPACE, "digits"))
    world.settle(DIGITS)
    assert since(world, writes) == []
