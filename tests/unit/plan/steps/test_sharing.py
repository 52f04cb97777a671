"""Steps of two owners that want the same work, and Steps that run again."""

from __future__ import annotations

from datetime import timedelta

from slipway.api.kinds import JOB, MODEL_DEPLOYMENT, STEP, Key, Object
from slipway.plan.steps.request import RETRY_ANNOTATION
from support.builders import DIGEST, HELD_OUT, NAMESPACE, PRUNE, model_deployment
from support.deployments import DIGITS, raising, served, until, world_with
from support.world import World, does_its_work

OTHER = Key(MODEL_DEPLOYMENT, NAMESPACE, "other")
DECIDE = {"evaluate-baseline", "evaluate-candidate", "compare", "package"}


def beside(world: World, **spec: object) -> World:
    """The same with another deployment of the same model and steps."""
    world.put(model_deployment("other", **spec))
    return world


def steps_of(world: World, owner: str) -> dict[str, Object]:
    """The Steps of a deployment, by role."""
    found = world.select(STEP, NAMESPACE, {"slipway.dev/model-deployment": owner})
    return {step["spec"]["role"]: step for step in found}


def test_what_another_owner_has_made_is_taken_over_and_what_decides_is_done_again() -> None:
    world = beside(served())
    made = len(world.jobs())
    world.run(OTHER)
    assert world.status(OTHER)["phase"] == "Ready"
    assert set(world.jobs()[made:]) == DECIDE
    shared = {role for role, step in steps_of(world, "other").items() if step["status"].get("sharedFrom")}
    assert shared == set(steps_of(world, "other")) - DECIDE


def test_of_two_that_start_together_each_work_is_done_once() -> None:
    world = beside(world_with())
    for _ in range(30):
        for key in (DIGITS, OTHER):
            world.settle(key)
        world.now += timedelta(seconds=1)
        world.step()
    assert {world.status(key)["phase"] for key in (DIGITS, OTHER)} == {"Ready"}
    shared = [role for role in world.jobs() if role not in DECIDE]
    assert len(shared) == len(set(shared))
    assert sorted(role for role in world.jobs() if role in DECIDE) == sorted([*DECIDE, *DECIDE])


def test_a_step_that_waits_for_another_owner_begins_when_that_owner_goes() -> None:
    world = beside(world_with())
    world.behaviour = until("prepare-train")
    world.settle(DIGITS)
    world.now += timedelta(seconds=1)
    world.settle(OTHER)
    assert "prepare-train" not in {job["metadata"]["labels"]["slipway.dev/role"] for job in jobs_of(world, "other")}
    world.remove(DIGITS)
    world.behaviour = does_its_work
    world.run(OTHER)
    assert world.status(OTHER)["phase"] == "Ready"


def jobs_of(world: World, owner: str) -> list[Object]:
    return list(world.select(JOB, NAMESPACE, {"slipway.dev/model-deployment": owner}))


def test_a_failed_step_runs_again_once_for_each_value_of_the_annotation() -> None:
    world = world_with()
    world.behaviour = raising("prune-structured")
    world.run(DIGITS)
    assert world.condition(DIGITS, "Stalled")[1] == "StepFailed"
    tried = world.jobs().count("step-0-prune-structured")
    for number in (1, 2):
        annotate(world, f"again-{number}")
        world.run(DIGITS)
        world.run(DIGITS)
        assert world.jobs().count("step-0-prune-structured") == tried + number
    world.behaviour = does_its_work
    annotate(world, "again-3")
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready"


def annotate(world: World, nonce: str) -> None:
    obj = world.objects[DIGITS]
    world.put({**obj, "metadata": {**obj["metadata"], "annotations": {RETRY_ANNOTATION: nonce}}})


def test_a_job_goes_on_although_its_input_lies_elsewhere_by_now() -> None:
    model = {"stored": {"uri": "store:///models/one", "digest": DIGEST, "state": "module"}}
    world = world_with(model=model, compression={"steps": [PRUNE], "data": {"dataset": "digits"}}, evaluation=HELD_OUT)
    world.settle(DIGITS)
    made = len(world.jobs())
    assert made > 0
    world.edit(DIGITS, lambda spec: spec["model"]["stored"].update(uri="store:///models/two"))
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready"
    assert len(world.jobs()) == len(set(world.jobs()))


def test_the_step_of_a_deployment_goes_with_the_revision_that_wanted_it() -> None:
    world = world_with()
    world.behaviour = until("prune-structured")
    world.run(DIGITS)
    (before,) = [
        step["metadata"]["name"] for role, step in steps_of(world, "digits").items() if role.startswith("step-0")
    ]
    world.edit(DIGITS, lambda spec: spec["compression"]["steps"][0]["params"].update(ratio=0.4))
    world.run(DIGITS)
    names = {step["metadata"]["name"] for step in steps_of(world, "digits").values()}
    assert before not in names
    assert len([role for role in steps_of(world, "digits") if role.startswith("step-0")]) == 1
