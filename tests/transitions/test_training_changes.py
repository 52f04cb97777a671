"""A TrainingJob whose few mutable fields changed at random, at rest or on the way."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.api.base import timedelta_of
from slipway.api.kinds import Object
from slipway.api.trainingjob import TrainingJobSpec
from slipway.plan.jobs.outcomes import is_over
from support.budget import tried
from support.changes import TRAINED, Change, at_rest, becomes, changes, moves, rests, world_with
from support.faults.operations import fails, preempted
from support.places import Json
from support.states import conditions, jobs_made, lawful, leaves_nothing, status_of

CHANGES = changes("TrainingJob")
FIRST_ATTEMPTS = {"works": {}, "fails": {"train/1": fails()}, "is preempted": {"train/1": preempted}}


def unhurried(spec: Json) -> bool:
    """No deadline that the little time of a test could reach."""
    deadline = TrainingJobSpec.model_validate(spec).active_deadline
    return deadline is None or timedelta_of(deadline) > timedelta(days=1)


def shown(status: Object, *, exactly: bool) -> object:
    """What a user sees at the end. exactly: with what depends on how many nodes which attempt had."""
    words = {kind: one if exactly else one[:2] for kind, one in conditions(status).items()}
    return status["phase"], words, status["restarts"], status.get("metrics"), exactly and status.get("artifact")


@pytest.mark.timeout(1800)
@tried(50)
@given(CHANGES, st.sampled_from(sorted(FIRST_ATTEMPTS)))
async def test_a_changed_job_ends_as_one_that_had_the_spec_from_the_start(change: Change, first_attempt: str) -> None:
    operations = FIRST_ATTEMPTS[first_attempt]
    stage = await world_with(TRAINED, change.first)
    await moves(stage, change.moves, operations)
    before, made = await status_of(stage, TRAINED), jobs_made(stage)
    done = any(is_over(job) for job in await stage.world.jobs("train"))
    await becomes(stage, TRAINED, change.second)
    await rests(stage, operations)
    await lawful(stage, TRAINED)
    after = await status_of(stage, TRAINED)
    if "finishedAt" in before:
        assert shown(after, exactly=True) == shown(before, exactly=True)
        assert jobs_made(stage) == made, "a job that is over made a child"
    elif first_attempt == "works" and unhurried(change.first) and unhurried(change.second):
        # Pods that had ended when the user suspended the job have ended all the same.
        second = {**change.second, "suspend": False} if done else change.second
        fresh = await status_of(await at_rest(TRAINED, second, operations), TRAINED)
        alike = len(after.get("attempts", ())) <= 1 and change.first.get("nodes") == change.second.get("nodes")
        assert shown(after, exactly=alike) == shown(fresh, exactly=alike)
    made = jobs_made(stage)
    await becomes(stage, TRAINED, change.first)
    await rests(stage, operations)
    await lawful(stage, TRAINED)
    if "finishedAt" in after:
        assert shown(await status_of(stage, TRAINED), exactly=True) == shown(after, exactly=True)
        assert jobs_made(stage) == made, "a job that is over made a child"
    roles = [made.role for made in stage.history.jobs.values() if made.role.startswith("prepare-")]
    assert len(roles) == len(set(roles)), "data was prepared twice"
    await leaves_nothing(stage, TRAINED)
