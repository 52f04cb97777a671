"""The preview of a plan: the operator's writes if objects were applied, and the expected state of each resource."""

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
from slipway.preview.placeholders import Placeholders, placeholders_of, task_placeholders
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
    """A task of a resource. digest: that of the task; for a check its name. job: that of its newest try.

    made: digest of the artifact. shared: the Step of another owner whose result it uses.
    """

    role: str
    digest: str
    job: str
    made: str | None
    succeeded: bool
    shared: str | None = None


def tasks_of(resource: Object, objects: Iterable[Object]) -> list[PlannedTask]:
    """Return the tasks of a resource, in the order of their creation. objects: include its Steps."""
    if check := (resource.get("status") or {}).get("check"):
        run = TaskRun.model_validate(check)
        return [PlannedTask(CHECK, CHECK, run.job, None, run.state is TaskState.SUCCEEDED)]
    uid = resource["metadata"].get("uid")
    return [_planned_task(one) for one in objects if one["kind"] == STEP.kind and controller_uid(one) == uid]


def _planned_task(step: Object) -> PlannedTask:
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
"""The order in which resources are planned and printed: each after the ones that it names."""
_MODELS: Mapping[Kind, type[Model]] = {resource.kind: resource.model for resource in RESOURCES}

State = Literal["ready", "inactive", "waits", "stalled"]


class ExpectedState(NamedTuple):
    """The final state of a resource. inactive: suspended, or scaled to zero. reason, message: as in its condition."""

    state: State
    reason: str = ""
    message: str = ""

    @property
    def good(self) -> bool:
        return self.state in ("ready", "inactive")


class Refusal(NamedTuple):
    """An edit that the API server would refuse."""

    key: Key
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class PlanPreview:
    """The preview of a plan. edits: changes of the user's own objects. changes: the writes of the operator.

    before, after: the planned resources with their statuses. steps_before, steps: all Steps, in the order of their
    creation. names: placeholders for values that the preview cannot know.
    """

    edits: tuple[Change, ...]
    changes: tuple[Change, ...]
    before: Mapping[Key, Object]
    after: Mapping[Key, Object]
    names: Placeholders
    cache: Cache
    steps_before: tuple[Object, ...] = ()
    steps: tuple[Object, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    settings: Settings = field(default_factory=lambda: Settings("", ""))

    def tasks(self, key: Key) -> list[PlannedTask]:
        """Return the tasks of a planned resource in their final state, in the order of their creation."""
        return tasks_of(self.after[key], self.steps)

    def tasks_before(self, key: Key) -> dict[str, PlannedTask]:
        """Return the tasks of a planned resource in their present state, by digest."""
        if key not in self.before:
            return {}
        return {task.digest: task for task in tasks_of(self.before[key], self.steps_before)}

    def expected(self, key: Key) -> ExpectedState:
        return expected_state(self.after[key])

    @property
    def good(self) -> bool:
        """True if every planned resource ends as ready or inactive, and no edit is refused."""
        return not self.refusals and all(expected_state(obj).good for obj in self.after.values())

    @property
    def differs(self) -> bool:
        """True if the plan creates, changes or deletes any object."""
        return bool(self.edits or self.changes)


async def preview_plan(
    manifests: Sequence[Object],
    present: Iterable[Object],
    planners: Mapping[Kind, Planner],
    settings: Settings,
    now: datetime,
    assumed: Iterable[Object] = (),
) -> PlanPreview:
    """Return the preview of applying manifests to a cluster with the present objects.

    Objects of kinds that no planner reads are skipped. present: with UIDs, versions and statuses. assumed: manifests of
    objects that are taken to exist.
    """
    clock = Clock(now)
    twin = _copy_of(present, clock)
    for one in assumed:
        twin.add(one)
    before = {key_of(obj): obj for kind in OWNERS for obj in await twin.list(kind)}
    steps_before = tuple(await twin.list(STEP))
    edits, refusals = await _apply(twin, manifests)
    keys = await _planned_keys(twin, manifests, edits)
    change_log = await ChangeLog.of(twin)
    dry_run = DryRun(twin, clock, planners, settings, keys)
    await dry_run.run()
    after = {key: ended for key in keys if (ended := dry_run.cache.get(*key)) is not None}
    past = {key: before[key] for key in keys if key in before}
    changes = tuple(change_log.changes())
    steps = tuple(sorted(dry_run.cache.objects(STEP), key=lambda step: (change_log.order(step), *_age(step))))
    names = placeholders_of((*after.values(), *steps), (*past.values(), *steps_before))
    return PlanPreview(
        tuple(edits),
        changes,
        past,
        after,
        names | task_placeholders((change.object for change in changes if change.key.kind == JOB), names),
        dry_run.cache,
        steps_before,
        steps,
        tuple(refusals),
        settings,
    )


def _age(step: Object) -> tuple[str, str]:
    """Return the sort key of a Step: its creation time, and its role for Steps of the same second."""
    return str(step["metadata"]["creationTimestamp"]), str(step["spec"]["role"])


def _copy_of(present: Iterable[Object], clock: Clock) -> Twin:
    """Return a twin with the present objects. New objects get random UIDs, which no present object can have."""
    objects = list(present)
    twin = Twin(clock, uids=uuid4 if objects else None)
    newest = max((int(obj["metadata"]["resourceVersion"]) for obj in objects), default=1)
    twin.restore({"objects": objects, "applied": {}, "revision": newest})
    return twin


def expected_state(obj: Object) -> ExpectedState:
    true = conditions_of(obj)
    ready: Object = next((one for one in obj.get("status", {}).get("conditions", ()) if one["type"] == "Ready"), {})
    state: State = "inactive"
    for kind, meaning in _STATES.items():
        if kind in true:
            state, ready = meaning, true[kind]
            break
    if not ready:
        return ExpectedState("waits", "NotObserved", "no operator has reconciled it yet")
    return ExpectedState(state, ready.get("reason", ""), ready.get("message", ""))


_STATES: Mapping[str, State] = {"Stalled": "stalled", "Ready": "ready", "Reconciling": "waits"}


async def _apply(twin: Twin, manifests: Sequence[Object]) -> tuple[list[Change], list[Refusal]]:
    """Apply the manifests. The spec of a file replaces the present one; labels and annotations are merged."""
    edits: list[Change] = []
    refusals: list[Refusal] = []
    for obj in manifests:
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


def _edited(twin: Twin, key: Key, live: Object, manifest: Object) -> Change | None:
    model = _MODELS[key.kind]
    same = _spec(model, live) == _spec(model, manifest)
    meta = dict(live["metadata"])
    for name in ("labels", "annotations"):
        if added := manifest["metadata"].get(name):
            meta[name] = {**(meta.get(name) or {}), **added}

    def edit(obj: Object) -> None:
        obj["metadata"] = meta
        if not same:
            obj["spec"] = manifest["spec"]

    after = twin.edit(key, edit)
    # With defaults on both sides, as the API server holds them.
    shown = Change("change", key, {**live, "spec": _spec(model, live)}, {**after, "spec": _spec(model, after)})
    return shown if manifest_of(shown.before or {}) != manifest_of(shown.after or {}) else None


def _refused(key: Key, live: Object, manifest: Object) -> Iterator[Refusal]:
    """Yield the fields whose transition rules forbid the change; only the API server knows the previous value."""
    model = _MODELS[key.kind]
    rules = model.model_validate({"spec": manifest["spec"]}).spec.rules  # type: ignore[attr-defined]
    for name, message in broken_transitions(rules, _spec(model, live), _spec(model, manifest)).items():
        yield Refusal(key, f"spec.{name}", message)


def _spec(model: type[Model], obj: Object) -> Object:
    return dict(model.model_validate({"spec": obj["spec"]}).to_wire()["spec"])


async def _planned_keys(twin: Twin, manifests: Sequence[Object], edits: Sequence[Change]) -> tuple[Key, ...]:
    """Return the resources of the files, those that name a changed one, and the unfinished ones that these name."""
    cache = Cache()
    for kind in OWNERS:
        for obj in await twin.list(kind):
            cache.put(obj)
    keys = {key_of(obj) for obj in manifests if obj["kind"] in _OWNERS}
    for edit in edits:
        keys |= {key for key in cache.affected(edit.object) if key.kind in OWNERS}
    keys |= _unfinished_references(cache, keys)
    return tuple(sorted(keys, key=lambda key: (ORDER.index(key.kind), key.namespace, key.name)))


def _unfinished_references(cache: Cache, keys: Iterable[Key]) -> set[Key]:
    """Return the resources that these name, directly or not, that are in progress or not yet reconciled."""
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
