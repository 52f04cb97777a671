"""A ModelDeployment whose spec changed at random ends as one that never had another, and back again as it was."""

from __future__ import annotations

import pytest
from hypothesis import given

from slipway.api.modeldeployment import ModelDeploymentSpec
from support.budget import tried
from support.changes import DEPLOYED, Change, at_rest, becomes, changes, moves, rests, world_with
from support.faults.twin_stage import TwinStage
from support.places import Json
from support.states import (
    conditions,
    deployments,
    jobs_made,
    lawful,
    leaves_nothing,
    revision,
    status_of,
    traffic,
)

THREE = ("Ready", "Reconciling", "Stalled")
CHANGES = changes("ModelDeployment")


def evaluation(spec: Json) -> object:
    """What a revision is evaluated on, in which store, and what its golden requests are made of."""
    evaluation = ModelDeploymentSpec.model_validate(spec).evaluation
    return evaluation and (evaluation.data, evaluation.store)


async def equal(one: TwinStage, other: TwinStage, *without: str) -> None:
    """What the spec wants stands alike in both. without: fields of the revision that may remember another spec."""
    was, is_ = await status_of(one, DEPLOYED), await status_of(other, DEPLOYED)
    # Scaled to zero, one that had the traffic before is as it was asked for; a fresh one could not take over yet.
    asleep = conditions(was, "Ready")["Ready"][1] == "ScaledToZero"
    alike = THREE[asleep:]
    assert conditions(is_, *alike) == conditions(was, *alike)
    if not was.get("candidate"):
        return
    for field in ("candidate", "model", "modelFrom", "trainData"):
        assert is_.get(field) == was.get(field), field
    if was["phase"] != "Ready":  # half made, or refused: what was made already under the other spec is there
        without = ("baseline", "model", "repository", "steps", "gate")
    assert revision(is_, *without) == revision(was, *without)
    if was["phase"] != "Ready" or asleep:
        return
    for field in ("phase", "serving", "readyReplicas", "selector", "url", "accuracy", "sizes"):
        assert is_.get(field) == was.get(field), field
    assert conditions(is_) == conditions(was)
    assert await traffic(other, DEPLOYED) == await traffic(one, DEPLOYED) == is_["serving"]
    wanted, present = await deployments(one, DEPLOYED), await deployments(other, DEPLOYED)
    if "repository" not in without:
        assert present[is_["serving"]] == wanted[is_["serving"]]
    replicas = ModelDeploymentSpec.model_validate((await other.twin.get(DEPLOYED))["spec"]).serving.replicas
    assert present[is_["serving"]]["replicas"] == is_["readyReplicas"] == replicas
    assert all(spec["replicas"] == 0 for name, spec in present.items() if name != is_["serving"])


@pytest.mark.timeout(1800)
@tried(100)
@given(CHANGES)
async def test_a_changed_spec_ends_as_a_fresh_one_and_comes_back_to_what_it_was(change: Change) -> None:
    alone = [await at_rest(DEPLOYED, spec) for spec in (change.first, change.second)]
    names = [(await status_of(stage, DEPLOYED)).get("candidate") for stage in alone]
    # A revision is packed once, with golden requests of the data that it was evaluated on then.
    remembers = names[0] == names[1] and evaluation(change.first) != evaluation(change.second)
    without = ("repository", "steps") if remembers else ()
    stage = await world_with(DEPLOYED, change.first)
    await moves(stage, change.moves)
    served = change.moves is None and (await status_of(stage, DEPLOYED))["phase"] == "Ready"
    await becomes(stage, DEPLOYED, change.second)
    await rests(stage)
    await lawful(stage, DEPLOYED)
    await equal(alone[1], stage, *without)
    made = jobs_made(stage)
    await becomes(stage, DEPLOYED, change.first)
    await rests(stage)
    await lawful(stage, DEPLOYED, repeated=not served)
    if served:
        assert jobs_made(stage) == made, "a step ran again"
    await equal(alone[0], stage, *without)
    await leaves_nothing(stage, DEPLOYED)
