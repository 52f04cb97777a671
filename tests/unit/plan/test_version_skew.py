"""Statuses and specs of a next version: known parts are kept, unknown ones stop nothing and cause no work twice."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta

import pytest

from slipway.api.kinds import DEPLOYMENT, JOB, MODEL_DEPLOYMENT, STEP, TRAINING_JOB, Key, Object, key_of, kind_of
from slipway.api.modeldeployment import ModelDeploymentStatus
from slipway.api.reading import read_status
from slipway.api.trainingjob import TrainingJobStatus
from slipway.cluster.statusschema import check_status
from slipway.plan.plan import STATUS, Plan, Refusal
from support.builders import NAMESPACE, PRUNE, bucket_store, plugin, pool, prune_plugin, store
from support.deployments import DIGITS, served, until, with_ratio, world_with
from support.next_version import Changed, next_versions
from support.training import TrainingWorld
from support.world import World

UNKNOWN = "FromTheNextVersion"


def rolling_out() -> World:
    """One revision serves, another one is compressed."""
    world = served()
    world.edit(DIGITS, with_ratio(0.3))
    world.behaviour = until("prune-structured")
    world.run(DIGITS)
    return world


def trains_again() -> World:
    """The second attempt runs."""
    world = TrainingWorld(nodes=2, restarts={"max": 3})
    world.plan()
    world.pods_run()
    world.fails()
    world.passes(minutes=1)
    world.pods_run()
    return world


def trained_well() -> World:
    world = TrainingWorld()
    world.plan()
    world.succeeds()
    assert world.phase == "Succeeded"
    return world


WORLDS: dict[str, tuple[Callable[[], World], Key]] = {
    "serves": (served, DIGITS),
    "rolls out": (rolling_out, DIGITS),
    "trains again": (trains_again, Key(TRAINING_JOB, NAMESPACE, "digits")),
    "trained": (trained_well, Key(TRAINING_JOB, NAMESPACE, "digits")),
}


@pytest.mark.parametrize(("make", "key"), WORLDS.values(), ids=list(WORLDS))
def test_whatever_one_value_of_a_status_is_planning_goes_on_and_does_nothing_twice(
    make: Callable[[], World], key: Key
) -> None:
    world = make()
    live, tried = world.objects[key], 0
    for changed in next_versions(key.kind, live["status"]):
        tried += 1
        obj = {**live, "status": changed.status}
        plan = world.planner(obj, world.observation())
        check_writes(world, changed, plan)
        refused = Refusal(STATUS, key, "422", world.now)
        known = world.planner(obj, world.observation(refused))
        check_storable(obj, changed, known)
    assert tried > 100


def check_writes(world: World, changed: Changed, plan: Plan) -> None:
    """Nothing is made that was made, and nothing that serves is deleted."""
    names = {obj["metadata"]["name"] for key, obj in world.objects.items() if key.kind == JOB}
    if not changed.where.endswith(("missing", "another type")):
        remade = {obj["metadata"]["name"] for obj in plan.create if obj["kind"] == "Job"} & names
        assert remade == set(), changed.where
    assert [one.key for one in plan.delete if one.key.kind == DEPLOYMENT] == [], changed.where


def check_storable(obj: Object, changed: Changed, plan: Plan) -> None:
    """What this version knows of the new status passes its own CRD."""
    if plan.status is None:
        return
    known = {name: value for name, value in plan.status.items() if name != "fromTheNextVersion"}
    try:
        check_status("patch", kind_of(obj), known, known)
    except Exception as error:
        raise AssertionError(changed.where) from error


def test_an_unknown_phase_is_derived_again() -> None:
    world = served()
    world.set_status(DIGITS, {**world.status(DIGITS), "phase": UNKNOWN})
    world.settle(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready"


def test_fields_and_conditions_of_another_version_stay() -> None:
    world = served()
    theirs = {"type": UNKNOWN, "status": "Unknown", "reason": "Soon", "lastTransitionTime": "2026-03-01T12:00:00Z"}
    before = world.status(DIGITS)
    world.set_status(DIGITS, {**before, "conditions": [*before["conditions"], theirs], "traffic": [{"weight": 5}]})
    world.edit(DIGITS, with_ratio(0.3))
    world.run(DIGITS)
    after = world.status(DIGITS)
    assert after["phase"] == "Ready"
    assert after["serving"] != before["serving"]
    assert after["traffic"] == [{"weight": 5}]
    assert [one["status"] for one in after["conditions"] if one["type"] == UNKNOWN] == ["Unknown"]


def with_attempt(world: TrainingWorld, **fields: object) -> None:
    status = deepcopy(world.status(world.key))
    status["attempts"][-1].update(fields)
    world.set_status(world.key, status)


def test_an_attempt_with_an_unknown_outcome_ends_as_its_job_says() -> None:
    world = TrainingWorld()
    world.plan()
    world.pods_run()
    with_attempt(world, outcome=UNKNOWN, endedAt="2026-03-01T12:00:00Z")
    world.plan()
    assert (world.phase, len(world.training_jobs())) == ("Running", 1)
    world.succeeds()
    assert world.phase == "Succeeded"
    assert [one["outcome"] for one in world.attempts] == ["Succeeded"]


def test_an_attempt_with_an_unknown_outcome_and_a_failure_failed_and_is_counted_once() -> None:
    world = TrainingWorld(restarts={"max": 3})
    world.plan()
    world.pods_run()
    world.fails()
    with_attempt(world, outcome=UNKNOWN)
    world.passes(minutes=1)
    assert world.status(world.key)["restarts"] == 1
    assert [one.get("outcome") for one in world.attempts] == [UNKNOWN, None] or world.attempts[0]["outcome"] == "Failed"
    assert len(world.attempts) == 2


@pytest.mark.parametrize("found", ["artifact", "Job"])
def test_a_step_with_an_unknown_state_is_not_run_again(found: str) -> None:
    world = world_with()
    world.behaviour = until("package")
    world.run(DIGITS)
    world.now += timedelta(seconds=11)
    world.settle(DIGITS)
    made = world.jobs()
    for step in world.select(STEP, NAMESPACE, {}):
        status = deepcopy(step["status"])
        if (found == "artifact") == (status["run"]["state"] == "Succeeded"):
            status["run"]["state"] = UNKNOWN
            status["phase"] = UNKNOWN
            world.set_status(key_of(step), status)
    world.run(DIGITS)
    assert world.jobs() == made
    world.behaviour = until("nothing at all")
    world.run(DIGITS)
    assert (world.status(DIGITS)["phase"], world.jobs()) == ("Ready", made)


def test_of_a_list_that_is_too_long_the_needed_items_are_read() -> None:
    world = served()
    status = deepcopy(world.status(DIGITS))
    first = status["revisions"][0]
    status["revisions"] += [{**first, "name": f"digits-x-{n}", "retiredAt": "2026-03-01T12:00:00Z"} for n in range(9)]
    read = read_status(ModelDeploymentStatus, status)
    assert len(read.revisions) == 8
    assert status["serving"] in [one.name for one in read.revisions]
    assert read.revisions[-1].name == "digits-x-8"


def test_a_message_that_is_too_long_is_cut_and_a_name_is_not() -> None:
    world = trains_again()
    status = deepcopy(world.status(Key(TRAINING_JOB, NAMESPACE, "digits")))
    status["attempts"][0]["failure"]["message"] = "m" * 5000
    status["attempts"][1]["pool"] = "p" * 5000
    read = read_status(TrainingJobStatus, status)
    assert read.attempts[0].failure is not None
    assert read.attempts[0].failure.message == "m" * 1024
    assert read.attempts[1].pool is None


def test_what_is_no_status_at_all_is_read_as_none() -> None:
    for raw in ("text", 7, ["a"], {"attempts": 7, "phase": {}}):
        assert read_status(TrainingJobStatus, raw) == TrainingJobStatus()


# --- Specs of a next version -----------------------------------------------------------------------------------------


def strange(obj: Object, **fields: object) -> Object:
    return {**obj, "spec": {**obj["spec"], **fields}}


def test_a_plugin_of_a_next_version_is_a_named_condition() -> None:
    world = world_with(prune_plugin(produces="torch-aoti"), steps=(PRUNE,))
    world.run(DIGITS)
    state, reason, message = world.condition(DIGITS, "Stalled")
    assert (state, reason) == ("True", "PluginInvalid")
    assert "CompressionPlugin prune-structured" in message


def test_a_plugin_that_nobody_names_stops_nothing_in_a_next_version() -> None:
    world = world_with(plugin("later", "huggingface", "tensorrt"))
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready"


@pytest.mark.parametrize("of", ["store", "trainingjob"])
def test_what_a_deployment_names_may_be_of_a_next_version(of: str) -> None:
    world = served()
    serving = world.status(DIGITS)["serving"]
    key = next(key for key in world.objects if key.kind.kind.lower() == ("artifactstore" if of == "store" else of))
    fields = {"persistentVolumeClaim": None, "gcs": {"bucket": "b"}} if of == "store" else {"entrypoint": {"ray": {}}}
    world.put(strange(world.objects[key], **fields))
    world.edit(DIGITS, with_ratio(0.3))
    world.run(DIGITS)
    assert world.condition(DIGITS, "Available")[0] == "True"
    state, reason, message = world.condition(DIGITS, "Stalled")
    assert (world.status(DIGITS)["serving"] == serving) == (of == "store")
    if of == "store":
        assert (state, reason) == ("True", "StoreInvalid")
        assert "ArtifactStore default" in message
        assert "upgrade Slipway" in message
    else:  # its model is known already
        assert state == "False"


def test_a_pool_and_a_store_of_a_next_version_are_named_by_a_training() -> None:
    world = TrainingWorld(strange(pool(), nodeSelector=["a100"]), pools=["h100"])
    world.plan()
    assert "PoolInvalid: spec.pools: GPUPool h100 cannot be used" in world.says("Stalled")
    world = TrainingWorld(strange(bucket_store(), s3={"bucket": "b", "endpoint": "gopher://x"}))
    world.plan()
    assert "StoreInvalid: spec.store: ArtifactStore default cannot be used" in world.says("Stalled")


def test_a_store_whose_status_is_of_a_next_version_is_used() -> None:
    ready = deepcopy(store()["status"])
    ready["phase"] = UNKNOWN
    ready["conditions"][0]["observedGeneration"] = "two"
    world = TrainingWorld({**store(), "status": ready})
    world.plan()
    assert len(world.training_jobs()) == 1


def test_a_training_job_whose_phase_is_unknown_has_left_no_model_yet() -> None:
    world = world_with()
    key = next(key for key in world.objects if key.kind == TRAINING_JOB)
    world.set_status(key, {**world.status(key), "phase": UNKNOWN})
    world.now += timedelta(minutes=1)
    world.run(DIGITS)
    assert world.condition(DIGITS, "Reconciling")[:2] == ("True", "ModelNotReady")
    assert world.objects[DIGITS]["kind"] == MODEL_DEPLOYMENT.kind
