"""The preview of a plan: what the operator would do if objects were applied, and how each resource would end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple
from uuid import uuid4

from slipway.api.base import Model, broken_transitions
from slipway.api.crds import RESOURCES
from slipway.api.kinds import (
    ARTIFACT_STORE,
    COMPRESSION_PLUGIN,
    GPU_POOL,
    JOB,
    MODEL_DEPLOYMENT,
    OWNERS,
    STEP,
    TRAINING_JOB,
    Key,
    Kind,
    Object,
    key_of,
)
from slipway.cluster.port import look_up
from slipway.cluster.twin import Twin
from slipway.plan.jobs.outcomes import conditions_of
from slipway.plan.plan import Settings
from slipway.preview.changes import Change, ChangeLog, manifest_of
from slipway.preview.dry_run import Clock, DryRun
from slipway.preview.placeholders import Known, unknown, unknown_tasks
from slipway.reconcile.cache import Cache
from slipway.reconcile.references import referenced

if TYPE_CHECKING:
    from slipway.reconcile.loop import Planner
from slipway.api.reading import read_status
from slipway.api.status import TaskRun, TaskState
from slipway.api.step import StepStatus
from slipway.plan.observation import controller_uid
from slipway.plan.owner import Owner
from slipway.plan.steps.request import job_prefix
from slipway.plan.store import CHECK
from slipway.plan.tasks import job_name


class PlannedTask(NamedTuple):
    """digest: of what decides the result; of a check its name. job: of its newest try. made: digest of the artifact.

    shared: the Step of another owner whose result it takes over.
    """

    role: str
    digest: str
    job: str
    made: str | None
    succeeded: bool
    shared: str | None = None


def tasks_of(resource: Object, objects: Iterable[Object]) -> list[PlannedTask]:
    """Return the tasks of a resource, in the order in which they were asked for. objects: its Steps are among them."""
    if check := (resource.get("status") or {}).get("check"):
        run = TaskRun.model_validate(check)
        return [PlannedTask(CHECK, CHECK, run.job, None, run.state is TaskState.SUCCEEDED)]
    uid = resource["metadata"].get("uid")
    return [_of(one) for one in objects if one["kind"] == STEP.kind and controller_uid(one) == uid]


def _of(step: Object) -> PlannedTask:
    status = read_status(StepStatus, step.get("status") or {})
    run = status.run
    return PlannedTask(
        step["spec"]["role"],
        step["spec"]["digest"],
        run.job if run else job_name(job_prefix(Owner.of(step)), 1),
        run.artifact.digest if run and run.artifact else None,
        "Ready" in conditions_of(step),
        status.shared_from,
    )


ORDER = (GPU_POOL, COMPRESSION_PLUGIN, ARTIFACT_STORE, TRAINING_JOB, MODEL_DEPLOYMENT)
"""In which resources are planned and told of: each after what it names."""
_MODELS: Mapping[Kind, type[Model]] = {resource.kind: resource.model for resource in RESOURCES}

State = Literal["ready", "rests", "waits", "stalled"]


class ExpectedState(NamedTuple):
    """How a resource ends where all goes well. rests: suspended, or scaled to zero. reason, message: as its status."""

    state: State
    reason: str = ""
    message: str = ""

    @property
    def good(self) -> bool:
        return self.state in ("ready", "rests")


class Refusal(NamedTuple):
    """An edit that the API server would not take."""

    key: Key
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class PlanPreview:
    """edits: what the files themselves change, of our kinds. changes: what the operator then does.

    before, after: the planned resources with their statuses. steps_before, steps: all Steps, in the order in which they
    were made. names: of what nobody can know before.
    """

    edits: tuple[Change, ...]
    changes: tuple[Change, ...]
    before: Mapping[Key, Object]
    after: Mapping[Key, Object]
    names: Known
    cache: Cache
    steps_before: tuple[Object, ...] = ()
    steps: tuple[Object, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    settings: Settings = field(default_factory=lambda: Settings("", ""))

    def tasks(self, key: Key) -> list[PlannedTask]:
        """Of a planned resource, as they end, in the order in which they were asked for."""
        return tasks_of(self.after[key], self.steps)

    def tasks_before(self, key: Key) -> dict[str, PlannedTask]:
        """Of a planned resource, as they are now, by digest."""
        if key not in self.before:
            return {}
        return {task.digest: task for task in tasks_of(self.before[key], self.steps_before)}

    def expected(self, key: Key) -> ExpectedState:
        return expected_state(self.after[key])

    @property
    def good(self) -> bool:
        """Whether all that was planned ends well."""
        return not self.refusals and all(expected_state(obj).good for obj in self.after.values())

    @property
    def differs(self) -> bool:
        """Whether anything would be made, changed or deleted."""
        return bool(self.edits or self.changes)


async def preview_plan(
    wanted: Sequence[Object],
    present: Iterable[Object],
    planners: Mapping[Kind, Planner],
    settings: Settings,
    now: datetime,
    assumed: Iterable[Object] = (),
) -> PlanPreview:
    """What would come to be if the wanted objects were applied where those present are.

    Kinds that the planners know nothing of are left out. present: with UIDs, versions and statuses. assumed: taken to
    be there, as somebody would have written it.
    """
    clock = Clock(now)
    twin = _copy_of(present, clock)
    for one in assumed:
        twin.add(one)
    before = {key_of(obj): obj for kind in OWNERS for obj in await twin.list(kind)}
    steps_before = tuple(await twin.list(STEP))
    edits, refusals = await _applied(twin, wanted)
    keys = await _planned(twin, wanted, edits)
    change_log = await ChangeLog.of(twin)
    dry_run = DryRun(twin, clock, planners, settings, keys)
    await dry_run.run()
    after = {key: ended for key in keys if (ended := dry_run.cache.get(*key)) is not None}
    past = {key: before[key] for key in keys if key in before}
    changes = tuple(change_log.changes())
    steps = tuple(sorted(dry_run.cache.objects(STEP), key=lambda step: (change_log.order(step), *_age(step))))
    names = unknown((*after.values(), *steps), (*past.values(), *steps_before))
    return PlanPreview(
        tuple(edits),
        changes,
        past,
        after,
        names | unknown_tasks((change.object for change in changes if change.key.kind == JOB), names),
        dry_run.cache,
        steps_before,
        steps,
        tuple(refusals),
        settings,
    )


def _age(step: Object) -> tuple[str, str]:
    """Steps of one second lie in the order of their roles."""
    return str(step["metadata"]["creationTimestamp"]), str(step["spec"]["role"])


def _copy_of(present: Iterable[Object], clock: Clock) -> Twin:
    """A twin of what lives elsewhere. What is made beside it gets UIDs that nothing there can have."""
    objects = list(present)
    twin = Twin(clock, uids=uuid4 if objects else None)
    newest = max((int(obj["metadata"]["resourceVersion"]) for obj in objects), default=1)
    twin.restore({"objects": objects, "applied": {}, "revision": newest})
    return twin


def expected_state(obj: Object) -> ExpectedState:
    true = conditions_of(obj)
    ready: Object = next((one for one in obj.get("status", {}).get("conditions", ()) if one["type"] == "Ready"), {})
    state: State = "rests"
    for kind, meaning in _MEANS.items():
        if kind in true:
            state, ready = meaning, true[kind]
            break
    if not ready:
        return ExpectedState("waits", "NotObserved", "no operator has looked at it yet")
    return ExpectedState(state, ready.get("reason", ""), ready.get("message", ""))


_MEANS: Mapping[str, State] = {"Stalled": "stalled", "Ready": "ready", "Reconciling": "waits"}


async def _applied(twin: Twin, wanted: Sequence[Object]) -> tuple[list[Change], list[Refusal]]:
    """Apply the wanted objects. What a file says of a spec is all of it; labels and annotations are added."""
    edits: list[Change] = []
    refusals: list[Refusal] = []
    for obj in wanted:
        try:
            key = key_of(obj)
        except KeyError:
            continue  # no planner reads it
        live = await look_up(twin, key)
        if live is None:
            made = twin.add({name: part for name, part in obj.items() if name != "status"})
            edits += [Change("create", key, None, made)] if key.kind in _MODELS else []
        elif key.kind in _MODELS:
            found = list(_refused(key, live, obj))
            refusals += found
            change = None if found else _edited(twin, key, live, obj)
            edits += [change] if change else []
    return edits, refusals


def _edited(twin: Twin, key: Key, live: Object, wanted: Object) -> Change | None:
    model = _MODELS[key.kind]
    same = _spec(model, live) == _spec(model, wanted)
    meta = dict(live["metadata"])
    for name in ("labels", "annotations"):
        if added := wanted["metadata"].get(name):
            meta[name] = {**(meta.get(name) or {}), **added}

    def edit(obj: Object) -> None:
        obj["metadata"] = meta
        if not same:
            obj["spec"] = wanted["spec"]

    after = twin.edit(key, edit)
    # With defaults on both sides, as the API server holds them.
    shown = Change("change", key, {**live, "spec": _spec(model, live)}, {**after, "spec": _spec(model, after)})
    return shown if manifest_of(shown.before or {}) != manifest_of(shown.after or {}) else None


def _refused(key: Key, live: Object, wanted: Object) -> Iterator[Refusal]:
    """Transition rules of the spec, which the API server alone can judge: the field keeps what it was made with."""
    model = _MODELS[key.kind]
    rules = model.model_validate({"spec": wanted["spec"]}).spec.rules  # type: ignore[attr-defined]
    for name, message in broken_transitions(rules, _spec(model, live), _spec(model, wanted)).items():
        yield Refusal(key, f"spec.{name}", message)


def _spec(model: type[Model], obj: Object) -> Object:
    return dict(model.model_validate({"spec": obj["spec"]}).to_wire()["spec"])


async def _planned(twin: Twin, wanted: Sequence[Object], edits: Sequence[Change]) -> tuple[Key, ...]:
    """The resources of the files, those that name something that the files change, and what these wait for."""
    cache = Cache()
    for kind in OWNERS:
        for obj in await twin.list(kind):
            cache.put(obj)
    keys = {key_of(obj) for obj in wanted if obj["kind"] in _OWNERS}
    for edit in edits:
        keys |= {key for key in cache.affected(edit.object) if key.kind in OWNERS}
    keys |= _waited_for(cache, keys)
    return tuple(sorted(keys, key=lambda key: (ORDER.index(key.kind), key.namespace, key.name)))


def _waited_for(cache: Cache, keys: Iterable[Key]) -> set[Key]:
    """What is under way, or not looked at yet, of all that these resources name: it ends well too, or says why not."""
    found: set[Key] = set()
    left = list(keys)
    while left:
        obj = cache.get(*left.pop())
        named = [key for key in referenced(obj) if key.kind in OWNERS and key not in found] if obj else []
        new = {key for key in named if (other := cache.get(*key)) and _under_way(other)}
        found |= new
        left += new
    return found


def _under_way(obj: Object) -> bool:
    meta, status = obj["metadata"], obj.get("status", {})
    behind = meta["generation"] != status.get("observedGeneration")
    return "deletionTimestamp" not in meta and (behind or expected_state(obj).state == "waits")


_OWNERS = {kind.kind for kind in OWNERS}
