"""What a spec names: waited for where it may come, an error where a user has to fix it."""

from __future__ import annotations

import pytest

from slipway.api.errors import SpecError
from slipway.api.kinds import Object
from slipway.plan import conditions
from slipway.plan.conditions import with_conditions
from slipway.plan.observation import Snapshot
from slipway.plan.references import NotYet, ready_store
from support.builders import NAMESPACE, S3, T0, bucket_store, store
from support.training import TrainingWorld

REFUSED = conditions.stalled("StoreRefused", "spec.s3.bucket of the ArtifactStore: there is no bucket; create it")


def failed_store() -> Object:
    said = [one.to_wire() for one in with_conditions((), REFUSED, 1, T0)]
    return bucket_store(status={"observedGeneration": 1, "phase": "Failed", "conditions": said})


def test_a_store_that_is_ready_is_used() -> None:
    found = ready_store(Snapshot([bucket_store()]), NAMESPACE, "default")
    assert found.to_wire() == {"s3": S3, "networks": [], "heldOut": False}


@pytest.mark.parametrize(("objects", "reason"), [((), "StoreNotFound"), ((store(ready=False),), "StoreNotReady")])
def test_a_store_that_may_come_is_waited_for(objects: tuple[Object, ...], reason: str) -> None:
    with pytest.raises(NotYet) as found:
        ready_store(Snapshot(objects), NAMESPACE, "default")
    assert found.value.reason == reason


def test_a_store_that_a_user_has_to_fix_is_told_with_its_own_words() -> None:
    with pytest.raises(SpecError, match=r'spec\.store: ArtifactStore "default" cannot be used: spec\.s3\.bucket'):
        ready_store(Snapshot([failed_store()]), NAMESPACE, "default")


def test_a_training_on_such_a_store_is_stalled_until_it_is_fixed() -> None:
    world = TrainingWorld(failed_store()).plan()
    assert world.phase == "Failed"
    assert world.says("Stalled").startswith("True StoreFailed: spec.store: ")
    world.put(bucket_store())
    assert len(world.plan().attempts) == 1
    assert world.truths()["Stalled"] is False
