"""What a cluster offers changes, at random: nothing that is at rest moves, and what comes later uses it as it is."""

from __future__ import annotations

import pytest
from hypothesis import given

from slipway.api.kinds import (
    ARTIFACT_STORE,
    COMPRESSION_PLUGIN,
    GPU_POOL,
    MODEL_DEPLOYMENT,
    NETWORK_POLICY,
    STEP,
    TRAINING_JOB,
    Key,
    Kind,
)
from slipway.plan.owner import OWNER_LABELS
from support.budget import tried
from support.builders import NAMESPACE, PRUNE, QUANTIZE, model_deployment, training_job
from support.changes import Change, becomes, changes, rests, world_with
from support.faults.scenario import placed
from support.faults.twin_stage import TwinStage
from support.places import Json
from support.refusals import RESOURCE_OF
from support.specs import mutable_fields
from support.states import conditions, deployments, jobs_made, silent, status_of

FIRST, LATER = Key(MODEL_DEPLOYMENT, NAMESPACE, "changed"), Key(MODEL_DEPLOYMENT, NAMESPACE, "later")
TRAINS, TRAINS_LATER = Key(TRAINING_JOB, NAMESPACE, "trains"), Key(TRAINING_JOB, NAMESPACE, "trains-later")
SPEC = model_deployment(steps=(PRUNE, QUANTIZE))["spec"]


async def neighbourhood(kind: Kind, name: str, spec: Json) -> TwinStage:
    """A deployment and a job on a pool, where the pool, plugin or store of that name has that spec from the start."""
    stage = await world_with(FIRST, SPEC)
    await becomes(stage, named(kind, name), spec)
    await stage.world.admin.create(placed(training_job("trains", pools=["h100"]), NAMESPACE))
    await rests(stage, {})
    return stage


def named(kind: Kind, name: str) -> Key:
    return Key(kind, NAMESPACE if kind.namespaced else "", name)


async def comes_later(stage: TwinStage) -> object:
    """What becomes of a deployment and a job that are made now; without what carries their UIDs."""
    await stage.world.admin.create(placed(model_deployment("later", steps=(PRUNE, QUANTIZE)), NAMESPACE))
    await stage.world.admin.create(placed(training_job("trains-later", pools=["h100"]), NAMESPACE))
    await rests(stage, {})
    later, job = await status_of(stage, LATER), await status_of(stage, TRAINS_LATER)
    steps = await stage.twin.list(STEP, NAMESPACE, {OWNER_LABELS[LATER.kind.kind]: LATER.name})
    wanted = sorted(one["spec"]["digest"] for one in steps)
    processes = [one["processesPerNode"] for one in job["attempts"]]
    policies = [await reached(stage, key) for key in (LATER, TRAINS_LATER)]
    return later["phase"], conditions(later, "Stalled")["Stalled"][:2], wanted, job["phase"], processes, policies


async def reached(stage: TwinStage, key: Key) -> list[Json]:
    """Where the pods of a resource may connect to, by its NetworkPolicies."""
    found = await stage.twin.list(NETWORK_POLICY, key.namespace, {OWNER_LABELS[key.kind.kind]: key.name})
    return [policy["spec"] for policy in found]


async def stays(kind: Kind, name: str, change: Change) -> None:
    stage = await neighbourhood(kind, name, change.first)
    before = await status_of(stage, FIRST), await status_of(stage, TRAINS), await deployments(stage, FIRST)
    made = jobs_made(stage)
    await becomes(stage, named(kind, name), change.second)
    await rests(stage, {})
    after = await status_of(stage, FIRST), await status_of(stage, TRAINS), await deployments(stage, FIRST)
    assert after[1] == before[1]
    if before[0]["phase"] == "Ready":
        assert after == before
        assert jobs_made(stage) == made
    await silent(stage)
    fresh = await neighbourhood(kind, name, change.second)
    assert await comes_later(stage) == await comes_later(fresh)


@pytest.mark.timeout(1800)
@tried(10)
@given(changes("GPUPool"))
async def test_what_a_pool_changes_is_for_what_comes_later(change: Change) -> None:
    await stays(GPU_POOL, "h100", change)


@pytest.mark.timeout(1800)
@tried(10)
@given(changes("CompressionPlugin"))
async def test_what_a_plugin_changes_is_for_what_comes_later(change: Change) -> None:
    await stays(COMPRESSION_PLUGIN, "prune-structured", change)


@pytest.mark.timeout(1800)
@tried(10)
@given(changes("ArtifactStore"))
async def test_what_a_store_changes_of_its_networks_is_for_what_comes_later(change: Change) -> None:
    """It says where pods may connect to, and is no part of any result."""
    await stays(ARTIFACT_STORE, "default", change)


def test_nothing_else_of_a_store_may_change() -> None:
    assert mutable_fields(RESOURCE_OF["ArtifactStore"]) == [("spec", "networks")]
