"""A namespace of a real API server in which a user trains: what the tests of the operator process do and wait for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from support.apiserver import ApiServer

LIMIT_SECONDS = 30
Json = dict[str, Any]


class TrainingCluster:
    """A namespace of the test's own, and what a user does in it."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.namespace = f"controller-{uuid4().hex[:8]}"
        server.must("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        self.jobs = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        self.services = f"/api/v1/namespaces/{self.namespace}/services"
        self.training_jobs = f"/apis/slipway.dev/v1alpha1/namespaces/{self.namespace}/trainingjobs"
        self.events = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"

    def train(self, name: str = "train", **spec: Any) -> Json:
        body = {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "TrainingJob",
            "metadata": {"name": name},
            "spec": {"image": "example.test/train:1", "entrypoint": {"script": {"path": "/train.py"}}, **spec},
        }
        return self.server.must("POST", self.training_jobs, body)

    def status(self, name: str = "train") -> Json:
        status: Json = self.server.must("GET", f"{self.training_jobs}/{name}")["status"]
        return status

    def items(self, path: str) -> list[Json]:
        found: list[Json] = self.server.must("GET", path)["items"]
        return found

    def wait_for_phase(self, phase: str, name: str = "train") -> Json:
        return wait_for(lambda: (status := self.status(name)).get("phase") == phase and status, phase)

    def finish_job(self) -> None:
        """As the Job controller does it when a pod succeeds."""
        job = self.items(self.jobs)[0]
        now = "2026-01-02T03:04:05Z"
        done = [
            {"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("SuccessCriteriaMet", "Complete")
        ]
        status = {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": done}
        path = f"{self.jobs}/{job['metadata']['name']}/status"
        status["uncountedTerminatedPods"] = {}
        self.server.must("PATCH", path, {"status": status}, content_type="application/merge-patch+json")


def wait_for(condition: Callable[[], Any], what: str, seconds: float = LIMIT_SECONDS) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)  # between two questions; the wait is for the answer
    return found
