"""A namespace in which jobs are trained: its paths, what it needs beforehand, and how it is emptied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.client import Client
from slipway.api.kinds import ARTIFACT_STORE, EVENT, JOB, NETWORK_POLICY, POD, PVC, SERVICE, TRAINING_JOB, Kind, Object
from slipway.cluster.apiserver import collection_path
from support.builders import claim, store, training_job

LIMIT_SECONDS = 120


@dataclass(frozen=True)
class Namespace:
    """Calls as the administrator."""

    name: str
    client: Client

    def path(self, kind: Kind) -> str:
        return collection_path(kind, self.name)

    async def create(self) -> None:
        """With a claim and an ArtifactStore on it."""
        await self.client.post("/api/v1/namespaces", {"metadata": {"name": self.name}})
        wanted = claim()
        wanted["spec"]["resources"] = {"requests": {"storage": "1Gi"}}
        for kind, obj in ((PVC, wanted), (ARTIFACT_STORE, store())):
            await self.client.post(self.path(kind), as_written(obj))

    async def wait_for_store(self) -> None:
        """Until an operator found it usable: jobs then start at once."""
        async with asyncio.timeout(LIMIT_SECONDS):
            path = f"{self.path(ARTIFACT_STORE)}/default"
            while (await self.client.get(path)).get("status", {}).get("phase") != "Ready":
                await asyncio.sleep(0.05)

    async def apply(self, name: str, nodes: int = 2) -> Object:
        """A user's TrainingJob. Returns it as it was answered."""
        return await self.client.post(self.path(TRAINING_JOB), as_written(training_job(name, nodes=nodes)))

    async def job_uids(self, names: Iterable[str]) -> dict[str, str]:
        """By TrainingJob, once each status has one: then the last write before pods run was made as well."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                items = (await self.client.get(self.path(TRAINING_JOB)))["items"]
                uids = {item["metadata"]["name"]: _job_uid(item) for item in items}
                if all(uids.get(name) for name in names):
                    return uids
                await asyncio.sleep(0.1)

    async def wait_for_phase(self, name: str, phase: str) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            while (await self.client.get(f"{self.path(TRAINING_JOB)}/{name}"))["status"].get("phase") != phase:
                await asyncio.sleep(0.05)

    async def wait_until_all(self, kind: Kind, met: Callable[[Object], bool]) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            while not all(map(met, (await self.client.get(self.path(kind)))["items"])):
                await asyncio.sleep(0.5)

    async def empty(self) -> None:
        """Delete all jobs and their children; the owner first, so that nobody makes them anew."""
        for kind in (TRAINING_JOB, JOB, SERVICE, NETWORK_POLICY, POD, EVENT):
            query = "propagationPolicy=Background&gracePeriodSeconds=0"
            await self.client.call("DELETE", f"{self.path(kind)}?{query}")


def as_written(obj: Object) -> Object:
    """What a user sends: without what the server sets."""
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "metadata": {"name": obj["metadata"]["name"]},
        "spec": obj["spec"],
    }


def _job_uid(training_job: Object) -> str:
    attempts = training_job.get("status", {}).get("attempts") or [{}]
    return str(attempts[0].get("jobUID", ""))
