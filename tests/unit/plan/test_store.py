from __future__ import annotations

from datetime import timedelta

import pytest

from slipway.api.kinds import Object
from slipway.plan.observation import Observation, Snapshot
from slipway.plan.plan import Plan
from slipway.plan.store import plan_store
from support.builders import SETTINGS, T0, claim, store


def fresh() -> Object:
    return {**store(), "status": {"observedGeneration": -1}}


def planned(obj: Object, *seen: Object, minutes: int = 0) -> Plan:
    return plan_store(obj, Observation(Snapshot(seen), SETTINGS, T0 + timedelta(minutes=minutes)))


def said(plan: Plan) -> dict[str, tuple[str, str]]:
    assert plan.status is not None
    return {c["type"]: (c["status"], c["reason"]) for c in plan.status["conditions"]}


def test_a_shared_claim_makes_the_store_ready() -> None:
    plan = planned(fresh(), claim(modes=("ReadOnlyMany", "ReadWriteMany")))
    assert plan.status is not None
    assert (plan.status["phase"], plan.status["observedGeneration"]) == ("Ready", 1)
    assert said(plan)["Ready"] == ("True", "ClaimFound")
    assert said(plan)["Reconciling"][0] == said(plan)["Stalled"][0] == "False"
    assert plan.wake_at is None


def test_a_claim_that_does_not_exist_yet_is_waited_for() -> None:
    plan = planned(fresh())
    assert plan.status is not None
    assert plan.status["phase"] == "Pending"
    assert said(plan) == {
        "Ready": ("False", "ClaimNotFound"),
        "Reconciling": ("True", "ClaimNotFound"),
        "Stalled": ("False", "ClaimNotFound"),
    }
    assert plan.wake_at is not None
    assert plan.events == ()


@pytest.mark.parametrize("modes", [("ReadWriteOnce",), ("ReadWriteOncePod",), ("ReadOnlyMany",), ()])
def test_a_claim_that_cannot_be_shared_is_refused_by_its_field(modes: tuple[str, ...]) -> None:
    plan = planned(fresh(), claim(modes=modes))
    assert plan.status is not None
    assert plan.status["phase"] == "Failed"
    assert said(plan)["Stalled"] == ("True", "ClaimNotShared")
    (event,) = plan.events
    assert event.type == "Warning"
    assert "spec.persistentVolumeClaim.claimName" in event.message
    assert "ReadWriteMany" in event.message


def test_the_refusal_leaves_with_its_cause_and_is_told_once() -> None:
    refused = {**fresh(), "status": planned(fresh(), claim(modes=("ReadWriteOnce",))).status}
    again = planned(refused, claim(modes=("ReadWriteOnce",)), minutes=5)
    assert again.status is None
    assert again.events == ()
    assert said(planned(refused, claim(), minutes=5))["Ready"] == ("True", "ClaimFound")


def test_a_store_that_is_ready_is_left_alone() -> None:
    ready = {**fresh(), "status": planned(fresh(), claim()).status}
    assert planned(ready, claim(), minutes=60) == Plan()


def test_a_store_that_is_being_deleted_is_left_alone() -> None:
    going = fresh()
    going["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    assert planned(going) == Plan()
