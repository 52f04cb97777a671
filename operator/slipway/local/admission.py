"""How objects of files come into the twin: as `kubectl apply` would bring them into a cluster."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.base import Model, broken_transitions
from slipway.api.kinds import (
    ARTIFACT_STORE,
    COMPRESSION_PLUGIN,
    MODEL_DEPLOYMENT,
    TRAINING_JOB,
    Key,
    Object,
    key_of,
)
from slipway.api.trainingjob import TrainingJobSpec
from slipway.cluster.port import look_up
from slipway.cluster.twin import Twin
from slipway.local.refusals import Refusal

_FROZEN: dict[str, type[Model]] = {TRAINING_JOB.kind: TrainingJobSpec, ARTIFACT_STORE.kind: ArtifactStoreSpec}


def changed_frozen_fields(live: Object, wanted: Object) -> list[str]:
    """Fields of the spec that may not change, and differ. The rules are the CRD's own (`oldSelf`)."""
    model = _FROZEN.get(wanted["kind"])
    return list(broken_transitions(model.rules if model else (), live["spec"], wanted["spec"]))


async def refused_changes(twin: Twin, objects: Iterable[Object]) -> list[Refusal]:
    """What an API server would refuse of objects that exist already."""
    found = []
    for obj in objects:
        if (live := await look_up(twin, key_of(obj))) is not None:
            found += [
                Refusal(
                    obj,
                    f"spec.{field}",
                    "cannot change once the object is made",
                    "give it another name, or let --replace delete it and make it anew",
                )
                for field in changed_frozen_fields(live, obj)
            ]
    return found


async def admit(twin: Twin, objects: Sequence[Object], *, replace: bool = False) -> None:
    """Create what is missing and change what differs. replace: what cannot be changed is deleted and made anew."""
    for obj in objects:
        key = key_of(obj)
        live = await look_up(twin, key)
        if live is not None and replace and changed_frozen_fields(live, obj):
            twin.remove(key)
            live = None
        if live is None:
            twin.add(obj)
        else:
            twin.edit(key, lambda one, obj=obj: _apply(one, obj))  # type: ignore[misc]


async def keep_only(twin: Twin, plugins: Collection[str]) -> None:
    """Remove the CompressionPlugins that neither a file nor this environment has any more."""
    for obj in await twin.list(COMPRESSION_PLUGIN):
        if obj["metadata"]["name"] not in plugins:
            twin.remove(key_of(obj))


def active_resources(objects: Iterable[Object]) -> frozenset[Key]:
    """Return what a run of these files works on: their resources, and the TrainingJobs that these name."""
    keys = set()
    for obj in objects:
        if obj["kind"] in (TRAINING_JOB.kind, MODEL_DEPLOYMENT.kind):
            keys.add(key_of(obj))
        if obj["kind"] == MODEL_DEPLOYMENT.kind and (job := obj["spec"]["model"].get("trainingJob")):
            keys.add(Key(TRAINING_JOB, obj["metadata"]["namespace"], job))
    return frozenset(keys)


def _apply(live: Object, wanted: Object) -> None:
    live["spec"] = wanted["spec"]
    for field in ("labels", "annotations"):
        if wanted["metadata"].get(field):
            live["metadata"][field] = {**live["metadata"].get(field, {}), **wanted["metadata"][field]}
