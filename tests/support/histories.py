"""Random histories of a hostile world beside a revision that serves: refusals, foreign edits, lost nodes, preemption.

The same seed makes the same history. After each event the operator gets what is due at once, and the laws of laws.py
hold it to what is; in the end all troubles are over, and the world comes to rest as one that had none.
"""

from __future__ import annotations

from copy import deepcopy
from random import Random

from slipway.api.errors import ClusterError, NotFound
from slipway.api.kinds import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    JOB,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    Key,
    Kind,
    Object,
    key_of,
)
from slipway.cluster.port import Write
from slipway.cluster.twin import Twin
from slipway.plan.jobs.outcomes import is_over
from slipway.reconcile.planners import PLANNERS
from support.builders import NAMESPACE, model_deployment, wire_time
from support.hostile import DIGITS, Denying, HostileWorld, Rule, quota, webhook
from support.loop_on_twin import OperatorOnTwin

CHILDREN = (DEPLOYMENT, SERVICE, CONTROLLER_REVISION, POD_DISRUPTION_BUDGET, JOB)
WRITES = (
    ("create", "Job"),
    ("create", "ControllerRevision"),
    ("apply", "Deployment"),
    ("apply", "Service"),
    ("apply", "PodDisruptionBudget"),
    ("delete", "Job"),
    ("delete", "Deployment"),
)
NODES = 3
EVENTS = 8


def times_out(verb: str, kind: str) -> Rule:
    """An admission webhook that does not answer in time, as the API server reports it (failurePolicy: Fail)."""

    def rule(write: Write) -> ClusterError | None:
        if (write.verb, write.kind) != (verb, kind):
            return None
        said = 'failed calling webhook "slow.example.com": context deadline exceeded'
        return ClusterError(f"{verb} {kind.lower()}s {NAMESPACE}/{write.name}: 500 Internal error occurred: {said}")

    return rule


class Mutating(Denying):
    """As well an admission webhook that gives each object of some kinds the content that it had."""

    def __init__(self, twin: Twin) -> None:
        super().__init__(twin)
        self.changed_back: list[Kind] = []

    async def apply(self, obj: Object) -> Object:
        if key_of(obj).kind in self.changed_back and "uid" in obj["metadata"]:
            return await self._cluster.get(key_of(obj))
        return await super().apply(obj)


class History(HostileWorld):
    """One history. told: its events in words, for whoever repeats it."""

    def __init__(self, past: HostileWorld, seed: int) -> None:
        super().__init__()
        self.random = Random(seed)
        self.clock.elapsed = past.clock.elapsed
        self.twin = past.twin.fork(self.clock.now)
        self.api: Mutating = Mutating(self.twin)
        self.told: list[str] = []
        self.dead: set[int] = set()
        self._ratio = 0
        self.operator = self._operator()

    async def goes_on(self) -> None:
        """One to three troubles come, users edit, some troubles go, and the operator may be replaced."""
        events = [self.refuses, self.edits_a_child, self.loses_a_node, self.a_user_edits, self.time_goes_by]
        usual = [self.a_user_edits, self.time_goes_by, self.pods_flap, self.a_trouble_ends, self.is_replaced]
        rare = [self.is_preempted, self.another_version_wrote, self.holds_a_child, self.takes_a_name, self.changes_back]
        rare.append(self.a_webhook_changes_back)
        for number in range(EVENTS):
            pool = events if number < self.random.randint(1, 3) else [*events, *usual, *usual, *rare]
            await self.random.choice(pool)()
            await self.passes(0)
            await self.operator.looks_again()

    async def recovers(self) -> None:
        """All that is wrong in the world goes, and nothing else happens for a while."""
        self.api.rules.clear()
        self.api.changed_back.clear()
        self.dead.clear()
        for kind in CHILDREN:
            for obj in await self.twin.list(kind, NAMESPACE):
                await self._made_good(obj)
        self.pods_live = True
        spec = {**deepcopy(model_deployment()["spec"]), "serving": {"replicas": 2}}
        self.twin.edit(DIGITS, lambda obj: obj.update(spec=spec))
        await self.operator.looks_again()
        await self.lives(15)

    async def _made_good(self, obj: Object) -> None:
        key, meta = key_of(obj), obj["metadata"]
        if meta.get("finalizers"):
            self.twin.edit(key, lambda one: one["metadata"].update(finalizers=[]))
        if not meta.get("ownerReferences") and await self._is_there(key):
            self.twin.remove(key)

    async def _is_there(self, key: Key) -> bool:
        try:
            await self.twin.get(key)
        except NotFound:
            return False
        return True

    # --- Refusals -------------------------------------------------------------------------------------------------

    async def refuses(self) -> None:
        verb, kind = self.random.choice(WRITES)
        refuse = self.random.choice((quota, webhook, times_out))
        self._says(f"{refuse.__name__} on {verb} {kind}")
        self.api.rules.append(refuse(verb, kind))

    async def a_trouble_ends(self) -> None:
        if self.api.rules:
            self._says("a refusal ends")
            self.api.rules.pop(self.random.randrange(len(self.api.rules)))
        elif self.dead:
            self._says("a node comes back")
            self.dead.pop()
            await self.counts()

    # --- Foreign edits --------------------------------------------------------------------------------------------

    async def edits_a_child(self) -> None:
        """Owner or label stripped, the spec changed, or deleted."""
        obj = await self._child()
        if obj is None:
            return
        key = key_of(obj)
        what = self.random.choice(("loses its owner", "loses its labels", "is changed", "is deleted"))
        self._says(f"{key.kind} {key.name} {what}")
        if what == "loses its owner":
            self.twin.edit(key, lambda one: one["metadata"].pop("ownerReferences", None))
        elif what == "loses its labels":
            self.twin.edit(key, lambda one: one["metadata"].update(labels={}))
        elif what == "is deleted":
            self.twin.remove(key)
        elif key.kind == DEPLOYMENT:
            self.twin.edit(key, lambda one: one["spec"].update(replicas=0))
        elif key.kind == SERVICE:
            self.twin.edit(key, lambda one: one["spec"].update(selector={"app": "another"}))
        elif key.kind == POD_DISRUPTION_BUDGET:
            self.twin.edit(key, lambda one: one["spec"].update(maxUnavailable=0))
        await self.counts()

    async def holds_a_child(self) -> None:
        """A finalizer holds a child that a user deletes."""
        obj = await self._child()
        if obj is None:
            return
        key = key_of(obj)
        self._says(f"a finalizer holds {key.kind} {key.name}, which is deleted")
        self.twin.edit(key, lambda one: one["metadata"].update(finalizers=["example.com/keep"]))
        self.twin.remove(key)

    async def a_webhook_changes_back(self) -> None:
        kind = self.random.choice((DEPLOYMENT, SERVICE, POD_DISRUPTION_BUDGET))
        self._says(f"a webhook changes every {kind} back")
        self.api.changed_back.append(kind)

    async def takes_a_name(self) -> None:
        """A child is deleted, and a user makes another object of its name."""
        obj = await self._child()
        if obj is None or obj["metadata"].get("finalizers"):
            return
        key = key_of(obj)
        self._says(f"{key.kind} {key.name} is deleted, and a user takes its name")
        self.twin.remove(key)
        if await self._is_there(key):
            return
        self.twin.add({**deepcopy(obj), "metadata": {"name": key.name, "namespace": key.namespace}, "status": {}})
        await self.counts()

    async def changes_back(self) -> None:
        """Another user's controller writes its own number of replicas each time that it counts."""
        self._says("a user sets replicas of all Deployments to 1")
        for live in await self.twin.list(DEPLOYMENT, NAMESPACE):
            self.twin.edit(key_of(live), lambda one: one["spec"].update(replicas=1))
        await self.counts()

    async def _child(self) -> Object | None:
        kind = self.random.choice(CHILDREN)
        found = await self.twin.list(kind, NAMESPACE)
        return self.random.choice(list(found)) if found else None

    async def another_version_wrote(self) -> None:
        """The next version wrote the status, and was rolled back."""
        self._says("the status is of the next version")

        def change(obj: Object) -> None:
            status = obj["status"]
            status["phase"] = "Progressing"
            status["trafficSplit"] = [{"revision": "r", "weight": 100}]
            status["conditions"].append({**status["conditions"][0], "type": "Promoted", "severity": "Info"})

        self.twin.edit(DIGITS, change)

    # --- Nodes, pods and time -------------------------------------------------------------------------------------

    async def loses_a_node(self) -> None:
        node = self.random.randrange(NODES)
        self._says(f"node {node} dies")
        self.dead.add(node)
        await self.counts()

    async def pods_flap(self) -> None:
        self.pods_live = not self.pods_live
        self._says(f"serving pods are {'' if self.pods_live else 'not '}ready")
        await self.counts()

    async def is_preempted(self) -> None:
        """A storm: every Job's pod makes room for another, again and again."""
        self._says("all pods of Jobs are preempted")
        for _ in range(3):
            for job in await self.twin.list(JOB, NAMESPACE):
                if not is_over(job) and "deletionTimestamp" not in job["metadata"]:
                    said = "Pod matching onPodConditions rule at index 0"
                    failed = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": said}
                    ended = [{**failed, "lastTransitionTime": wire_time(self.clock.now())}]
                    self.twin.edit(key_of(job), lambda one, ended=ended: one.update(status={"conditions": ended}))
            await self.passes(20)

    async def time_goes_by(self) -> None:
        minutes = self.random.choice((0, 1, 3, 15))
        self._says(f"{minutes} minutes go by")
        await (self.lives(minutes) if minutes else self.passes(self.random.choice((1, 31))))

    async def moves(self) -> None:
        """As in any world; a pod of a Job that lies on a dead node does not move."""
        await self.counts() if self.dead and self.random.random() < len(self.dead) / NODES else await super().moves()

    async def counts(self) -> None:
        """The Deployment controller counts the pods; replica n lies on node n."""
        for live in await self.twin.list(DEPLOYMENT):
            wanted = int(live["spec"]["replicas"])
            alive = sum(number % NODES not in self.dead for number in range(wanted))
            status = {
                "observedGeneration": live["metadata"]["generation"],
                "replicas": wanted,
                "updatedReplicas": wanted,
                "readyReplicas": alive if self.pods_live else 0,
            }
            if live.get("status") != status:
                self.twin.edit(key_of(live), lambda obj, status=status: obj.update(status=status))

    # --- Users ----------------------------------------------------------------------------------------------------

    async def a_user_edits(self) -> None:
        what = self.random.choice(("ratio", "replicas", "nothing that can be read", "a gate"))
        self._says(f"a user edits: {what}")
        if what == "ratio":
            self._ratio = self.random.randrange(10, 90)
            steps = [{"plugin": "prune-structured", "params": {"ratio": self._ratio / 100}}]
            self.edits(compression={"steps": steps})
        elif what == "replicas":
            self.edits(serving={"replicas": self.random.choice((0, 1, 2, 3))})
        elif what == "a gate":
            data = {"dataset": "digits", "split": "test"}
            self.edits(evaluation={"data": data, "gate": {"maxDrop": self.random.choice((0.0001, 0.5))}})
        else:
            self.edits(compression=self.random.choice((["quantize"], {"steps": "all"}, 7)))
        await self.counts()

    async def is_replaced(self) -> None:
        self._says("another operator comes")
        self.operator.stop()
        self.operator = self._operator()
        await self.operator.start()

    def _operator(self) -> OperatorOnTwin:
        return OperatorOnTwin(self.twin, self.api, PLANNERS, self.clock)

    def _says(self, what: str) -> None:
        self.told.append(what)
