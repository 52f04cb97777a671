"""Laws that no state of the world excuses: of every write that the operator makes, and of every round that ends.

A round of a resource has ended when the operator has observed every change, no key is due at this moment, and the last
turn of the resource waits neither for a read nor for its own status to be taken. Then the status tells what is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from slipway.api.errors import ClusterError, NotFound
from slipway.api.kinds import DEPLOYMENT, MODEL_DEPLOYMENT, RECONCILED, STEP, Key, Object, key_of
from slipway.cluster.port import Cluster, ClusterMiddleware
from slipway.cluster.statusschema import check_status
from slipway.cluster.twin import Twin
from slipway.cluster.wire import encode
from slipway.plan.deployment.manifests import is_selected
from slipway.plan.observation import controller_uid
from slipway.plan.owner import Owner
from slipway.reconcile.references import is_foreign

MOST_STATUS_BYTES = 100_000


class LawBroken(BaseException):
    """No Exception: the loop would catch it, as a defect of one resource."""


class Lawful(ClusterMiddleware):
    """Fails where a write breaks a law: put round whatever makes writes fail."""

    def __init__(self, cluster: Cluster, twin: Twin) -> None:
        super().__init__(cluster)
        self._twin = twin
        self._failed_reads = 0

    def takes_failed_reads(self) -> int:
        """How many reads got no answer since the last call of this."""
        failed, self._failed_reads = self._failed_reads, 0
        return failed

    async def get(self, key: Key) -> Object:
        try:
            return await super().get(key)
        except NotFound:
            raise
        except ClusterError:
            self._failed_reads += 1
            raise

    async def apply(self, obj: Object) -> Object:
        before = await self._live(key_of(obj))
        answer = await super().apply(obj)
        same = before is not None and before["metadata"]["uid"] == answer["metadata"]["uid"]
        if before is not None and same and controller_uid(before) != controller_uid(obj):
            raise LawBroken(f"{_shown(key_of(obj))} was applied, and is another's")
        return answer

    async def patch_status(self, key: Key, resource_version: str, patch: Object) -> Object:
        answer = await super().patch_status(key, resource_version, patch)
        if wrong := list(wrong_with(answer)):
            raise LawBroken(f"{_shown(key)}: {wrong}")
        return answer

    async def delete(self, key: Key, *, uid: str, resource_version: str) -> Object | None:
        before = await self._live(key)
        answer = await super().delete(key, uid=uid, resource_version=resource_version)
        if before is not None and before["metadata"]["uid"] == uid:
            ours = [obj["metadata"]["uid"] for kind in RECONCILED for obj in await self._twin.list(kind)]
            owner = controller_uid(before)
            if owner not in ours:
                raise LawBroken(f"{_shown(key)} was deleted, and its owner {owner} is no resource of ours")
        return answer

    async def _live(self, key: Key) -> Object | None:
        try:
            return await self._twin.get(key)
        except NotFound:
            return None


def wrong_with(obj: Object) -> Iterator[str]:
    """What no status that was just written may be: large, of a generation to come, or with an entry twice."""
    status, generation = obj["status"], obj["metadata"]["generation"]
    check_status(f"look at {obj['kind']} {obj['metadata']['name']}", key_of(obj).kind, status, status)
    if (size := len(encode("look", status))) >= MOST_STATUS_BYTES:
        yield f"the status has {size} bytes"
    observed = [status, *status.get("conditions", ())]
    if (most := max(one.get("observedGeneration", -1) for one in observed)) > generation:
        yield f"the status is of generation {most}, and the spec of {generation}"
    named = {"conditions": ("type",), "revisions": ("name",), "attempts": ("number",)}
    for field, marks in named.items():
        found = [tuple(one[mark] for mark in marks) for one in status.get(field, ())]
        if len(set(found)) < len(found):
            yield f"status.{field} has an entry twice: {found}"


async def untrue(twin: Twin, settled: Mapping[Key, bool], looked_at: Collection[str] = ()) -> list[str]:
    """What statuses say at the end of a round and is not so. settled: by resource, whether its round has ended.

    looked_at: UIDs of what no watch shows, because it lacks our label, and the operator has just looked at.
    """
    said = []
    deployments = await twin.list(DEPLOYMENT)
    apart = {obj["metadata"]["name"]: obj["metadata"]["uid"] for obj in deployments if is_foreign(obj)}
    unseen = {name for name, uid in apart.items() if uid not in looked_at}
    for kind in RECONCILED:
        for obj in await twin.list(kind):
            key, status = key_of(obj), obj.get("status", {})
            if not settled.get(key, False) or "deletionTimestamp" in obj["metadata"]:
                continue
            if kind == STEP and "phase" not in status:  # it is at work, and not worth a write yet
                continue
            if status.get("observedGeneration") != obj["metadata"]["generation"]:
                said.append(f"{_shown(key)}: the status is of generation {status.get('observedGeneration')}")
            if kind == MODEL_DEPLOYMENT and status.get("serving") not in unseen:
                said += _available(obj, status, ready_pods(obj, deployments))
    return said


def ready_pods(obj: Object, deployments: Sequence[Object]) -> int:
    """Ready pods of the serving revision, as the Deployment controller counts them, whoever owns the Deployment."""
    owner, serving = Owner.of(obj), obj.get("status", {}).get("serving")
    return sum(
        int(live.get("status", {}).get("readyReplicas") or 0)
        for live in deployments
        if serving is not None
        and (live["metadata"]["namespace"], live["metadata"]["name"]) == (owner.namespace, serving)
        and is_selected(owner, serving, live)
    )


def _available(obj: Object, status: Object, ready: int) -> Iterator[str]:
    found = [one["status"] for one in status.get("conditions", ()) if one["type"] == "Available"]
    if found != ["True" if ready else "False"]:
        yield f"{_shown(key_of(obj))}: Available is {found}, and {ready} pods of {status.get('serving')} are ready"
    if status.get("readyReplicas") != ready:
        yield f"{_shown(key_of(obj))}: readyReplicas is {status.get('readyReplicas')}, and {ready} pods are ready"


def _shown(key: Key) -> str:
    return f"{key.kind} {key.namespace}/{key.name}"
