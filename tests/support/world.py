"""A small world for planners: objects, a clock, and stand-ins for the executor, the kubelet and the controllers.

`World.settle` plans one resource and carries the plans out until one is empty, as the reconcile loop does;
`World.step` lets Jobs end and Deployments get ready. All is deterministic; nothing here sleeps or reads a clock.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from slipway.api.artifacts import State
from slipway.api.base import digest_of
from slipway.api.kinds import DEPLOYMENT, JOB, POD, STEP, Key, Kind, Object, key_of
from slipway.api.tasks import OUT_URI_ENV, parse_task
from slipway.plan.observation import Observation, carries, controller_uid
from slipway.plan.plan import Plan, Refusal, Settings, earliest
from slipway.plan.pods import CONTAINER
from slipway.plan.steps import plan_step
from slipway.plan.taskinput import task_text
from slipway.reconcile.cache import trimmed
from slipway.reconcile.drift import in_sync
from slipway.reconcile.execute import status_patch
from support.builders import SETTINGS, T0, pod, succeeded, wire_time

Planner = Callable[[Object, Observation], Plan]
Behaviour = Callable[[Object, Object], Object | None]
"""(task as JSON, Job) -> the report of its pod; None while it runs on."""

MAX_ROUNDS = 40

COUNTS = {"n": 540, "baselineRight": 520, "lost": 2, "gained": 2}
"""What comparisons count unless a test says otherwise: equal accuracy, four samples differ."""

STATES = {
    "prepare": State.DATASET,
    "train": State.MODULE,
    "seal": State.ONNX,
    "evaluate": State.PREDICTIONS,
    "package": State.REPOSITORY,
}


def does_its_work(task: Object, job: Object) -> Object:
    """Every task succeeds; what it makes has a digest of what it was made from, as with real artifacts."""
    if task["task"] == "compare":
        return succeeded(counts=COUNTS)
    if task["task"] == "recover":
        return {"outcome": "none", "at": wire_time(T0)}
    produced = "onnx" if task.get("entryPoint") != "prune-structured" else "module"
    state = STATES.get(task["task"], State(produced))
    return succeeded(made_by(task, job, state), {"accuracy": 0.96, **measured(task)})


_SIZES: dict[str, int] = {}
"""Bytes of each model that a pod left, by its digest: whoever reads the files knows."""


def measured(task: Object) -> Object:
    """What a pod that reads a model, and runs nobody else's code, reports of it."""
    if task["task"] not in ("evaluate", "package"):
        return {}
    return {"model_bytes": float(_SIZES.get(task["model"]["digest"], 100))}


def made_by(task: Object, job: Object, state: State) -> Object:
    """The reference of an artifact that a pod of this Job left."""
    size = {"prune-structured": 50, "quantize-int8": 25}.get(task.get("entryPoint", ""), 100)
    uri = env_of(job).get(OUT_URI_ENV, "store:///none") + "/artifact"
    digest = digest_of({"made": content_of(task)})
    _SIZES[digest] = size
    return {"uri": uri, "digest": digest, "state": str(state), "sizeBytes": 1}


def content_of(task: Object) -> Object:
    """The task with the digests of its inputs: not with the places where they lie."""
    return parse_task(json.dumps(task)).to_content()


def env_of(job: Object) -> dict[str, str]:
    """The main container's variables that have a plain value."""
    return {one["name"]: one["value"] for one in main_of(job)["env"] if "value" in one}


def main_of(job: Object) -> Object:
    main: Object = next(one for one in job["spec"]["template"]["spec"]["containers"] if one["name"] == CONTAINER)
    return main


def task_of(job: Object) -> Object:
    task: Object = json.loads(task_text(job["spec"]["template"], main_of(job)) or "{}")
    return task


class World:
    """Implements Seen. behaviour: what the pods of Jobs do; may be exchanged at any time.

    image_id: what the kubelet calls the content of an image.
    gets_ready: whether the pods of a Deployment (by its pod template) get ready.
    writes: every write of a planner, oldest first, as (verb, kind, name).
    """

    def __init__(self, planner: Planner, *objects: Object, settings: Settings = SETTINGS, now: datetime = T0) -> None:
        self.planner, self.settings, self.now = planner, settings, now
        self.behaviour: Behaviour = does_its_work
        self.image_id: Callable[[str], str] = lambda image: f"{image.split(':')[0]}@{digest_of(image)}"
        self.gets_ready: Callable[[Object], bool] = lambda _: True
        self.objects: dict[Key, Object] = {}
        self.writes: list[tuple[str, str, str]] = []
        self.events: list[tuple[str, str, str]] = []
        self.checks: list[Callable[[], None]] = []
        self.wake_at: datetime | None = None
        self._version = 100
        for obj in objects:
            self.put(obj)

    # --- Seen ---------------------------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return self.objects.get(Key(kind, namespace if kind.namespaced else "", name))

    def owned(self, kind: Kind, namespace: str, uid: str) -> Sequence[Object]:
        return [obj for obj in self._sorted(kind, namespace) if controller_uid(obj) == uid]

    def select(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> Sequence[Object]:
        return [obj for obj in self._sorted(kind, namespace) if carries(obj, labels)]

    def _sorted(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        keys = sorted((key for key in self.objects if key.kind == kind), key=lambda key: key[1:])
        return [self.objects[key] for key in keys if namespace in (None, key.namespace)]

    # --- What users and controllers do --------------------------------------------------------------------------

    def put(self, obj: Object) -> Object:
        """Create or replace an object. Of a pod planners see no more than the operator keeps."""
        obj = copy.deepcopy(trimmed(obj) if obj["kind"] == POD.kind else obj)
        self._version += 1
        meta = obj["metadata"]
        meta["resourceVersion"] = str(self._version)
        meta.setdefault("uid", f"uid-{self._version}")
        meta.setdefault("generation", 1)
        if obj["kind"] in (STEP.kind, JOB.kind):
            meta.setdefault("creationTimestamp", wire_time(self.now))
        self.objects[key_of(obj)] = obj
        return obj

    def edit(self, key: Key, change: Callable[[Object], None]) -> None:
        """A user's edit of a spec: the generation grows where it changes something."""
        obj = copy.deepcopy(self.objects[key])
        change(obj["spec"])
        if obj["spec"] != self.objects[key]["spec"]:
            obj["metadata"]["generation"] += 1
            self.put(obj)

    def set_status(self, key: Key, status: Object) -> None:
        self.put({**self.objects[key], "status": status})

    def remove(self, key: Key) -> None:
        """Delete in the background: what it controls goes too."""
        gone = self.objects.pop(key)
        for other in [k for k, obj in self.objects.items() if controller_uid(obj) == gone["metadata"]["uid"]]:
            if other in self.objects:
                self.remove(other)

    def observation(self, *refusals: Refusal) -> Observation:
        return Observation(self, self.settings, self.now, refusals)

    # --- The executor -------------------------------------------------------------------------------------------

    def settle(self, key: Key, crash_after: int | None = None) -> None:
        """Plan and carry out until nothing is left to do. crash_after: stop after this number of writes.

        Raises AssertionError where that never comes.
        """
        budget = len(self.writes) + crash_after if crash_after is not None else None
        for _ in range(MAX_ROUNDS):
            before, wake_times = len(self.writes), []
            for one in (key, *(key_of(step) for step in self._sorted(STEP))):
                if one not in self.objects:  # a plan of this round has deleted it
                    continue
                plan = (plan_step if one.kind == STEP else self.planner)(self.objects[one], self.observation())
                wake_times.append(plan.wake_at)
                self._carry_out(plan, one, budget)
                if budget is not None and len(self.writes) >= budget:
                    return
                for check in self.checks:
                    check()
            self.wake_at = earliest(wake_times)
            if len(self.writes) == before:
                return
        raise AssertionError(f"no end after {MAX_ROUNDS} rounds; the last writes: {self.writes[-6:]}")

    def _carry_out(self, plan: Plan, key: Key, budget: int | None) -> None:
        def spent() -> bool:
            return budget is not None and len(self.writes) >= budget

        for obj in plan.apply:
            if not spent():
                self._apply(obj)
        for obj in plan.create:
            if not spent() and key_of(obj) not in self.objects:
                self._log("create", obj)
                self.put(obj)
        for deletion in plan.delete:
            if not spent() and (live := self.objects.get(deletion.key)) is not None:
                meta = live["metadata"]
                assert (meta["uid"], meta["resourceVersion"]) == (deletion.uid, deletion.resource_version)
                self._log("delete", live)
                self.remove(deletion.key)
        owner = self.objects[key]
        if not spent() and status_patch(owner.get("status") or {}, plan.status):
            self._log("status", owner)
            # Through JSON, as over the wire.
            self.set_status(key, json.loads(json.dumps(plan.status)))
            self.events += [(one.type, one.reason, one.message) for one in plan.events]

    def _apply(self, rendered: Object) -> None:
        live = self.objects.get(key_of(rendered))
        if live is not None and in_sync(live, rendered):
            return
        self._log("apply", rendered)
        generation = (live["metadata"]["generation"] if live else 0) + 1
        uid = (
            {name: live["metadata"][name] for name in ("uid", "creationTimestamp") if name in live["metadata"]}
            if live
            else {}
        )
        kept = {"status": live["status"]} if live and "status" in live else {}
        self.put({**kept, **rendered, "metadata": {**rendered["metadata"], **uid, "generation": generation}})

    def _log(self, verb: str, obj: Object) -> None:
        self.writes.append((verb, obj["kind"], obj["metadata"]["name"]))

    # --- Kubelet and controllers --------------------------------------------------------------------------------

    def step(self) -> bool:
        """Jobs end and Deployments get ready, as far as they do. True where anything changed."""
        changed = False
        for job in self._sorted(JOB):
            if not job.get("status", {}).get("conditions"):
                report = self.behaviour(task_of(job), job)
                if report is not None:
                    self._end(job, report)
                    changed = True
        for live in self._sorted(DEPLOYMENT):
            wanted = int(live["spec"]["replicas"])
            up = wanted if self.gets_ready(live) else 0
            status: dict[str, Any] = {
                "observedGeneration": live["metadata"]["generation"],
                "replicas": wanted,
                "updatedReplicas": wanted,
                "readyReplicas": up,
            }
            if {**live.get("status", {}), **status} != live.get("status"):
                self.set_status(key_of(live), {**live.get("status", {}), **status})
                changed = True
        return changed

    def _end(self, job: Object, report: Object) -> None:
        good = report["outcome"] != "failed" or task_of(job)["task"] == "recover"  # it tells of another's failure
        code = 0 if good else int(report["error"].get("exitCode", 1))
        made = pod(job, exit_code=code, message=report, at=self.now)
        made["status"]["containerStatuses"][0]["imageID"] = self.image_id(main_of(job)["image"])
        self.put(made)
        ended = {"type": "Complete" if good else "Failed", "status": "True", "reason": "", "message": ""}
        self.set_status(key_of(job), {"conditions": [ended]})

    def run(self, key: Key, *, rounds: int = 60) -> None:
        """Settle, let the world move, and wake up in time, until nothing happens any more."""
        for _ in range(rounds):
            self.settle(key)
            if self.step():
                continue
            if self.wake_at is None or self.wake_at - self.now > timedelta(seconds=30):
                return
            self.now = max(self.wake_at, self.now)
        raise AssertionError(f"no rest after {rounds} rounds; the last writes: {self.writes[-6:]}")

    # --- What a test asks ---------------------------------------------------------------------------------------

    def steps(self) -> list[Object]:
        """The runs of all Steps, by name, each with its role and its digest; RUNNING is what has not ended."""
        return [
            {
                "state": "Running",
                **step.get("status", {}).get("run", {}),
                "name": step["spec"]["role"],
                "digest": step["spec"]["digest"],
            }
            for step in self._sorted(STEP)
        ]

    def status(self, key: Key) -> Object:
        status: Object = self.objects[key].get("status", {})
        return status

    def condition(self, key: Key, kind: str) -> tuple[str, str, str]:
        """Status, reason and message."""
        found = next(one for one in self.status(key)["conditions"] if one["type"] == kind)
        return found["status"], found["reason"], found.get("message", "")

    def jobs(self) -> list[str]:
        """The roles of all Jobs that were ever created, oldest first; a Job that is gone counts by its name."""
        roles = {obj["metadata"]["name"]: obj["metadata"]["labels"]["slipway.dev/role"] for obj in self._sorted(JOB)}
        return [roles.get(name, name) for verb, kind, name in self.writes if (verb, kind) == ("create", "Job")]

    def pods_of(self, job: Object) -> Sequence[Object]:
        return self.owned(POD, job["metadata"]["namespace"], job["metadata"]["uid"])
