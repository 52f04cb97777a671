"""The cache: whatever order events come in, it ends with what is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import permutations
from typing import Any

import pytest

from slipway.api.kinds import (
    ARTIFACT_STORE,
    COMPRESSION_PLUGIN,
    DEPLOYMENT,
    GPU_POOL,
    JOB,
    MODEL_DEPLOYMENT,
    POD,
    PVC,
    SERVICE,
    STEP,
    TRAINING_JOB,
    Key,
    Kind,
    Object,
    key_of,
)
from slipway.plan.jobs.pods import workload_of
from slipway.plan.observation import ClusterView, carries
from slipway.plan.owner import REVISION_LABEL, Owner
from slipway.reconcile.cache import TOMBSTONES, Cache
from slipway.reconcile.references import MANAGED


def make(kind: Kind, name: str = "a", version: int = 5, uid: str = "u", **more: Any) -> Object:
    namespace = {"namespace": "default"} if kind.namespaced else {}
    meta = {"name": name, "uid": uid, "resourceVersion": str(version), **namespace, **more.pop("metadata", {})}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, **more}


def owned_by(uid: str, name: str = "parent", kind: Kind = TRAINING_JOB) -> Object:
    owner = {"apiVersion": kind.api_version, "kind": kind.kind, "name": name, "uid": uid}
    return {"ownerReferences": [{**owner, "controller": True}], "labels": MANAGED}


def got(cache: Cache, kind: Kind, name: str = "a") -> Object | None:
    seen: ClusterView = cache
    return seen.get(kind, "default", name)


# --- versions --------------------------------------------------------------------------------------------------------


def test_the_newest_version_wins_in_any_order() -> None:
    events = [make(TRAINING_JOB, version=version, spec={"n": version}) for version in (9, 10, 11)]
    for order in permutations(events):
        cache = Cache()
        for event in order:
            cache.put(event)
        found = got(cache, TRAINING_JOB)
        assert found is not None
        assert found["spec"] == {"n": 11}


def test_versions_are_numbers_and_not_texts() -> None:
    cache = Cache()
    cache.put(make(TRAINING_JOB, version=99, spec={"n": 1}))
    assert cache.put(make(TRAINING_JOB, version=100, spec={"n": 2}))


def test_only_a_change_that_is_read_counts_as_one() -> None:
    cache = Cache()
    managed = {"managedFields": [{"manager": "one"}]}
    assert cache.put(make(SERVICE, version=5, metadata=managed, spec={"n": 1}))
    assert not cache.put(make(SERVICE, version=5, spec={"n": 1}))
    assert not cache.put(make(SERVICE, version=6, metadata={"managedFields": [{"manager": "two"}]}, spec={"n": 1}))
    found = got(cache, SERVICE)
    assert found is not None
    assert found["metadata"]["resourceVersion"] == "6"
    assert cache.put(make(SERVICE, version=7, spec={"n": 2}))
    assert cache.put(make(SERVICE, version=8, spec={"n": 2}, metadata={"labels": {"a": "b"}}))
    assert cache.put(make(SERVICE, version=9, spec={"n": 2}))


# --- deletion --------------------------------------------------------------------------------------------------------


def test_what_only_lost_its_label_is_known_again_when_it_is_met() -> None:
    cache = Cache()
    cache.put(make(JOB, version=5))
    assert cache.remove(key_of(make(JOB)), "u", 6) is not None  # the watch says DELETED, at the version that lives
    assert not cache.put(make(JOB, version=5))
    assert cache.put(make(JOB, version=6))
    assert cache.get(*key_of(make(JOB))) is not None


def test_a_late_event_does_not_bring_back_what_was_deleted() -> None:
    cache = Cache()
    cache.put(make(JOB, version=5))
    assert cache.remove(key_of(make(JOB)), "u") is not None
    assert not cache.put(make(JOB, version=6))
    assert got(cache, JOB) is None


def test_a_deletion_that_comes_before_the_creation_is_remembered() -> None:
    cache = Cache()
    assert cache.remove(key_of(make(JOB)), "u") is None
    assert not cache.put(make(JOB))
    assert got(cache, JOB) is None


def test_a_namesake_survives_the_deletion_of_its_predecessor() -> None:
    cache = Cache()
    cache.put(make(JOB, version=5, uid="old"))
    cache.put(make(JOB, version=8, uid="new"))
    assert cache.remove(key_of(make(JOB)), "old") is None
    found = got(cache, JOB)
    assert found is not None
    assert found["metadata"]["uid"] == "new"


def test_a_late_event_of_the_predecessor_does_not_replace_its_namesake() -> None:
    cache = Cache()
    cache.put(make(JOB, version=8, uid="new"))
    assert not cache.put(make(JOB, version=5, uid="old"))
    cache.put(make(JOB, version=9, uid="newest"))
    assert not cache.put(make(JOB, version=10, uid="new"))
    found = got(cache, JOB)
    assert found is not None
    assert found["metadata"]["uid"] == "newest"


def test_the_memory_of_deletions_is_bounded() -> None:
    cache = Cache()
    for number in range(TOMBSTONES + 10):
        cache.remove(key_of(make(JOB)), f"uid-{number}")
    assert len(cache._tombstones) == TOMBSTONES


# --- lists -----------------------------------------------------------------------------------------------------------


def test_what_a_list_lacks_has_vanished_unless_it_came_after() -> None:
    cache = Cache()
    cache.put(make(TRAINING_JOB, "stays", uid="1"))
    cache.put(make(TRAINING_JOB, "vanished", uid="2"))
    since = cache.mark()
    cache.put(make(TRAINING_JOB, "fresh", uid="3", version=9))
    missing = cache.missing(TRAINING_JOB, [("default", "stays")], since)
    assert [obj["metadata"]["name"] for obj in missing] == ["vanished"]


def test_an_object_that_was_seen_again_during_the_list_has_not_vanished() -> None:
    cache = Cache()
    cache.put(make(TRAINING_JOB))
    since = cache.mark()
    cache.put(make(TRAINING_JOB))
    assert cache.missing(TRAINING_JOB, [], since) == []


def test_a_list_of_one_namespace_says_nothing_of_others() -> None:
    cache = Cache()
    cache.put(make(TRAINING_JOB))
    assert cache.missing(TRAINING_JOB, [], cache.mark(), namespace="other") == []
    assert len(cache.missing(TRAINING_JOB, [], cache.mark(), namespace="default")) == 1


def test_a_list_by_label_says_nothing_of_what_lacks_the_label() -> None:
    cache = Cache()
    cache.put(make(SERVICE, "ours", uid="1", metadata={"labels": MANAGED}))
    cache.put(make(SERVICE, "theirs", uid="2"))
    assert [obj["metadata"]["name"] for obj in cache.missing(SERVICE, [], cache.mark())] == ["ours"]
    assert [obj["metadata"]["name"] for obj in cache.unmanaged] == ["theirs"]
    cache.remove(Key(SERVICE, "default", "theirs"), "2")
    assert list(cache.unmanaged) == []


def test_an_unmanaged_object_wakes_those_of_whom_it_has_the_name_of_a_child() -> None:
    cache = Cache()
    for name, namespace in (("digits", "default"), ("digits-2", "default"), ("digits", "other"), ("dig", "default")):
        cache.put(make(TRAINING_JOB, name, uid=f"{name}-{namespace}", metadata={"namespace": namespace}))
    woken = cache.affected(make(SERVICE, "digits-2-a1b2c3", uid="theirs"))
    assert woken == {Key(TRAINING_JOB, "default", "digits"), Key(TRAINING_JOB, "default", "digits-2")}
    assert cache.affected(make(SERVICE, "digits", uid="one")) == {Key(TRAINING_JOB, "default", "digits")}


# --- views -----------------------------------------------------------------------------------------------------------


def test_children_are_found_by_their_controllers_uid_and_sorted_by_name() -> None:
    cache = Cache()
    for name in ("b", "a"):
        cache.put(make(JOB, name, uid=f"job-{name}", metadata=owned_by("u1")))
    cache.put(make(JOB, "c", uid="job-c", metadata=owned_by("u2")))
    cache.put(make(SERVICE, "a", uid="service", metadata=owned_by("u1")))
    assert [obj["metadata"]["name"] for obj in cache.owned(JOB, "default", "u1")] == ["a", "b"]
    cache.remove(Key(JOB, "default", "a"), "job-a")
    assert [obj["metadata"]["name"] for obj in cache.owned(JOB, "default", "u1")] == ["b"]


def test_a_child_is_shown_as_it_is_now() -> None:
    cache = Cache()
    cache.put(make(JOB, version=5, metadata=owned_by("u1"), status={"active": 1}))
    cache.put(make(JOB, version=6, metadata=owned_by("u1"), status={"active": 0}))
    cache.put(make(JOB, version=7, metadata=owned_by("u1"), status={"active": 0}))
    child = cache.owned(JOB, "default", "u1")[0]
    assert (child["status"], child["metadata"]["resourceVersion"]) == ({"active": 0}, "7")
    cache.put(make(JOB, version=8, metadata=owned_by("u2"), status={"active": 0}))
    assert cache.owned(JOB, "default", "u1") == []


def test_objects_are_selected_by_all_labels_within_a_namespace() -> None:
    cache = Cache()
    cache.put(make(COMPRESSION_PLUGIN, "b", uid="1", metadata={"labels": {"slipway.dev/x": "1", "slipway.dev/y": "2"}}))
    x = {"slipway.dev/x": "1"}
    cache.put(make(COMPRESSION_PLUGIN, "a", uid="2", metadata={"labels": x}))
    assert [obj["metadata"]["name"] for obj in cache.select(COMPRESSION_PLUGIN, "", {"slipway.dev/x": "1"})] == [
        "a",
        "b",
    ]
    assert [obj["metadata"]["name"] for obj in cache.select(COMPRESSION_PLUGIN, "", {"slipway.dev/y": "2"})] == ["b"]
    assert cache.select(COMPRESSION_PLUGIN, "default", {}) == []


def test_the_pods_of_a_revision_are_found_without_a_look_at_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache()
    for number in range(100):
        cache.put(make(POD, f"other-{number}", uid=f"o{number}", metadata={"labels": {REVISION_LABEL: "other"}}))
    for name, version in (("b", 5), ("a", 6)):
        cache.put(make(POD, name, version, uid=name, metadata={"labels": {REVISION_LABEL: "r1"}}))
    cache.put(make(POD, "c", uid="c", metadata={"namespace": "team", "labels": {REVISION_LABEL: "r1"}}))
    looked: list[str] = []

    def counted(obj: Object, labels: Mapping[str, str]) -> bool:
        looked.append(obj["metadata"]["name"])
        return carries(obj, labels)

    monkeypatch.setattr("slipway.reconcile.cache.carries", counted)
    wanted = {REVISION_LABEL: "r1"}
    assert [obj["metadata"]["name"] for obj in cache.select(POD, "default", wanted)] == ["a", "b"]
    assert looked == ["a", "b"]
    cache.put(make(POD, "a", 7, uid="a", metadata={"labels": {REVISION_LABEL: "r2"}}))
    cache.remove(Key(POD, "default", "b"), "b")
    assert cache.select(POD, "default", wanted) == []
    assert [obj["metadata"]["name"] for obj in cache.select(POD, "default", {REVISION_LABEL: "r2"})] == ["a"]


def test_a_cluster_scoped_object_is_found_whatever_namespace_is_asked_for() -> None:
    cache = Cache()
    cache.put(make(GPU_POOL))
    assert got(cache, GPU_POOL) is not None


# --- whom a change wakes ---------------------------------------------------------------------------------------------


def test_a_parent_wakes_itself_and_who_names_it() -> None:
    cache = Cache()
    cache.put(make(TRAINING_JOB, "train"))
    cache.put(make(MODEL_DEPLOYMENT, "serve", uid="2", spec={"model": {"trainingJob": "train"}}))
    assert cache.affected(make(TRAINING_JOB, "train")) == {
        Key(TRAINING_JOB, "default", "train"),
        Key(MODEL_DEPLOYMENT, "default", "serve"),
    }


def test_what_stands_apart_wakes_the_parents_whose_children_could_have_its_name() -> None:
    cache = Cache()
    for number, name in enumerate(("digits", "digits-two", "other")):
        cache.put(make(MODEL_DEPLOYMENT, name, uid=str(number)))
    cache.put(make(MODEL_DEPLOYMENT, "digits", uid="9", metadata={"namespace": "team"}))
    assert cache.affected(make(DEPLOYMENT, "digits-two-7ac1b8-0a", uid="x")) == {
        Key(MODEL_DEPLOYMENT, "default", "digits"),
        Key(MODEL_DEPLOYMENT, "default", "digits-two"),
    }


def test_a_child_wakes_its_controller_and_a_pod_the_parent_that_its_labels_name() -> None:
    cache = Cache()
    job = make(JOB, metadata=owned_by("u1", "train"))
    assert cache.affected(job) == {Key(TRAINING_JOB, "default", "train")}
    pod_of_job = {"ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "controller": True}]}
    pod = make(POD, metadata={**pod_of_job, "labels": {"slipway.dev/model-deployment": "serve"}})
    assert cache.affected(pod) == {Key(MODEL_DEPLOYMENT, "default", "serve")}
    assert cache.affected(make(POD, metadata={"labels": {"app": "other"}})) == set()


def test_what_a_spec_names_wakes_it_whether_it_existed_before_or_not() -> None:
    cache = Cache()
    cache.put(make(TRAINING_JOB, "train", spec={"store": "s", "pools": ["h100"]}))
    cache.put(make(ARTIFACT_STORE, "s", uid="2", spec={"persistentVolumeClaim": {"claimName": "files"}}))
    train, store = Key(TRAINING_JOB, "default", "train"), Key(ARTIFACT_STORE, "default", "s")
    assert cache.affected(make(ARTIFACT_STORE, "s")) == {train, store}
    assert cache.affected(make(GPU_POOL, "h100")) == {train}
    assert cache.affected(make(PVC, "files")) == {store}
    assert cache.affected(make(PVC, "others")) == set()


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        (TRAINING_JOB, {"steps": {"pool": "h100"}}),
        (MODEL_DEPLOYMENT, {"compression": {"pool": "h100"}}),
        (MODEL_DEPLOYMENT, {"evaluation": {"pool": "h100"}}),
    ],
)
def test_a_pool_wakes_the_open_steps_of_those_that_run_them_there(kind: Kind, spec: Object) -> None:
    cache = Cache()
    cache.put(make(kind, "one", uid="u1", spec=spec))
    for number, phase in enumerate(("Running", "Succeeded")):
        owners = owned_by("u1", "one", kind)
        cache.put(make(STEP, f"one-s-{number}", uid=f"s{number}", metadata=owners, status={"phase": phase}))
    assert cache.affected(make(GPU_POOL, "h100")) == {Key(kind, "default", "one"), Key(STEP, "default", "one-s-0")}


def test_a_spec_that_names_something_else_now_is_woken_by_that_alone() -> None:
    cache = Cache()
    cache.put(make(MODEL_DEPLOYMENT, "serve", version=5, spec={"model": {"trainingJob": "one"}}))
    cache.put(make(MODEL_DEPLOYMENT, "serve", version=6, spec={"model": {"trainingJob": "two"}}))
    serve = Key(MODEL_DEPLOYMENT, "default", "serve")
    assert serve not in cache.affected(make(TRAINING_JOB, "one"))
    assert serve in cache.affected(make(TRAINING_JOB, "two"))
    cache.remove(serve, "u")
    assert serve not in cache.affected(make(TRAINING_JOB, "two"))


def test_a_plugin_wakes_every_deployment_because_conversions_are_found_by_what_they_do() -> None:
    cache = Cache()
    cache.put(make(MODEL_DEPLOYMENT, "serve", spec={"model": {"trainingJob": "one"}}))
    assert cache.affected(make(COMPRESSION_PLUGIN, "new")) == {Key(MODEL_DEPLOYMENT, "default", "serve")}


def test_a_broken_spec_names_nothing_and_breaks_nothing() -> None:
    cache = Cache()
    assert cache.put(make(MODEL_DEPLOYMENT, spec={"model": None, "compression": {"steps": [{}]}}))
    assert cache.put(make(ARTIFACT_STORE, uid="2"))


# --- what is kept ----------------------------------------------------------------------------------------------------


def test_of_a_pod_only_what_is_read_is_kept() -> None:
    cache = Cache()
    terminated = {"exitCode": 1, "message": "why"}
    container = {"name": "main", "image": "x", "imageID": "y", "state": {"terminated": terminated}}
    meta = {**owned_by("u1"), "annotations": {"a": "b"}, "managedFields": [{}]}
    spec = {"nodeName": "n", "containers": [{"name": "main"}]}
    status = {"phase": "Failed", "podIPs": [{"ip": "1.2.3.4"}], "podIP": "1.2.3.4", "containerStatuses": [container]}
    cache.put(make(POD, metadata=meta, spec=spec, status=status))
    pod = got(cache, POD)
    assert pod is not None
    assert pod["spec"] == {"nodeName": "n", "workload": workload_of({"kind": "Pod", "spec": spec})}
    assert pod["status"] == {
        "phase": "Failed",
        "podIP": "1.2.3.4",
        "containerStatuses": [{"name": "main", "image": "x", "imageID": "y", "state": {"terminated": terminated}}],
    }
    assert set(pod["metadata"]) == {"name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences"}


def test_all_that_planners_make_carries_the_label_that_watches_select_by() -> None:
    owner = Owner.of(make(TRAINING_JOB))
    assert MANAGED.items() <= owner.labels.items()


@pytest.mark.parametrize("kind", [TRAINING_JOB, JOB, SERVICE, POD])
def test_of_what_anybody_may_write_about_an_object_nothing_is_kept(kind: Kind) -> None:
    cache = Cache()
    written = {"annotations": {"x": "y" * 255_000}, "finalizers": ["a/b"], "labels": {"team": "z", **MANAGED}}
    cache.put(make(kind, metadata=written, spec={}))
    kept = got(cache, kind)
    assert kept is not None
    assert kept["metadata"].get("labels") == MANAGED
    assert len(json.dumps(kept)) < 1000
