"""Pods as the controllers of Kubernetes make them from a template, and what all of them share."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping

from slipway.api.kinds import POD, Object

FINALIZER = "slipway.dev/local"
"""On every pod: it is there until its processes have ended, as with a kubelet's grace period."""
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


def pod_of(
    owner: Object, template: Object, prefix: str, labels: Mapping[str, str], annotations: Mapping[str, str]
) -> Object:
    """A pod of the template, controlled by its owner. prefix: of its name, to which five letters are added."""
    meta = template.get("metadata", {})
    metadata: Object = {
        "name": f"{prefix}{''.join(secrets.choice(_LETTERS) for _ in range(5))}",
        "namespace": owner["metadata"]["namespace"],
        "labels": {**meta.get("labels", {}), **labels},
        "annotations": {**meta.get("annotations", {}), **annotations},
        "finalizers": [FINALIZER],
        "ownerReferences": [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    return {"apiVersion": POD.api_version, "kind": POD.kind, "metadata": metadata, "spec": template["spec"]}


def template_hash(template: Object) -> str:
    """Ten letters by which pods of one template are known (pod-template-hash)."""
    content = json.dumps(template, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(content).hexdigest()[:10]


def is_ready(pod: Object) -> bool:
    """Whether it may take traffic."""
    conditions = {c["type"]: c["status"] for c in pod.get("status", {}).get("conditions", ())}
    return conditions.get("Ready") == "True" and not is_going(pod)


def is_going(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def phase(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase", "Pending"))
