"""What a TrainingJob's whole life costs and survives."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest

from slipway.api.kinds import Object, key_of
from support.builders import store
from support.training import TrainingWorld, tasks_of

BUILT_IN = [{"name": "train", "dataset": "digits"}, {"name": "test", "dataset": "digits", "split": "test"}]


@pytest.mark.parametrize(("nodes", "most"), [(1, 6), (2, 8)])
def test_a_job_costs_few_writes_events_included(nodes: int, most: int) -> None:
    world = TrainingWorld(nodes=nodes).plan()
    for phase in ("Pending", "Running"):
        for index in range(nodes):
            world.pod_is(index, phase=phase).passes(seconds=1)
    for index in reversed(range(1, nodes)):
        world.pod_is(index, exit_code=0).passes(seconds=1)
    world.succeeds().passes(minutes=10)
    assert world.phase == "Succeeded"
    assert len(world.writes) + len(world.events) <= most, world.writes


def test_preparing_two_data_sets_costs_two_writes_of_a_step_and_a_job_each() -> None:
    world = TrainingWorld(nodes=2, data=BUILT_IN).plan()
    world.step()
    world.plan().pods_run().succeeds()
    assert len(world.writes) + len(world.events) <= 8 + 2 * 3 + 2


def test_a_finished_job_costs_nothing_any_more() -> None:
    world = TrainingWorld(nodes=2).plan().pods_run().succeeds()
    writes = len(world.writes)
    world.passes(days=30)
    world.remove(key_of(store()))
    world.passes(days=30)
    assert len(world.writes) == writes
    assert world.wake_at is None


def life(world: TrainingWorld, crash_after: int | None = None) -> None:
    """A failure, a preemption and a success, from any point; the operator dies once after a number of writes."""
    world.operator_runs = False  # but for the turns below
    for _ in range(60):
        left = None if crash_after is None or crash_after <= len(world.writes) else crash_after - len(world.writes)
        world.settle(world.key, left)
        if left is not None and len(world.writes) >= (crash_after or 0):
            continue  # it starts again, and knows nothing but what the cluster shows
        if world.phase == "Succeeded":
            return
        if tasks_of(world) == ["prepare", "prepare"]:
            world.step()
        elif not world.attempts or "outcome" in world.attempts[-1]:
            world.now += timedelta(minutes=1)
        else:
            end(world)
    raise AssertionError(world.status(world.key))


def end(world: TrainingWorld) -> None:
    """The pods of the newest attempt run, or have run and end."""
    attempt = world.attempts[-1]
    if "runningAt" not in attempt:
        world.pods_run()
    elif attempt["number"] == 1:
        world.fails()
    elif attempt["number"] == 2:
        world.job_says("Failed", "PodFailurePolicy")
    else:
        world.succeeds()


@pytest.fixture(scope="module")
def undisturbed() -> TrainingWorld:
    world = TrainingWorld(nodes=2, data=BUILT_IN)
    life(world)
    return world


MOST_WRITES = 40


def test_the_undisturbed_life_is_covered_by_the_points_of_crash(undisturbed: TrainingWorld) -> None:
    assert len(undisturbed.writes) <= MOST_WRITES


@pytest.mark.parametrize("crash_after", range(1, MOST_WRITES))
def test_a_crash_after_any_write_changes_nothing_of_the_outcome(crash_after: int, undisturbed: TrainingWorld) -> None:
    world = TrainingWorld(nodes=2, data=BUILT_IN)
    life(world, crash_after)
    assert [entry["outcome"] for entry in world.attempts] == ["Failed", "Preempted", "Succeeded"]
    assert of_children(world) == of_children(undisturbed)
    assert what_is_told(world) == what_is_told(undisturbed)


def of_children(world: TrainingWorld) -> list[tuple[str, str, str]]:
    return [write for write in world.writes if write[0] != "status"]


def what_is_told(world: TrainingWorld) -> Object:
    """The status without UIDs, which the world counts up with its writes."""
    status = world.status(world.key)
    told: Object = json.loads(re.sub(r'"jobUID": "[^"]+"', '"jobUID": "known"', json.dumps(status)))
    return told


def test_a_deadline_that_passes_while_a_report_is_read_again_asks_for_no_further_round() -> None:
    world = TrainingWorld(activeDeadline="2h").plan().passes(hours=2, seconds=-40)
    world.job_says("Complete").passes(seconds=30)
    assert tasks_of(world) == ["recover"]
    world.passes(seconds=10)
    assert world.wake_at is None or world.wake_at > world.now
