"""The port to Kubernetes: one suite for the in-memory twin and for a real kube-apiserver."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from slipway.api.errors import AlreadyExists, Conflict, Invalid, NotFound
from slipway.api.kinds import (
    ARTIFACT_STORE,
    DEPLOYMENT,
    EVENT,
    JOB,
    LEASE,
    NETWORK_POLICY,
    SERVICE,
    TRAINING_JOB,
    Key,
    Kind,
    Object,
    key_of,
)
from slipway.api.status import not_yet_observed
from slipway.cluster.apiserver import ApiServer, collection_path
from slipway.cluster.connection import Connection
from slipway.cluster.port import ABSENT, Cluster
from slipway.cluster.twin import Twin

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
Edit = Callable[[Object], None]


@dataclass
class Side:
    """One side of the port, and what another user does behind its back. namespace: the test's own."""

    cluster: Cluster
    namespace: str
    edit: Callable[[Key, Edit], Awaitable[Object]]

    def key(self, kind: Kind, name: str) -> Key:
        return Key(kind, self.namespace, name)

    def training_job(self, name: str = "digits", **spec: Any) -> Object:
        script = {"entrypoint": {"script": {"path": "/train.py"}}, "image": "example.test/train:1"}
        return self._object(TRAINING_JOB, name, {**script, **spec})

    def store(self) -> Object:
        return self._object(ARTIFACT_STORE, "default", {"persistentVolumeClaim": {"claimName": "c"}})

    def service(self, name: str = "digits", ports: tuple[int, ...] = (80,), **labels: str) -> Object:
        listed = [{"name": f"p{port}", "port": port, "protocol": "TCP"} for port in ports]
        spec = {"clusterIP": "None", "selector": {"app": name}, "ports": listed}
        return self._object(SERVICE, name, spec, labels)

    def deployment(self, name: str = "digits", *, image: str = "example.test/a:1", **env: str) -> Object:
        variables = [{"name": name, "value": value} for name, value in env.items()]
        template = {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "main", "image": image, "env": variables}]},
        }
        spec = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template}
        return self._object(DEPLOYMENT, name, spec)

    def job(self, name: str = "digits") -> Object:
        pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.test/a:1"}]}
        return self._object(JOB, name, {"template": {"spec": pod}})

    def network_policy(self, *peers: str) -> Object:
        rules = [{"from": [{"podSelector": {"matchLabels": {"app": peer}}}]} for peer in peers]
        spec = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": rules}
        return self._object(NETWORK_POLICY, "digits", spec)

    def _object(self, kind: Kind, name: str, spec: Object, labels: dict[str, str] | None = None) -> Object:
        meta: Object = {"name": name, "namespace": self.namespace}
        if labels:
            meta["labels"] = labels
        return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, "spec": spec}


def twin_side() -> Side:
    twin = Twin(lambda: NOW)

    async def edit(key: Key, change: Edit) -> Object:
        return twin.edit(key, change)

    return Side(twin, "default", edit)


@pytest.fixture(params=["twin", "apiserver"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    if request.param == "twin":
        yield twin_side()
        return
    server = request.getfixturevalue("apiserver")
    namespace = f"cluster-{uuid4().hex[:8]}"
    server.must("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})

    async def edit(key: Key, change: Edit) -> Object:
        path = f"{collection_path(key.kind, key.namespace)}/{key.name}"
        edited = server.must("GET", path)
        change(edited)
        answer: Object = server.must("PUT", path, edited, fieldManager="another")
        return answer

    async with await Connection.open(str(server.kubeconfig)) as connection:
        yield Side(ApiServer(connection), namespace, edit)


def version(obj: Object) -> str:
    return str(obj["metadata"]["resourceVersion"])


def uid(obj: Object) -> str:
    return str(obj["metadata"]["uid"])


def onto(obj: Object, live: Object) -> Object:
    """The object, to be applied onto that very version of the live one."""
    return {**obj, "metadata": {**obj["metadata"], "uid": uid(live), "resourceVersion": version(live)}}


# --- create and get --------------------------------------------------------------------------------------------------


async def test_a_created_object_is_stored_with_its_identity(side: Side) -> None:
    made = await side.cluster.create(side.training_job())
    assert uid(made)
    assert int(version(made)) > 1
    assert made["metadata"]["generation"] == 1
    assert datetime.fromisoformat(made["metadata"]["creationTimestamp"]).tzinfo is not None
    got = await side.cluster.get(key_of(made))
    assert (uid(got), version(got), got["spec"]["image"]) == (uid(made), version(made), "example.test/train:1")


async def test_a_new_resource_is_not_taken_for_done(side: Side) -> None:
    made = await side.cluster.create({**side.training_job(), "status": {"phase": "Succeeded"}})
    assert made["status"] == not_yet_observed()


async def test_a_name_can_be_taken_once(side: Side) -> None:
    await side.cluster.create(side.service())
    with pytest.raises(AlreadyExists, match="digits"):
        await side.cluster.create(side.service())


async def test_what_is_not_there_is_not_found(side: Side) -> None:
    with pytest.raises(NotFound):
        await side.cluster.get(side.key(JOB, "nothing"))


async def test_an_object_that_was_given_is_not_changed(side: Side) -> None:
    given = side.service()
    before = deepcopy(given)
    await side.cluster.create(given)
    await side.cluster.apply(given)
    assert given == before


async def test_an_object_with_a_version_is_not_created(side: Side) -> None:
    wrong = side.service()
    wrong["metadata"]["resourceVersion"] = "7"
    with pytest.raises(Invalid):
        await side.cluster.create(wrong)


async def test_a_job_is_created_without_a_status(side: Side) -> None:
    made = await side.cluster.create({**side.job(), "status": {"active": 3}})
    assert not made.get("status")


async def test_an_event_is_an_object_like_others(side: Side) -> None:
    event = {
        "apiVersion": EVENT.api_version,
        "kind": "Event",
        "metadata": {"name": "digits.1", "namespace": side.namespace},
        "eventTime": "2026-01-02T03:04:05.000000Z",
        "reportingController": "slipway.dev/operator",
        "reportingInstance": "test",
        "action": "Reconcile",
        "type": "Normal",
        "reason": "Started",
        "note": "it began",
        "regarding": {"kind": "TrainingJob", "namespace": side.namespace, "name": "digits"},
    }
    await side.cluster.create(event)
    with pytest.raises(AlreadyExists):
        await side.cluster.create(event)


# --- list ------------------------------------------------------------------------------------------------------------


async def test_a_list_holds_what_carries_all_labels_in_the_namespace(side: Side) -> None:
    await side.cluster.create(side.service("one", color="red", size="big"))
    await side.cluster.create(side.service("two", color="red"))
    await side.cluster.create(side.service("three", color="blue", size="big"))
    found = await side.cluster.list(SERVICE, side.namespace, {"color": "red", "size": "big"})
    assert [obj["metadata"]["name"] for obj in found] == ["one"]
    assert [(obj["apiVersion"], obj["kind"]) for obj in found] == [("v1", "Service")]
    everywhere = await side.cluster.list(SERVICE, labels={"color": "red"})
    assert {"one", "two"} <= {obj["metadata"]["name"] for obj in everywhere}
    assert not await side.cluster.list(SERVICE, "another-namespace")


# --- apply -----------------------------------------------------------------------------------------------------------


async def test_apply_creates_what_is_missing(side: Side) -> None:
    made = await side.cluster.apply(side.service())
    assert uid(made)
    assert (await side.cluster.get(key_of(made)))["spec"]["selector"] == {"app": "digits"}


async def test_applying_the_same_again_writes_nothing(side: Side) -> None:
    first = await side.cluster.apply(side.deployment(A="1"))
    again = await side.cluster.apply(side.deployment(A="1"))
    assert version(first) == version(again)


async def test_a_changed_spec_raises_the_generation_and_changed_labels_do_not(side: Side) -> None:
    first = await side.cluster.apply(side.deployment(image="example.test/a:1"))
    second = await side.cluster.apply(side.deployment(image="example.test/a:2"))
    assert second["metadata"]["generation"] == first["metadata"]["generation"] + 1
    labelled = side.deployment(image="example.test/a:2")
    labelled["metadata"]["labels"] = {"color": "red"}
    third = await side.cluster.apply(labelled)
    assert third["metadata"]["generation"] == second["metadata"]["generation"]
    assert int(version(third)) > int(version(second)) > int(version(first))


async def test_what_is_applied_no_more_goes(side: Side) -> None:
    await side.cluster.apply(side.deployment(A="1", B="2"))
    container = (await side.cluster.apply(side.deployment(B="2")))["spec"]["template"]["spec"]["containers"][0]
    assert [(one["name"], one["value"]) for one in container["env"]] == [("B", "2")]
    labelled = side.deployment(B="2")
    labelled["metadata"]["labels"] = {"color": "red"}
    await side.cluster.apply(labelled)
    assert "labels" not in (await side.cluster.apply(side.deployment(B="2")))["metadata"]


async def test_what_another_user_added_stays(side: Side) -> None:
    made = await side.cluster.apply(side.service(ports=(80,)))

    def add(obj: Object) -> None:
        obj["spec"]["ports"].append({"name": "p81", "port": 81, "protocol": "TCP"})
        obj["metadata"]["labels"] = {"color": "red"}

    await side.edit(key_of(made), add)
    after = await side.cluster.apply(side.service(ports=(82,)))
    assert [port["port"] for port in after["spec"]["ports"]] == [81, 82]
    assert after["metadata"]["labels"] == {"color": "red"}


async def test_what_another_user_changed_is_taken_back(side: Side) -> None:
    made = await side.cluster.apply(side.deployment(image="example.test/a:1"))

    def change(obj: Object) -> None:
        obj["spec"]["template"]["spec"]["containers"][0]["image"] = "example.test/evil:1"

    await side.edit(key_of(made), change)
    after = await side.cluster.apply(side.deployment(image="example.test/a:1"))
    assert after["spec"]["template"]["spec"]["containers"][0]["image"] == "example.test/a:1"


async def test_what_another_user_took_over_stays_when_it_is_applied_no_more(side: Side) -> None:
    labelled = side.service()
    labelled["metadata"]["labels"] = {"color": "red", "size": "big"}
    made = await side.cluster.apply(labelled)

    def change(obj: Object) -> None:
        obj["metadata"]["labels"]["color"] = "blue"

    await side.edit(key_of(made), change)
    assert (await side.cluster.apply(side.service()))["metadata"]["labels"] == {"color": "blue"}


async def test_the_rules_of_a_network_policy_are_one_list(side: Side) -> None:
    await side.cluster.apply(side.network_policy("one", "two"))
    rules = (await side.cluster.apply(side.network_policy("two")))["spec"]["ingress"]
    assert rules == [{"from": [{"podSelector": {"matchLabels": {"app": "two"}}}]}]


async def test_an_apply_onto_an_old_version_is_a_conflict(side: Side) -> None:
    first = await side.cluster.apply(side.deployment(image="example.test/a:1"))
    second = await side.cluster.apply(onto(side.deployment(image="example.test/a:2"), first))
    with pytest.raises(Conflict):
        await side.cluster.apply(onto(side.deployment(image="example.test/a:3"), first))
    assert version(await side.cluster.get(key_of(first))) == version(second)


async def test_an_apply_onto_the_absent_only_creates(side: Side) -> None:
    fresh = side.service()
    fresh["metadata"]["resourceVersion"] = ABSENT
    made = await side.cluster.apply(fresh)
    with pytest.raises(Conflict):
        await side.cluster.apply({**fresh, "spec": side.service(ports=(81,))["spec"]})
    assert version(await side.cluster.get(key_of(made))) == version(made)


async def test_an_apply_onto_an_object_that_is_gone_does_not_make_it_again(side: Side) -> None:
    made = await side.cluster.apply(side.service())
    await side.cluster.delete(key_of(made), uid=uid(made), resource_version=version(made))
    with pytest.raises(Conflict):
        await side.cluster.apply(onto(side.service(), made))
    with pytest.raises(NotFound):
        await side.cluster.get(key_of(made))


async def test_a_lease_is_renewed_by_apply(side: Side) -> None:
    lease = {
        "apiVersion": LEASE.api_version,
        "kind": "Lease",
        "metadata": {"name": "leader", "namespace": side.namespace, "resourceVersion": ABSENT},
        "spec": {"holderIdentity": "one", "leaseDurationSeconds": 12, "renewTime": "2026-01-02T03:04:05.000000Z"},
    }
    made = await side.cluster.apply(lease)
    renewed = await side.cluster.apply(
        onto({**lease, "spec": {**lease["spec"], "renewTime": "2026-01-02T03:04:07.000000Z"}}, made)
    )
    assert renewed["spec"]["renewTime"] == "2026-01-02T03:04:07.000000Z"
    with pytest.raises(Conflict):
        await side.cluster.apply(onto({**lease, "spec": {**lease["spec"], "holderIdentity": "two"}}, made))


# --- status ----------------------------------------------------------------------------------------------------------


async def test_a_status_patch_merges_into_the_status_alone(side: Side) -> None:
    made = await side.cluster.create(side.training_job())
    key = key_of(made)
    first = await side.cluster.patch_status(key, version(made), {"phase": "Pending", "restarts": 1, "workers": "0/1"})
    second = await side.cluster.patch_status(key, version(first), {"phase": "Running", "workers": None})
    assert second["status"] == {**not_yet_observed(), "phase": "Running", "restarts": 1}
    assert second["metadata"]["generation"] == made["metadata"]["generation"]
    assert second["spec"] == made["spec"]


async def test_a_list_in_a_status_is_replaced_whole(side: Side) -> None:
    made = await side.cluster.create(side.training_job())
    attempt = {"number": 1, "job": "j", "nodes": 1, "processesPerNode": 1, "startedAt": "2026-01-02T03:04:05Z"}
    first = await side.cluster.patch_status(key_of(made), version(made), {"attempts": [attempt]})
    second = await side.cluster.patch_status(key_of(made), version(first), {"attempts": [{**attempt, "number": 2}]})
    assert [one["number"] for one in second["status"]["attempts"]] == [2]


async def test_a_status_patch_onto_an_old_version_is_a_conflict(side: Side) -> None:
    made = await side.cluster.create(side.training_job())
    await side.cluster.patch_status(key_of(made), version(made), {"phase": "Pending"})
    with pytest.raises(Conflict):
        await side.cluster.patch_status(key_of(made), version(made), {"phase": "Running"})
    assert (await side.cluster.get(key_of(made)))["status"]["phase"] == "Pending"


async def test_an_empty_status_patch_writes_nothing(side: Side) -> None:
    made = await side.cluster.create(side.training_job())
    first = await side.cluster.patch_status(key_of(made), version(made), {"phase": "Pending"})
    assert version(await side.cluster.patch_status(key_of(made), version(first), {"phase": "Pending"})) == version(
        first
    )


ATTEMPT = {"number": 1, "job": "j", "nodes": 1, "processesPerNode": 1, "startedAt": "2026-01-02T03:04:05Z"}
CONDITION = {"type": "Ready", "status": "True", "reason": "Fine", "lastTransitionTime": "2026-01-02T03:04:05Z"}


@pytest.mark.parametrize(
    ("patch", "field"),
    [
        ({"phase": "Progressing"}, "phase"),
        ({"attempts": [{**ATTEMPT, "number": number} for number in range(1, 34)]}, "attempts"),
        ({"attempts": [{**ATTEMPT, "job": "j" * 64}]}, "attempts[0].job"),
        ({"attempts": [{**ATTEMPT, "startedAt": "yesterday"}]}, "attempts[0].startedAt"),
        ({"attempts": [{field: value for field, value in ATTEMPT.items() if field != "job"}]}, "attempts[0].job"),
        ({"restarts": -1}, "restarts"),
        ({"restarts": 1.5}, "restarts"),
        ({"restarts": 2**63}, "restarts"),
        ({"restarts": "1"}, "restarts"),
        ({"conditions": [{**CONDITION, "reason": "Not one word"}]}, "conditions[0].reason"),
        ({"conditions": [{**CONDITION, "reason": "Fine\n"}]}, "conditions[0].reason"),
        ({"conditions": [{**CONDITION, "message": "m" * 2049}]}, "conditions[0].message"),
        ({"conditions": [CONDITION, {**CONDITION, "status": "False"}]}, "conditions[1]"),
        ({"progress": 0.5}, "progress"),
        ({"conditions": [{**CONDITION, "severity": "Error"}]}, "severity"),
        ({"artifact": {"uri": "store:///a", "digest": "sha256:A", "state": "onnx"}}, "artifact.digest"),
        ({"metrics": {f"m{number}": 1.0 for number in range(17)}}, "metrics"),
    ],
    ids=str,
)
async def test_a_status_that_the_schema_refuses_is_invalid_and_changes_nothing(
    side: Side, patch: Object, field: str
) -> None:
    made = await side.cluster.create(side.training_job())
    with pytest.raises(Invalid, match=re.escape(field)):
        await side.cluster.patch_status(key_of(made), version(made), patch)
    assert version(await side.cluster.get(key_of(made))) == version(made)


@pytest.mark.parametrize("value", [2**64, -(2**70), "\ud800"], ids=repr)
async def test_what_json_cannot_hold_is_invalid_in_every_write(side: Side, value: object) -> None:
    made = await side.cluster.create(side.training_job())
    with pytest.raises(Invalid, match="not JSON"):
        await side.cluster.patch_status(key_of(made), version(made), {"restarts": value})
    odd = side.service(name="odd")
    odd["spec"]["sessionAffinity"] = value
    for write in (side.cluster.create, side.cluster.apply):
        with pytest.raises(Invalid, match="not JSON"):
            await write(odd)


async def test_nan_is_null_on_the_wire_and_so_takes_a_field_away(side: Side) -> None:
    made = await side.cluster.create(side.training_job())
    first = await side.cluster.patch_status(key_of(made), version(made), {"metrics": {"loss": 0.5, "accuracy": 0.9}})
    second = await side.cluster.patch_status(key_of(made), version(first), {"metrics": {"loss": float("nan")}})
    assert second["status"]["metrics"] == {"accuracy": 0.9}


async def test_a_whole_number_is_an_integer_however_it_is_written(side: Side) -> None:
    made = await side.cluster.create(side.training_job())
    patched = await side.cluster.patch_status(key_of(made), version(made), {"restarts": 2.0})
    assert patched["status"]["restarts"] == 2


async def test_counts_that_contradict_each_other_are_invalid(side: Side) -> None:
    """A rule of the schema, in CEL."""
    made = await side.cluster.create(side.store())
    counts = {"n": 3, "baselineRight": 2, "lost": 3, "gained": 3}
    check = {"job": "j", "counts": counts}
    with pytest.raises(Invalid, match="counts must satisfy"):
        await side.cluster.patch_status(key_of(made), version(made), {"check": check})


async def test_the_status_of_what_is_gone_is_not_found(side: Side) -> None:
    with pytest.raises(NotFound):
        await side.cluster.patch_status(side.key(TRAINING_JOB, "nothing"), "7", {"phase": "Pending"})


async def test_a_write_of_the_resource_leaves_the_status_alone(side: Side) -> None:
    made = await side.cluster.create(side.training_job())
    patched = await side.cluster.patch_status(key_of(made), version(made), {"phase": "Running"})

    def change(obj: Object) -> None:
        obj["spec"]["suspend"] = True

    edited = await side.edit(key_of(made), change)
    assert edited["metadata"]["generation"] == patched["metadata"]["generation"] + 1
    assert edited["status"]["phase"] == "Running"


# --- delete ----------------------------------------------------------------------------------------------------------


async def test_a_deleted_object_is_gone(side: Side) -> None:
    made = await side.cluster.create(side.service())
    assert await side.cluster.delete(key_of(made), uid=uid(made), resource_version=version(made)) is None
    with pytest.raises(NotFound):
        await side.cluster.get(key_of(made))
    with pytest.raises(NotFound):
        await side.cluster.delete(key_of(made), uid=uid(made), resource_version=version(made))


async def test_only_the_version_that_was_seen_is_deleted(side: Side) -> None:
    made = await side.cluster.create(side.training_job())
    patched = await side.cluster.patch_status(key_of(made), version(made), {"phase": "Pending"})
    with pytest.raises(Conflict):
        await side.cluster.delete(key_of(made), uid=uid(made), resource_version=version(made))
    assert await side.cluster.delete(key_of(made), uid=uid(made), resource_version=version(patched)) is None


async def test_a_namesake_is_not_deleted(side: Side) -> None:
    first = await side.cluster.create(side.service())
    await side.cluster.delete(key_of(first), uid=uid(first), resource_version=version(first))
    second = await side.cluster.create(side.service())
    assert uid(second) != uid(first)
    with pytest.raises(Conflict):
        await side.cluster.delete(key_of(second), uid=uid(first), resource_version=version(second))
    assert uid(await side.cluster.get(key_of(second))) == uid(second)


async def test_a_finalizer_keeps_a_deleted_object_until_it_is_removed(side: Side) -> None:
    kept = side.training_job()
    kept["metadata"]["finalizers"] = ["example.test/keep"]
    made = await side.cluster.create(kept)
    held = await side.cluster.delete(key_of(made), uid=uid(made), resource_version=version(made))
    assert held is not None
    assert "deletionTimestamp" in held["metadata"]
    assert "deletionTimestamp" in (await side.cluster.get(key_of(made)))["metadata"]

    def release(obj: Object) -> None:
        obj["metadata"]["finalizers"] = []

    await side.edit(key_of(made), release)
    with pytest.raises(NotFound):
        await side.cluster.get(key_of(made))


async def test_calls_at_the_same_time_are_settled_one_after_the_other(side: Side) -> None:
    made = await side.cluster.create(side.training_job())
    key = key_of(made)
    writes = (side.cluster.patch_status(key, version(made), {"restarts": count}) for count in range(1, 9))
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(isinstance(answer, Conflict) for answer in answers) == 7
