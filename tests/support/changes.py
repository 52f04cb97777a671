"""Valid changes of specs, and the world in which they are made: on the twin, with the whole loop."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from datetime import timedelta
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import ValidationError

from slipway.api.base import digest_of, timedelta_of
from slipway.api.crds import Resource
from slipway.api.kinds import MODEL_DEPLOYMENT, TRAINING_JOB, Key, Object
from support.builders import (
    HELD_OUT,
    NAMESPACE,
    PRUNE,
    QUANTIZE,
    RECIPE,
    T0,
    bucket_store,
    claim,
    plugins,
    pool,
    resource,
    store,
    trained,
    wire_time,
)
from support.faults.operations import counting
from support.faults.scenario import Scenario, placed, play
from support.faults.twin_stage import TwinStage
from support.faults.world import Operation, World
from support.places import Json
from support.refusals import RESOURCE_OF
from support.specs import Vocabulary, mutable_fields, specs, values
from support.world import content_of, task_of

DEPLOYED = Key(MODEL_DEPLOYMENT, NAMESPACE, "changed")
TRAINED = Key(TRAINING_JOB, NAMESPACE, "changed")

_STORED_DATA = {"stored": {"uri": "store:///data/other", "digest": "sha256:" + "d" * 64}}
_STEPS: tuple[list[Json], ...] = ([], [PRUNE], [{**PRUNE, "params": {"ratio": 0.3}}, QUANTIZE], [QUANTIZE])
WORDS: Mapping[str, Vocabulary] = {
    "ModelDeployment": {
        "spec.model": [{"trainingJob": "digits"}],
        "spec.model.trainingJob": ["digits"],
        "spec.model.stored": [
            {"uri": "store:///models/one", "digest": "sha256:" + "b" * 64, "state": "onnx"},
            {"uri": "store:///models/two", "digest": "sha256:" + "c" * 64, "state": "module"},
        ],
        "spec.store": ["default"],
        "spec.compression.steps": _STEPS,
        "spec.compression.steps[].plugin": ["prune-structured", "quantize-int8", "export-onnx"],
        "spec.compression.steps[].params": [{}, {"ratio": 0.5}],
        "spec.compression.pool": ["h100"],
        "spec.evaluation.pool": ["h100"],
        "spec.compression.data": [{"dataset": "digits", "split": "train"}, {"dataset": "digits"}],
        "spec.evaluation": [HELD_OUT],
        "spec.evaluation.data": [HELD_OUT["data"], _STORED_DATA],
        "spec.evaluation.store": ["held-out"],
        "spec.evaluation.gate.maxDrop": [0.02, 0.05, 0.5],
        "spec.serving.replicas": [1, 2, 0],
    },
    "TrainingJob": {
        "spec.store": ["default"],
        "spec.pools": [[], ["h100"]],
        "spec.steps.pool": ["h100"],
        "spec.image": ["mine:1"],
        "spec.data": [[{"dataset": "digits"}], [{"name": "train", **_STORED_DATA}]],
        "spec.nodes": [1, 2, 3],
        "spec.restarts.max": [0, 1, 2],
        "spec.suspend": [False],
        "spec.activeDeadline": ["12h", "99999d999999h9999999m999999999s"],
        "spec.ttlAfterFinished": ["1h", "7d"],
    },
}
"""Names that mean something in the world below, by a schema's path."""


BASES: Mapping[str, list[Json]] = {
    "ModelDeployment": [
        {},
        *(
            {"model": {"trainingJob": "digits"}, "compression": {"steps": steps}, "evaluation": HELD_OUT}
            for steps in _STEPS
        ),
    ],
    "TrainingJob": [
        {},
        {"suspend": False, "entrypoint": RECIPE, "data": [{"dataset": "digits"}]},
        {"suspend": False, "pools": ["h100"], "store": "default"},
    ],
    "ArtifactStore": [
        {**found["spec"], "heldOut": False}
        # The name of a Service: without networks nobody knows its addresses.
        for found in (store(), bucket_store(), bucket_store(endpoint="http://s3.team.svc:8333"))
    ],
}
"""What many specs have in common, so that not all of them want the impossible."""


MOST_NODES = 5


class Change(NamedTuple):
    """moves: how far the world goes under the first spec before it changes; None: until it is at rest."""

    first: Json
    second: Json
    moves: int | None


def changes(kind: str) -> SearchStrategy[Change]:
    """From a valid spec to another by one to three mutable fields, at rest or on the way."""
    of = RESOURCE_OF[kind]
    words = WORDS.get(kind, {})
    drawn = {field: values(of, field, words) for field in mutable_fields(of)}
    bases = st.builds(lambda spec, base: {**spec, **base}, specs(of, words), st.sampled_from(BASES.get(kind, [{}])))
    return _changes(of, bases.filter(lambda spec: _valid(spec, of)), drawn).filter(
        lambda change: change.first != change.second
    )


@st.composite
def _changes(
    draw: st.DrawFn, of: Resource, bases: SearchStrategy[Json], fields: Mapping[tuple[str, ...], SearchStrategy[Any]]
) -> Change:
    first = draw(bases)
    second = first
    for field in draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=3)):
        removed = draw(st.integers(0, 4)) == 0
        second = _with_field(second, field[1:], None if removed else draw(fields[field]), of) or second
    return Change(_plausible(first), _plausible(second), draw(st.integers(0, 12)) if draw(st.booleans()) else None)


def _plausible(spec: Json) -> Json:
    """One content, as its digest names it, is of one state; no wait ends while nothing is expected to happen; Steps
    wait for no pool that never comes; and no pods by the thousand."""
    for group in ("compression", "evaluation", "steps"):
        if "pool" in (spec.get(group) or {}):
            spec = {**spec, group: {**spec[group], "pool": "h100"}}
    if timedelta_of(spec.get("restarts", {}).get("backoff", "0s")) > timedelta(minutes=1):
        spec = {**spec, "restarts": {**spec["restarts"], "backoff": "10s"}}
    if spec.get("nodes", 1) > MOST_NODES:
        spec = {**spec, "nodes": MOST_NODES}
    for field in ("ttlAfterFinished", "activeDeadline"):
        if field in spec and timedelta(hours=1) < timedelta_of(spec[field]) < timedelta(hours=12):
            spec = {**spec, field: "1h"}
    stored = spec.get("model", {}).get("stored")
    if stored is None:
        return spec
    state = "module" if stored["digest"][-1] in "02468ace" else "onnx"
    return {**spec, "model": {"stored": {**stored, "state": state}}}


def _with_field(spec: Json, field: tuple[str, ...], value: Any, of: Resource) -> Json | None:
    """The spec with the field set, or removed where the value is None; None where that is no valid spec."""
    changed = deepcopy(spec)
    above = changed
    for name in field[:-1]:
        above = above.setdefault(name, {})
    above.pop(field[-1], None)
    if value is not None:
        above[field[-1]] = value
    return changed if _valid(changed, of) else None


def _valid(spec: Json, of: Resource) -> bool:
    try:
        of.model.model_validate({"spec": spec})
    except ValidationError:
        return False
    return True


# --- The world ---------------------------------------------------------------------------------------------------


async def compares(world: World, job: Object, pods: Any) -> bool:
    """What a comparison finds is decided by what it compares: every third pair of models is too far apart."""
    lost = 40 if int(digest_of(content_of(task_of(job)))[-4:], 16) % 3 == 0 else 2
    return await counting(lost)(world, job, pods)


OPERATIONS: Mapping[str, Operation] = {"compare": compares}


async def world_with(key: Key, spec: Json) -> TwinStage:
    """A namespace with stores, plugins, a pool and a trained model, and the resource; nothing has happened yet.

    Whatever the spec, the resource has the same UID, and so its children the same names.
    """
    stage = TwinStage()
    done = trained("digits")
    done["status"] |= {"finishedAt": wire_time(T0), "conditions": []}
    apart = store("held-out")
    apart["spec"] |= {"heldOut": True}
    for obj in (claim(), store(), apart, *plugins(), pool()):
        await stage.world.admin.create(placed(obj, NAMESPACE))
    await stage.world.admin.create({**placed(done, NAMESPACE), "status": done["status"]})
    await stage.world.admin.create(placed(resource(key.kind, key.name, **deepcopy(spec)), NAMESPACE))
    return stage


async def rests(stage: TwinStage, operations: Mapping[str, Operation] = OPERATIONS) -> None:
    """Go on until nothing moves."""
    await play(Scenario("a change", (), (), operations), stage)


async def moves(stage: TwinStage, count: int | None, operations: Mapping[str, Operation] = OPERATIONS) -> None:
    """Go on for `count` moves of the cluster, or until all is at rest."""
    if count is None:
        await rests(stage, operations)
        return
    stage.world.operations = operations
    for _ in range(count):
        await stage.quiet()
        if not await stage.world.move() and not await stage.sleep():
            return


async def becomes(stage: TwinStage, key: Key, spec: Json) -> None:
    """A user replaces the spec."""
    await stage.world.admin.edit(key, lambda obj: obj.update(spec=deepcopy(spec)))


async def at_rest(key: Key, spec: Json, operations: Mapping[str, Operation] = OPERATIONS) -> TwinStage:
    """A world in which the spec was the first and only one, at rest."""
    stage = await world_with(key, spec)
    await rests(stage, operations)
    return stage
