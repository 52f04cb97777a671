"""Names of children that a user takes one after another, as random histories did (tests/faults/test_histories.py)."""

from __future__ import annotations

from slipway.api.kinds import CONTROLLER_REVISION, DEPLOYMENT, Key
from support.builders import NAMESPACE
from support.hostile import HostileWorld


async def test_a_record_whose_name_is_taken_is_not_asked_for_again_and_again() -> None:
    """Its Deployment goes too: there is nothing to render it from, and nothing to do but to say so."""
    world = await HostileWorld().start()
    await world.lives(4)
    name = str((await world.status())["serving"])
    record = Key(CONTROLLER_REVISION, NAMESPACE, name)
    theirs = await world.twin.get(record)
    world.twin.remove(record)
    world.twin.add({**theirs, "metadata": {"name": name, "namespace": NAMESPACE}})
    await world.passes(0)
    world.twin.remove(Key(DEPLOYMENT, NAMESPACE, name))
    before = len(world.api.writes)
    await world.passes(600)
    asked = [write for write in world.api.writes[before:] if write.kind == "ControllerRevision"]
    assert len(asked) <= 1
    assert (await world.condition("Stalled"))[:2] == ("True", "NameConflict")
    assert not await world.available()
    world.twin.remove(record)
    await world.operator.looks_again()
    await world.lives(4)
    assert (await world.status())["phase"] == "Ready"
