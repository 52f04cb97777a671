"""What is left of a scenario, without what chance and the clock decide: equal whatever faults the operator met."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import Any

from slipway.api.kinds import CHILDREN, EVENT, JOB, RECONCILED, STEP, Object
from slipway.plan.observation import controller_uid
from slipway.plan.owner import REVISION_LABEL, Owner
from slipway.plan.steps.request import job_prefix
from slipway.reconcile.execute import CONTROLLER
from support.faults.history import ChangeHistory, is_shared
from support.faults.world import World

_DROPPED = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "selfLink")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
_CLOCK = re.compile(r"\d\d:\d\d:\d\d UTC")


async def end_state(world: World, history: ChangeHistory) -> list[Object]:
    """All objects that the operator writes, statuses included, in an order of their own.

    UIDs, and the names that carry their hashes, become words; times become one word. Events are told apart: they
    inform only, and one that is lost is not told again (see `told`).
    """
    objects = [
        _without_chance(obj)
        for kind in (*RECONCILED, *CHILDREN)
        for obj in await world.admin.list(kind, world.namespace)
        if kind != JOB or not history.is_shared(controller_uid(obj))
    ]
    objects.sort(key=lambda obj: (obj["kind"], obj["metadata"]["name"]))
    state: list[Object] = json.loads(_in_words(json.dumps(objects), history))
    state.sort(key=lambda obj: (obj["kind"], obj["metadata"]["name"]))
    return state


async def told(world: World, history: ChangeHistory) -> set[tuple[str, str, str]]:
    """The operator's Events: type, reason, message."""
    events = [
        (obj["type"], obj["reason"], obj["note"])
        for obj in await world.admin.list(EVENT, world.namespace)
        if obj.get("reportingController") == CONTROLLER
    ]
    return {(kind, reason, _in_words(note, history)) for kind, reason, note in events}


def difference(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two states differ, by path, as `path: undisturbed | disturbed`."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = sorted({*one, *other})
        return [line for name in names for line in difference(one.get(name), other.get(name), f"{path}.{name}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [line for at, (a, b) in pairs for line in difference(a, b, f"{path}[{_mark(a, at)}]")]
    if isinstance(one, list) and isinstance(other, list):
        names, others = ({_mark(item, at) for at, item in enumerate(items)} for items in (one, other))
        return [f"{path}: only undisturbed {sorted(names - others)}, only disturbed {sorted(others - names)}"]
    return [] if one == other else [f"{path}: {json.dumps(one)[:300]} | {json.dumps(other)[:300]}"]


def _mark(item: Any, at: int) -> str:
    if isinstance(item, dict):
        name = item.get("name") or item.get("type") or item.get("metadata", {}).get("name")
        return f"{item.get('kind', '')}/{name}" if "metadata" in item else str(name or at)
    return str(at)


def _without_chance(obj: Object) -> Object:
    meta = {name: value for name, value in obj["metadata"].items() if name not in _DROPPED}
    if obj["kind"] == STEP.kind:  # several revisions want it, and either may have asked first
        meta["labels"] = {name: value for name, value in meta["labels"].items() if name != REVISION_LABEL}
    spec = obj.get("spec")
    if obj["kind"] == "Service" and spec and spec.get("clusterIP") != "None":
        spec = {name: value for name, value in spec.items() if name not in ("clusterIP", "clusterIPs")}
    kept = {field: value for field, value in obj.items() if field != "revision"}  # a ControllerRevision's is a time
    if "revisions" in (status := obj.get("status", {})):  # Steps that run side by side are asked for in either order
        made = [{**one, "steps": sorted(one.get("steps", ()))} for one in status["revisions"]]
        kept["status"] = {**status, "revisions": made}
    if is_shared(obj):
        kept["status"] = _whoever_made_it(status)
    return {**kept, "metadata": meta, **({"spec": spec} if spec is not None else {})}


def _whoever_made_it(status: Object) -> Object:
    """The status of a Step that shares its result, the same whether it did the work or another one."""
    run = {name: value for name, value in status.get("run", {}).items() if name in ("state", "artifact")}
    return {**{name: value for name, value in status.items() if name != "sharedFrom"}, "run": run}


def _in_words(text: str, history: ChangeHistory) -> str:
    """Each parent is known by its kind, its name and how many of that name there were before."""
    count: dict[tuple[str, str], int] = {}
    for uid, made in history.jobs.items():
        text = text.replace(uid, f"<uid of Job {made.name}>")
    # The names of the Jobs of Steps first: Steps have their owner's hash in their own.
    for uid, owner in sorted(history.owners.items(), key=lambda item: item[1]["kind"] != STEP.kind):
        if owner["kind"] == STEP.kind:
            text = text.replace(job_prefix(Owner.of(owner)), f"{owner['metadata']['name']}-job")
        kind, name = owner["kind"], owner["metadata"]["name"]
        count[kind, name] = count.get((kind, name), 0) + 1
        text = text.replace(uid, f"<uid of {kind} {name} {count[kind, name]}>")
        mark = sha256(uid.encode()).hexdigest()[:6]
        text = text.replace(f"{name}-{mark}", f"{name}-<{kind} {count[kind, name]}>")
    return _CLOCK.sub("<clock>", _TIME.sub("<time>", text))
