"""Whatever the API server lets in, the operator keeps planning, and others' objects keep moving."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given

from slipway.api.base import MAX_DEPTH
from slipway.api.kinds import CHILDREN, MODEL_DEPLOYMENT, TRAINING_JOB, Key, Object
from slipway.reconcile.execute import status_patch
from support.budget import tried
from support.builders import NAMESPACE, model_deployment, resource, training_job
from support.changes import DEPLOYED, TRAINED, becomes, rests, world_with
from support.faults.scenario import placed
from support.faults.twin_stage import TwinStage
from support.full_objects import full_objects
from support.mutants import Mutant, mutants, nested
from support.places import Json, with_value
from support.refusals import RESOURCE_OF
from support.states import conditions, silent, status_of
from support.validators import validate_by_model

SLOW = "planning held the loop"
"""Also said of a plan in which a busy machine did something else for a second."""
HEALTHY_JOB, HEALTHY_DEPLOYMENT = Key(TRAINING_JOB, NAMESPACE, "fine"), Key(MODEL_DEPLOYMENT, NAMESPACE, "fine")
GOOD: dict[str, Json] = {
    "TrainingJob": {"entrypoint": {"module": {"name": "team.train"}}, "image": "mine:1"},
    "ModelDeployment": {"model": {"trainingJob": "digits"}},
}


async def beside(kind: str, spec: Json) -> TwinStage:
    """A world with an odd object, and then two healthy ones."""
    key = TRAINED if kind == "TrainingJob" else DEPLOYED
    stage = await world_with(key, spec if kind == key.kind.kind else GOOD[key.kind.kind])
    if kind != key.kind.kind:
        await stage.world.admin.create(placed(resource(RESOURCE_OF[kind].kind, "odd", **spec), NAMESPACE))
    for obj in (training_job("fine"), model_deployment("fine")):
        await stage.world.admin.create(placed(obj, NAMESPACE))
    return stage


async def all_is_well(stage: TwinStage, logged: list[dict[str, Any]], kind: str) -> None:
    await rests(stage, {})
    assert (await status_of(stage, HEALTHY_JOB))["phase"] == "Succeeded"
    assert (await status_of(stage, HEALTHY_DEPLOYMENT))["phase"] == "Ready"
    if kind in ("TrainingJob", "ModelDeployment"):
        status = await status_of(stage, TRAINED if kind == "TrainingJob" else DEPLOYED)
        assert status["observedGeneration"] >= 1
        RESOURCE_OF[kind].model.model_validate({"spec": GOOD[kind], "status": status})
        assert status_patch(status, status) == {}
    for child in [obj for kind_ in CHILDREN for obj in await stage.twin.list(kind_, NAMESPACE)]:
        named(child)
    complaints = [entry for entry in logged if entry["log_level"] in ("error", "critical", "warning")]
    assert [entry for entry in complaints if entry["event"] != SLOW] == []


def named(child: Object) -> None:
    """Names and label values that the API server takes."""
    meta = child["metadata"]
    assert len(meta["name"]) <= 63
    for labels in (
        meta.get("labels", {}),
        child.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {}),
    ):
        assert all(len(value) <= 63 for value in labels.values())


def small(spec: Json) -> Json:
    """Pods by the hundred are tried once, below."""
    return {**spec, "nodes": min(spec.get("nodes", 1), 3)} if "nodes" in spec else spec


@pytest.mark.timeout(1800)
@tried(50)
@given(mutant=mutants())
async def test_an_odd_spec_harms_nobody(captured_logs: list[dict[str, Any]], mutant: Mutant) -> None:
    validated = validate_by_model(mutant.kind, mutant.spec)
    assume(not isinstance(validated, list))
    captured_logs.clear()
    stage = await beside(mutant.kind, small(validated.to_wire()["spec"]))
    await all_is_well(stage, captured_logs, mutant.kind)


@pytest.mark.timeout(1800)
@tried(20)
@given(mutant=mutants())
async def test_a_spec_that_the_models_refuse_harms_nobody_either(
    captured_logs: list[dict[str, Any]], mutant: Mutant
) -> None:
    """An older CRD may have let it in, or one that a user edited."""
    assume(isinstance(mutant.spec, dict) and isinstance(validate_by_model(mutant.kind, mutant.spec), list))
    captured_logs.clear()
    stage = await beside(mutant.kind, mutant.spec)
    await all_is_well(stage, captured_logs, mutant.kind)


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 300])
@pytest.mark.parametrize("kind", ["TrainingJob", "ModelDeployment"])
async def test_what_is_nested_too_deep_is_stalled_by_its_field(kind: str, levels: int) -> None:
    place = {
        "TrainingJob": ("entrypoint", "recipe", "model", "args"),
        "ModelDeployment": ("compression", "steps", 0, "params"),
    }[kind]
    key = TRAINED if kind == "TrainingJob" else DEPLOYED
    good = full_objects()[kind][0]["spec"]
    stage = await beside(kind, with_value(good, place, nested(levels)))
    await rests(stage, {})
    status, reason, message = conditions(await status_of(stage, key), "Stalled")["Stalled"]
    assert (status, reason) == ("True", "InvalidSpec")
    assert f"{place[-1]}: must not be nested more than {MAX_DEPTH} levels deep" in message
    assert (await status_of(stage, HEALTHY_JOB))["phase"] == "Succeeded"


async def test_a_hundred_nodes_are_as_good_as_two(captured_logs: list[dict[str, Any]]) -> None:
    stage = await beside("TrainingJob", {**GOOD["TrainingJob"], "nodes": 100})
    await all_is_well(stage, captured_logs, "TrainingJob")
    await becomes(stage, TRAINED, {**GOOD["TrainingJob"], "nodes": 1})
    await rests(stage, {})
    assert (await status_of(stage, TRAINED))["phase"] == "Succeeded"
    await silent(stage)
