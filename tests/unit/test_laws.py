"""The laws that tests of the whole loop are held to can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from slipway.api.kinds import JOB, Key
from slipway.plan.conditions import ConditionValue
from slipway.plan.deployment import status
from slipway.plan.owner import Owner
from slipway.plan.plan import Deletion, Plan
from support.builders import NAMESPACE
from support.hostile import DIGITS, HostileWorld
from support.laws import LawBroken

FINE = ConditionValue(True, "RevisionServes", "it serves")
derive_status = status.derive_status


def of_a_generation_to_come(owner: Owner, *more: Any) -> Any:
    after = derive_status(owner, *more)
    return after.model_copy(update={"observed_generation": owner.generation + 1})


def with_an_entry_twice(owner: Owner, *more: Any) -> Any:
    after = derive_status(owner, *more)
    return after.model_copy(update={"revisions": (*after.revisions, *after.revisions)})


def of_an_old_generation(owner: Owner, *more: Any) -> Any:
    after = derive_status(owner, *more)
    return after.model_copy(update={"observed_generation": 1})


@pytest.mark.parametrize(
    ("place", "lie", "complaint"),
    [
        ("slipway.plan.deployment.status._available", lambda *_: FINE, r"Available is \['True'\], and 0 pods"),
        (
            "slipway.plan.deployment.planner.derive_status",
            of_a_generation_to_come,
            "is of generation 3, and the spec of 2",
        ),
        ("slipway.plan.deployment.planner.derive_status", with_an_entry_twice, "has an entry twice"),
        ("slipway.plan.deployment.planner.derive_status", of_an_old_generation, "the status is of generation 1"),
    ],
)
async def test_a_status_that_is_not_so_is_found(
    monkeypatch: pytest.MonkeyPatch, place: str, lie: Callable[..., Any], complaint: str
) -> None:
    world = await HostileWorld().start()
    await world.lives(4)
    monkeypatch.setattr(place, lie)
    world.edits(serving={"replicas": 2})
    world.pods_live = False
    await world.counts()
    with pytest.raises(LawBroken, match=complaint):
        await world.passes(0)


async def test_a_write_to_the_object_of_another_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await HostileWorld().start()
    await world.lives(4)
    world.twin.add(
        {
            "apiVersion": JOB.api_version,
            "kind": "Job",
            "metadata": {
                "name": "theirs",
                "namespace": NAMESPACE,
                "labels": {"app.kubernetes.io/managed-by": "slipway"},
            },
            "spec": {},
        }
    )
    theirs = (await world.twin.get(Key(JOB, NAMESPACE, "theirs")))["metadata"]
    deletion = Deletion(Key(JOB, NAMESPACE, "theirs"), theirs["uid"], theirs["resourceVersion"])
    planner = world.operator.reconciler._planners[DIGITS.kind]

    def greedy(*given: Any) -> Plan:
        return planner(*given).plus(Plan(delete=(deletion,)))

    monkeypatch.setitem(world.operator.reconciler._planners, DIGITS.kind, greedy)  # type: ignore[arg-type]
    world.edits(serving={"replicas": 2})
    with pytest.raises(LawBroken, match="theirs was deleted, and its owner None is no resource of ours"):
        await world.passes(0)
