"""The whole loop on the twin in a world that refuses writes, takes owners away, and kills pods."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from slipway.api.errors import ClusterError, Forbidden, Invalid
from slipway.api.kinds import (
    DEPLOYMENT,
    JOB,
    MODEL_DEPLOYMENT,
    POD,
    SERVICE,
    TRAINING_JOB,
    Key,
    Kind,
    Object,
    key_of,
)
from slipway.cluster.port import ClusterMiddleware, Write
from slipway.cluster.twin import Twin
from slipway.plan.deployment.manifests import is_selected, selected_revision
from slipway.plan.jobs.outcomes import is_over
from slipway.plan.owner import Owner
from slipway.reconcile.loop import Planner
from slipway.reconcile.planners import PLANNERS
from support.builders import NAMESPACE, T0, claim, model_deployment, plugins, pod, store, trained, wire_time
from support.loop_on_twin import Clock, OperatorOnTwin
from support.world import does_its_work, task_of

T = TypeVar("T")
Rule = Callable[[Write], ClusterError | None]

DIGITS = Key(MODEL_DEPLOYMENT, NAMESPACE, "digits")
TRAIN = Key(TRAINING_JOB, NAMESPACE, "digits")
GIVEN = frozenset({"TrainingJob", "ArtifactStore", "PersistentVolumeClaim"})


class Denying(ClusterMiddleware):
    """An API server that refuses what a rule names.

    lost: rules for what is carried out and not answered. writes: what was asked for. refused: how much of it.
    """

    def __init__(self, twin: Twin) -> None:
        super().__init__(twin)
        self.rules: list[Rule] = []
        self.lost: list[Rule] = []
        self.writes: list[Write] = []
        self.refused = 0

    async def write(self, write: Write, call: Callable[[], Awaitable[T]], /) -> T:
        self.writes.append(write)
        for rule in self.rules:
            if (error := rule(write)) is not None:
                self.refused += 1
                raise error
        answer = await call()
        for rule in self.lost:
            if (error := rule(write)) is not None:
                raise error
        return answer


def quota(verb: str, kind: str) -> Rule:
    """A ResourceQuota that is used up more and more."""
    used = 0

    def rule(write: Write) -> ClusterError | None:
        nonlocal used
        if (write.verb, write.kind) != (verb, kind):
            return None
        used += 1
        said = f'"{write.name}" is forbidden: exceeded quota: few, requested: count=1, used: count={used}, limited: 1'
        return Forbidden(f"{verb} {kind.lower()}s {NAMESPACE}/{write.name}: 403 {said}")

    return rule


def webhook(verb: str, *kinds: str) -> Rule:
    """An admission webhook that denies, with a request ID."""
    tries = 0

    def rule(write: Write) -> ClusterError | None:
        nonlocal tries
        if write.verb != verb or (kinds and write.kind not in kinds):
            return None
        tries += 1
        said = f'admission webhook "no.example.com" denied the request: not today (request 7f{tries}ab)'
        return Invalid(f"{verb} {write.kind.lower()}s {NAMESPACE}/{write.name}: 400 {said}")

    return rule


class HostileWorld:
    """A twin with an operator over it, and the kubelet and the controllers as `moves` lets them be.

    pods_live: whether serving pods are ready.
    """

    def __init__(self, *objects: Object, planners: Mapping[Kind, Planner] = PLANNERS) -> None:
        self.clock = Clock()
        self.twin = Twin(self.clock.now)
        for obj in objects or (model_deployment(), trained(), store(), claim(), *plugins()):
            bare = {**obj, "metadata": {name: obj["metadata"][name] for name in _IDENTITY if name in obj["metadata"]}}
            if obj["kind"] not in GIVEN:
                bare.pop("status", None)
            self.twin.add(bare)
        self.api = Denying(self.twin)
        self.pods_live = True
        self._planners = planners
        self.operator = OperatorOnTwin(self.twin, self.api, planners, self.clock)

    async def start(self) -> HostileWorld:
        await self.operator.start()
        return self

    async def restart(self) -> None:
        """Another process: it remembers nothing."""
        self.operator.stop()
        self.operator = OperatorOnTwin(self.twin, self.api, self._planners, self.clock)
        await self.operator.start()
        await self.operator.settle()

    async def passes(self, seconds: float) -> None:
        until = self.clock.elapsed + seconds
        await self.operator.settle(up_to_seconds=seconds)
        self.clock.elapsed = until

    async def lives(self, minutes: int = 10) -> None:
        """Time goes by, Jobs end well and Deployments get as ready as they may."""
        for _ in range(minutes * 3):
            await self.passes(20)
            await self.moves()
        await self.passes(0)

    async def moves(self) -> None:
        for job in await self.twin.list(JOB):
            if not is_over(job) and "deletionTimestamp" not in job["metadata"]:
                ended = pod(job, exit_code=0, message=does_its_work(task_of(job), job))
                for name in ("uid", "resourceVersion", "generation"):
                    del ended["metadata"][name]
                ended["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "slipway"
                if not any(one["metadata"]["name"] == ended["metadata"]["name"] for one in await self.twin.list(POD)):
                    self.twin.add(ended)
                said = [{"type": "Complete", "status": "True", "lastTransitionTime": wire_time(T0)}]
                self.twin.edit(key_of(job), lambda obj, said=said: obj.update(status={"conditions": said}))
        await self.counts()

    async def counts(self) -> None:
        """The Deployment controller counts the pods."""
        for live in await self.twin.list(DEPLOYMENT):
            wanted = int(live["spec"]["replicas"])
            status = {
                "observedGeneration": live["metadata"]["generation"],
                "replicas": wanted,
                "updatedReplicas": wanted,
                "readyReplicas": wanted if self.pods_live else 0,
            }
            if live.get("status") != status:
                self.twin.edit(key_of(live), lambda obj, status=status: obj.update(status=status))

    # --- What users and others do ---------------------------------------------------------------------------------

    def edits(self, key: Key = DIGITS, **spec: object) -> None:
        self.twin.edit(key, lambda obj: obj["spec"].update(spec))

    async def orphans(self, kind: Kind, name: str) -> Object:
        """A user removes the ownerReferences; returns them."""
        before = (await self.twin.get(Key(kind, NAMESPACE, name)))["metadata"]["ownerReferences"]
        self.twin.edit(Key(kind, NAMESPACE, name), lambda obj: obj["metadata"].pop("ownerReferences"))
        return {"ownerReferences": before}

    def gives_back(self, kind: Kind, name: str, owners: Object) -> None:
        self.twin.edit(Key(kind, NAMESPACE, name), lambda obj: obj["metadata"].update(owners))

    # --- What a test asks -----------------------------------------------------------------------------------------

    async def status(self, key: Key = DIGITS) -> Object:
        status: Object = (await self.twin.get(key))["status"]
        return status

    async def condition(self, kind: str, key: Key = DIGITS) -> tuple[str, str, str]:
        """Status, reason, message."""
        found = next((one for one in (await self.status(key))["conditions"] if one["type"] == kind), None)
        return (found["status"], found["reason"], found.get("message", "")) if found else ("", "", "")

    async def available(self) -> bool:
        return (await self.condition("Available"))[0] == "True"

    async def serves(self) -> bool:
        """Return True if requests are answered: pods of the revision that the status names are ready."""
        name = (await self.status()).get("serving")
        owner = Owner.of(await self.twin.get(DIGITS))
        return any(
            live["metadata"]["name"] == name
            and int(live.get("status", {}).get("readyReplicas", 0)) > 0
            and is_selected(owner, name, live)
            for live in await self.twin.list(DEPLOYMENT)
        )

    async def traffic(self) -> str | None:
        """The revision that the Service selects; None without a Service."""
        services = await self.twin.list(SERVICE)
        return selected_revision(next((one for one in services if one["metadata"]["name"] == "digits"), None))

    def status_writes(self) -> int:
        return sum(write.verb == "patch_status" for write in self.api.writes)


_IDENTITY = ("name", "namespace", "labels")
