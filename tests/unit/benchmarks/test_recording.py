"""What is replayed is what was recorded, for another TrainingJob."""

from __future__ import annotations

import json
from typing import Any, cast

from benchmarks.audit import Write
from benchmarks.client import Client
from benchmarks.recording import Recording, training_job_of

RECORDED = {"metadata": {"name": "job-1", "namespace": "bench-here", "uid": "uid-1", "resourceVersion": "5"}}
OTHER = {"metadata": {"name": "job-2", "namespace": "bench-there", "uid": "uid-2", "resourceVersion": "70"}}
MARK, OTHER_MARK = "4a49ac", "afaec2"
"""Of the UIDs, as children's names carry it."""
API = "/apis/slipway.dev/v1alpha1/namespaces/bench-here/trainingjobs/job-1/status"
STATUS = {"metadata": {"resourceVersion": "5"}, "status": {"attempts": [{"job": f"job-1-{MARK}-1"}]}}


def write(verb: str, resource: str, uri: str, body: Any, name: str = "") -> Write:
    return Write("2026-01-01T00:00:00Z", verb, resource, name, uri, body, 200)


class Answering:
    """Answers every call with the next version and a UID, and remembers what was sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Any]] = []

    async def call(self, method: str, path: str, body: bytes, _content_type: str) -> bytes:
        self.sent.append((method, path, json.loads(body)))
        return json.dumps({"metadata": {"resourceVersion": str(80 + len(self.sent)), "uid": "new-job"}}).encode()


async def test_a_replay_names_the_other_job_and_follows_its_versions() -> None:
    job = {"metadata": {"name": f"job-1-{MARK}-1", "ownerReferences": [{"uid": "uid-1"}]}}
    linked = {"metadata": {"resourceVersion": "6"}, "status": {"attempts": [{"jobUID": "job-uid"}]}}
    writes = [
        write("patch", "trainingjobs/status", API, STATUS, "job-1"),
        write("create", "jobs", "/apis/batch/v1/namespaces/bench-here/jobs", job),
        write("patch", "trainingjobs/status", API, linked, "job-1"),
    ]
    client = Answering()
    await Recording.of(writes, RECORDED, "job-uid").replay(cast(Client, client), OTHER)
    there = API.replace("bench-here", "bench-there").replace("job-1", "job-2")
    first, second, third = client.sent
    began = {"attempts": [{"job": f"job-2-{OTHER_MARK}-1"}]}
    assert first == ("PATCH", there, {"metadata": {"resourceVersion": "70"}, "status": began})
    assert second[:2] == ("POST", "/apis/batch/v1/namespaces/bench-there/jobs")
    assert second[2]["metadata"]["ownerReferences"] == [{"uid": "uid-2"}]
    assert third[2]["metadata"]["resourceVersion"] == "81"
    assert third[2]["status"]["attempts"] == [{"jobUID": "new-job"}]


async def test_a_client_that_keeps_no_record_creates_the_chosen_objects_in_the_chosen_order() -> None:
    services = "/api/v1/namespaces/bench-here/services"
    service = {"metadata": {"name": f"job-1-{MARK}-1", "resourceVersion": "1"}, "spec": {"clusterIP": "None"}}
    job = {"metadata": {"name": f"job-1-{MARK}-1"}}
    writes = [
        write("patch", "trainingjobs/status", API, STATUS, "job-1"),
        write("create", "jobs", "/apis/batch/v1/namespaces/bench-here/jobs?fieldManager=slipway", job),
        write("patch", "services", f"{services}/job-1-{MARK}-1?force=true", service, f"job-1-{MARK}-1"),
    ]
    client = Answering()
    await Recording.of(writes, RECORDED, None).created("services", "jobs").replay(cast(Client, client), OTHER)
    name = f"job-2-{OTHER_MARK}-1"
    assert client.sent == [
        (
            "POST",
            "/api/v1/namespaces/bench-there/services",
            {"metadata": {"name": name}, "spec": {"clusterIP": "None"}},
        ),
        ("POST", "/apis/batch/v1/namespaces/bench-there/jobs", {"metadata": {"name": name}}),
    ]


def test_every_write_is_known_by_its_training_job() -> None:
    child = {"metadata": {"name": f"job-1-{MARK}-1"}}
    event = {"metadata": {"name": "job-1.0123456789abcdef"}}
    assert training_job_of(write("create", "jobs", "", child)) == "job-1"
    assert training_job_of(write("patch", "services", "", None, f"job-1-{MARK}")) == "job-1"
    assert training_job_of(write("create", "jobs", "", {"metadata": {"name": f"job-1-{MARK}-12-q1"}})) == "job-1"
    assert training_job_of(write("create", "events", "", event)) == "job-1"
    assert training_job_of(write("patch", "trainingjobs/status", "", None, "job-1")) == "job-1"
