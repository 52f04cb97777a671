"""What only the twin has: collection of garbage, a feed of changes, and refusal of what it does not know."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from slipway.api.errors import Forbidden, Invalid, NotFound
from slipway.api.kinds import JOB, POD, SERVICE, TRAINING_JOB, Key, Kind, Object, key_of
from slipway.cluster.port import ReadOnly
from slipway.cluster.twin import Twin, Unsupported, WatchEvent

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make(kind: Kind, name: str, owner: Object | None = None) -> Object:
    meta: Object = {"name": name, "namespace": "default"}
    if owner:
        meta["ownerReferences"] = [{"uid": owner["metadata"]["uid"], "kind": owner["kind"], "controller": True}]
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta}


@pytest.fixture
def twin() -> Twin:
    return Twin(lambda: NOW)


async def test_what_an_owner_leaves_behind_is_collected_to_the_last(twin: Twin) -> None:
    parent = twin.add(make(TRAINING_JOB, "parent"))
    job = twin.add(make(JOB, "job", parent))
    twin.add(make(POD, "pod", job))
    other = twin.add(make(SERVICE, "other"))
    twin.remove(key_of(parent))
    for kind, name in ((JOB, "job"), (POD, "pod")):
        with pytest.raises(NotFound):
            await twin.get(Key(kind, "default", name))
    assert await twin.get(key_of(other)) == other


async def test_a_child_of_two_owners_stays_as_long_as_one_lives(twin: Twin) -> None:
    one, two = (twin.add(make(TRAINING_JOB, name)) for name in ("one", "two"))
    child = make(JOB, "job", one)
    child["metadata"]["ownerReferences"] += make(JOB, "job", two)["metadata"]["ownerReferences"]
    twin.add(child)
    twin.remove(key_of(one))
    assert len(await twin.list(JOB)) == 1
    twin.remove(key_of(two))
    assert await twin.list(JOB) == []


async def test_every_change_is_told_in_order(twin: Twin) -> None:
    told: list[WatchEvent] = []
    twin.subscribe(told.append)
    made = await twin.create(make(TRAINING_JOB, "a"))
    patched = await twin.patch_status(key_of(made), made["metadata"]["resourceVersion"], {"phase": "Pending"})
    await twin.delete(
        key_of(made), uid=made["metadata"]["uid"], resource_version=patched["metadata"]["resourceVersion"]
    )
    assert [change.type for change in told] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(change.object["metadata"]["resourceVersion"]) for change in told]
    assert versions == sorted(set(versions))


async def test_nobody_can_change_what_it_holds(twin: Twin) -> None:
    made = await twin.create(make(TRAINING_JOB, "a"))
    made["spec"] = {"changed": True}
    got = await twin.get(key_of(made))
    got["metadata"]["labels"] = {"changed": "true"}
    assert "spec" not in await twin.get(key_of(made))
    assert "labels" not in (await twin.get(key_of(made)))["metadata"]


async def test_a_pod_can_be_added_as_the_kubelet_sees_it(twin: Twin) -> None:
    twin.add({**make(POD, "a"), "status": {"phase": "Running"}})
    assert (await twin.get(Key(POD, "default", "a")))["status"] == {"phase": "Running"}


async def test_it_refuses_what_it_does_not_know(twin: Twin) -> None:
    with pytest.raises(Unsupported):
        await twin.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "default"}})
    with pytest.raises(Unsupported):
        await twin.list(Kind("", "v1", "secrets", "Secret"))
    with pytest.raises(Invalid, match="namespace"):
        await twin.create({**make(JOB, "a"), "metadata": {"name": "a"}})


async def test_what_happens_in_a_fork_happens_nowhere_else(twin: Twin) -> None:
    applied = await twin.apply({**make(SERVICE, "both"), "spec": {"clusterIP": "None", "ports": []}})
    changes: list[WatchEvent] = []
    twin.subscribe(changes.append)
    fork = twin.fork(lambda: NOW)
    await fork.apply({**make(SERVICE, "both"), "spec": {"clusterIP": "None"}})
    fork.add(make(JOB, "job"))
    assert await twin.get(key_of(applied)) == applied
    assert await twin.list(JOB) == []
    assert changes == []
    assert "ports" not in (await fork.get(key_of(applied)))["spec"], "it knows what was applied before"
    assert fork.revision > twin.revision


async def test_an_owner_of_a_thousand_takes_them_all_along(twin: Twin) -> None:
    parent = twin.add(make(TRAINING_JOB, "parent"))
    for number in range(1000):
        twin.add(make(POD, f"pod-{number}", parent))
    twin.remove(key_of(parent))
    assert await twin.list(POD) == []


async def test_what_only_reads_refuses_every_write_and_passes_every_read(twin: Twin) -> None:
    made = twin.add(make(TRAINING_JOB, "there"))
    cluster, meta = ReadOnly(twin), made["metadata"]
    assert (await cluster.get(key_of(made)), await cluster.list(TRAINING_JOB)) == (made, [made])
    for write in (
        cluster.create(make(TRAINING_JOB, "new")),
        cluster.apply(make(TRAINING_JOB, "new")),
        cluster.patch_status(key_of(made), meta["resourceVersion"], {"phase": "Failed"}),
        cluster.delete(key_of(made), uid=meta["uid"], resource_version=meta["resourceVersion"]),
    ):
        with pytest.raises(Forbidden, match="this command only reads"):
            await write
    assert await twin.list(TRAINING_JOB) == [made]
