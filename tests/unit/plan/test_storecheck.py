"""A bucket is ready once a pod has tried it; what is wrong with it is told by its own status, and tried again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from slipway.api.kinds import JOB, Key, Object, key_of
from slipway.plan.store import plan_store
from support.builders import NAMESPACE, bucket_store, failed, pod, succeeded, wire_time
from support.restricted import breaches
from support.world import World, task_of

LONGEST_NAME = 40
LONGEST_JOB = 63 - len("-q3")
"""Of a Job that may be followed by one that reads its report; with the index of a pod, `-0`, it is a host name too."""
FRESH = {"observedGeneration": -1}
REFUSED = failed("spec.s3.bucket of the ArtifactStore: there is no bucket", exception="StoreError", rank=None)
AWAY = failed("spec.s3.endpoint of the ArtifactStore: no answer", exception="StoreAway", rank=None)


class Store(World):
    """One ArtifactStore on a bucket."""

    def __init__(self, name: str = "default") -> None:
        store = bucket_store(name, status=FRESH)
        super().__init__(plan_store, store)
        self.key = key_of(store)
        self.settle(self.key)

    def ends(self, report: Object) -> Store:
        self.behaviour = lambda *_: report
        assert self.step()
        self.settle(self.key)
        return self

    def passes(self, **time: float) -> Store:
        self.now += timedelta(**time)
        self.settle(self.key)
        return self

    @property
    def ready(self) -> tuple[str, str, str]:
        """Phase, then status and reason of Ready."""
        status, reason, _ = self.condition(self.key, "Ready")
        return str(self.status(self.key)["phase"]), status, reason

    def live(self) -> list[Object]:
        return list(self.owned(JOB, NAMESPACE, f"uid-of-{self.key.name}"))


def test_a_pod_tries_the_bucket_before_it_is_ready() -> None:
    store = Store()
    assert store.ready == ("Pending", "False", "Checking")
    (job,) = store.live()
    assert task_of(job) == {"task": "check"}
    assert job["metadata"]["labels"]["slipway.dev/artifact-store"] == "default"
    assert breaches(job["spec"]["template"]["spec"]) == []
    assert store.ends(succeeded()).ready == ("Ready", "True", "BucketAnswered")


def test_a_bucket_that_answered_is_left_alone_and_its_job_is_gone() -> None:
    store = Store().ends(succeeded())
    assert store.live() == []
    before = len(store.writes)
    assert store.passes(days=1).wake_at is None
    assert len(store.writes) == before


def test_a_refusal_is_told_by_its_field_and_once() -> None:
    store = Store().ends(REFUSED)
    assert store.ready == ("Failed", "False", "StoreRefused")
    assert "spec.s3.bucket" in store.condition(store.key, "Stalled")[2]
    assert [event[:2] for event in store.events] == [("Warning", "StoreRefused")]


def test_a_refused_bucket_is_tried_again_less_and_less_often_until_it_answers() -> None:
    store = Store().ends(REFUSED)
    waits = []
    for _ in range(7):
        assert store.wake_at is not None
        waits.append((store.wake_at - store.now) / timedelta(minutes=1))
        store.passes(seconds=(store.wake_at - store.now).total_seconds())
        assert len(store.live()) == 1
        assert store.ready == ("Failed", "False", "StoreRefused")  # until this one has ended
        store.ends(REFUSED)
    assert waits == [1, 2, 4, 8, 16, 16, 16]
    assert len(store.events) == 1
    store.passes(minutes=16)
    assert store.ends(succeeded()).ready == ("Ready", "True", "BucketAnswered")


def test_the_longest_name_leaves_room_for_as_many_tries_as_a_bucket_needs() -> None:
    store, names = Store("a" * LONGEST_NAME), set()
    for _ in range(120):
        (job,) = store.live()
        names.add(job["metadata"]["name"])
        store.ends(REFUSED)
        assert store.wake_at is not None
        store.passes(seconds=(store.wake_at - store.now).total_seconds())
    assert len(names) == 120
    assert {len(name) for name in names} <= set(range(LONGEST_JOB + 1))
    assert store.ends(succeeded()).ready == ("Ready", "True", "BucketAnswered")


def test_a_service_that_does_not_answer_is_waited_for() -> None:
    store = Store()
    for _ in range(4):
        store.ends(AWAY)
        assert store.ready == ("Pending", "False", "StoreAway")
        assert store.condition(store.key, "Reconciling")[0] == "True"
        assert "spec.s3.endpoint" in store.condition(store.key, "Ready")[2]
        assert store.wake_at is not None
        store.passes(seconds=(store.wake_at - store.now).total_seconds())
    assert store.ends(succeeded()).ready == ("Ready", "True", "BucketAnswered")


@pytest.mark.parametrize(
    "message", ['secret "keys" not found', "couldn't find key AWS_ACCESS_KEY_ID in Secret team/keys"]
)
def test_a_missing_secret_is_waited_for_and_named_at_once(message: str) -> None:
    store = Store()
    (job,) = store.live()
    waits = pod(job, phase="Pending")
    reason = {"reason": "CreateContainerConfigError", "message": message}
    waits["status"]["containerStatuses"] = [{"name": "main", "state": {"waiting": reason}}]
    store.put(waits)
    store.settle(store.key)
    assert store.ready == ("Pending", "False", "SecretNotFound")
    said = store.condition(store.key, "Ready")[2]
    assert said.startswith("spec.s3.secretRef of the ArtifactStore: ")
    assert message in said
    assert "create Secret keys with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in said
    assert store.ends(succeeded()).ready == ("Ready", "True", "BucketAnswered")


def test_a_pod_that_does_not_start_is_reported_after_a_while() -> None:
    store = Store()
    (job,) = store.live()
    waits = pod(job, phase="Pending")
    pull = {"reason": "ErrImagePull", "message": "no such host"}
    waits["status"]["containerStatuses"] = [{"name": "main", "image": "mine:1", "state": {"waiting": pull}}]
    store.put(waits)
    store.settle(store.key)
    assert store.wake_at is not None
    store.passes(seconds=61)
    assert "ImagePullBackOff: mine:1" in store.condition(store.key, "Ready")[2]


def test_a_pod_that_was_taken_away_says_nothing_against_the_bucket() -> None:
    store = Store()
    (job,) = store.live()
    store.remove(Key(JOB, "team", job["metadata"]["name"]))
    for _ in range(8):
        store.settle(store.key)
        store.step()
    assert store.ready[0] == "Pending"


def test_a_store_says_that_egress_to_it_is_open() -> None:
    store = Store()
    store.ends(succeeded())
    assert "pods of tasks may connect to any address: set spec.networks" in store.condition(store.key, "Ready")[2]


def test_a_pod_that_is_lost_with_its_node_is_replaced() -> None:
    store = Store()
    (job,) = store.live()
    lost = pod(job)
    lost["metadata"]["deletionTimestamp"] = wire_time(store.now)
    store.put(lost)
    store.passes(seconds=20)
    assert store.ready == ("Pending", "False", "Checking")
    assert "does not answer" in store.condition(store.key, "Ready")[2]
    store.passes(seconds=10)
    (again,) = store.live()
    assert again["metadata"]["name"] != job["metadata"]["name"]
    assert store.ends(succeeded()).ready == ("Ready", "True", "BucketAnswered")
