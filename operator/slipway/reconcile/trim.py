"""What is kept of an object: what planners and the executor read, and nothing else. Memory is the point.

Measured on real objects, a pod goes from some 20 KB of Python objects to some 4 KB.
"""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from typing import Any

from slipway.api.kinds import JOB, POD, PVC, Object, kind_of
from slipway.plan.jobs.pods import TEMPLATE, WORKLOAD, template_of, workload_of
from slipway.plan.steps.request import RETRY_ANNOTATION

_DROPPED_METADATA = frozenset({"managedFields", "selfLink", "generateName", "annotations", "finalizers"})
"""Anybody who may write an object may put 256 KiB of annotations into it; one of them is read."""
_LABELS = ("slipway.dev/", "batch.kubernetes.io/", "app.kubernetes.io/managed-by", "velero.io/exclude-from-backup")
"""Prefixes of the labels that are read."""
_POD_METADATA = ("name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences", "deletionTimestamp")
_POD_STATUS = (
    "phase",
    "reason",
    "message",
    "conditions",
    "containerStatuses",
    "initContainerStatuses",
    "podIP",
    "startTime",
)
_CONTAINER_STATUS = ("name", "image", "imageID", "ready", "restartCount", "started", "state", "lastState")


def trimmed(obj: Object) -> Object:
    """A copy of the object with what is read of it; strings that recur in every object are shared."""
    kind = kind_of(obj)
    if kind == POD:
        return _pod(obj)
    kept = {field: value for field, value in obj.items() if field != "metadata"}
    if kind == JOB:  # created once; of its pods' template only what they run is read again
        spec = {field: value for field, value in obj.get("spec", {}).items() if field != "template"}
        kept["spec"] = {**spec, WORKLOAD: workload_of(obj), TEMPLATE: template_of(obj)}
    elif kind == PVC:
        kept["spec"] = {field: value for field, value in obj.get("spec", {}).items() if field != "dataSource"}
    kept["metadata"] = _metadata(obj["metadata"])
    return {"apiVersion": kind.api_version, "kind": kind.kind, **_shared(kept)}


def _metadata(meta: Mapping[str, Any]) -> dict[str, Any]:
    kept = {field: value for field, value in meta.items() if field not in _DROPPED_METADATA}
    if (retry := (meta.get("annotations") or {}).get(RETRY_ANNOTATION)) is not None:
        kept["annotations"] = {RETRY_ANNOTATION: retry}
    if "labels" in kept:
        kept["labels"] = {name: text for name, text in (kept["labels"] or {}).items() if name.startswith(_LABELS)}
    return kept


def _pod(obj: Object) -> Object:
    meta, status = obj["metadata"], obj.get("status", {})
    kept = {field: status[field] for field in _POD_STATUS if field in status}
    for field in ("containerStatuses", "initContainerStatuses"):
        if field in kept:
            kept[field] = [{f: one[f] for f in _CONTAINER_STATUS if f in one} for one in kept[field]]
            for one in kept[field]:  # the same of many pods, and longer than what is shared anyway
                one.update({f: intern(one[f]) for f in ("image", "imageID") if one.get(f)})
    node = obj.get("spec", {}).get("nodeName")
    return {
        "apiVersion": POD.api_version,
        "kind": POD.kind,
        "metadata": _shared(_metadata({field: meta[field] for field in _POD_METADATA if field in meta})),
        "spec": {WORKLOAD: workload_of(obj)} | ({"nodeName": node} if node else {}),
        "status": _shared(kept),
    }


def _shared(value: Any) -> Any:
    """The value again, with one object for all equal field names and short strings."""
    if isinstance(value, dict):
        return {intern(field): _shared(item) for field, item in value.items()}
    if isinstance(value, list):
        return [_shared(item) for item in value]
    if isinstance(value, str) and len(value) < 64:
        return intern(value)
    return value
