"""References between objects, for the keys to plan again when an object changes: pure functions of objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from slipway.api.kinds import (
    API_VERSION,
    ARTIFACT_STORE,
    CHILDREN,
    COMPRESSION_PLUGIN,
    GPU_POOL,
    MODEL_DEPLOYMENT,
    POD,
    PVC,
    RECONCILED,
    SERVICE,
    STEP,
    TRAINING_JOB,
    Key,
    Kind,
    Object,
    key_of,
    kind_of,
    selector_text,
)
from slipway.plan.observation import carries
from slipway.plan.owner import OWNER_LABELS, STEP_LABEL
from slipway.plan.parse import value_at
from slipway.plan.references import FOR_ALL, FOR_EVALUATION, StoreUse

MANAGED = {"app.kubernetes.io/managed-by": "slipway"}
"""Labels of every object that planners create, pods included; watches and lists select by them."""

SELECTED = frozenset((*CHILDREN, POD))
"""Kinds that are watched by label: only objects with the label of MANAGED."""

_RECONCILED: dict[str, Kind] = {kind.kind: kind for kind in RECONCILED}


def referenced(obj: Object) -> Iterator[Key]:
    """Yield the keys of the objects that this one names and its planner reads. An invalid spec names nothing."""
    kind, namespace, spec = obj["kind"], obj["metadata"].get("namespace", ""), obj.get("spec")
    if kind == TRAINING_JOB.kind:
        yield from _keys(ARTIFACT_STORE, namespace, *(name for _, name in stores_of(obj)))
        yield from _keys(GPU_POOL, "", *_items(value_at(spec, "pools")), value_at(spec, "steps", "pool"))
    elif kind == MODEL_DEPLOYMENT.kind:
        yield from _keys(ARTIFACT_STORE, namespace, *(name for _, name in stores_of(obj)))
        yield from _keys(TRAINING_JOB, namespace, value_at(spec, "model", "trainingJob"))
        steps = _items(value_at(spec, "compression", "steps"))
        yield from _keys(COMPRESSION_PLUGIN, "", *(value_at(step, "plugin") for step in steps))
        pools = (value_at(spec, part, "pool") for part in ("compression", "evaluation"))
        yield from _keys(GPU_POOL, "", *pools)
        yield Key(SERVICE, namespace, obj["metadata"]["name"])  # a Service of another owner may have the name
    elif kind == STEP.kind:
        yield from _keys(ARTIFACT_STORE, namespace, value_at(spec, "store"), value_at(spec, "heldOut"))
    elif kind == ARTIFACT_STORE.kind:
        yield from _keys(PVC, namespace, value_at(spec, "persistentVolumeClaim", "claimName"))


def stores_of(obj: Object) -> Iterator[tuple[StoreUse, str]]:
    """Yield the ArtifactStores that a TrainingJob or a ModelDeployment names, with their use. Skip invalid fields."""
    spec = obj.get("spec")
    named = ((FOR_ALL, value_at(spec, "store") or "default"), (FOR_EVALUATION, value_at(spec, "evaluation", "store")))
    return ((use, name) for use, name in named if isinstance(name, str) and name)


def _keys(kind: Kind, namespace: str, *names: object) -> Iterator[Key]:
    """Yield a key for each value that is a name."""
    return (Key(kind, namespace, name) for name in names if isinstance(name, str) and name)


def _items(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else ()


def selector_of(kind: Kind) -> str:
    """Return the label selector for lists and watches of a kind; "" selects all objects."""
    return selector_text(MANAGED) if kind in SELECTED else ""


def is_foreign(obj: Object) -> bool:
    """Return True for an object that no watch reports: its kind is watched by label, and it does not have the label."""
    return kind_of(obj) in SELECTED and not carries(obj, MANAGED)


def owner_of(obj: Object) -> Key | None:
    """Return the resource that an object is planned for: itself, its controller, or the one that its labels name."""
    if obj["apiVersion"] == API_VERSION:
        return key_of(obj) if obj["kind"] in _RECONCILED else None
    meta = obj["metadata"]
    namespace = meta.get("namespace", "")
    for owner in meta.get("ownerReferences", ()):
        if owner.get("controller") and owner.get("apiVersion") == API_VERSION and owner["kind"] in _RECONCILED:
            return Key(_RECONCILED[owner["kind"]], namespace, owner["name"])
    labels = meta.get("labels") or {}
    if STEP_LABEL in labels:
        return Key(STEP, namespace, labels[STEP_LABEL])
    return _labelled_owner(obj)


def user_resource_of(obj: Object) -> Key | None:
    """Return the user's resource that an object belongs to: itself, its owner, or the owner of its Step."""
    owner = owner_of(obj)
    return _labelled_owner(obj) if owner is not None and owner.kind == STEP else owner


def _labelled_owner(obj: Object) -> Key | None:
    """Return the resource that the labels of a child, or of a child of a child, name."""
    meta = obj["metadata"]
    labels = meta.get("labels") or {}
    for kind, label in OWNER_LABELS.items():
        if label in labels:
            return Key(_RECONCILED[kind], meta.get("namespace", ""), labels[label])
    return None
