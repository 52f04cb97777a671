"""Kubernetes Events (events.k8s.io/v1) on transitions: the same thing is told once, whoever restarts in between."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

from slipway.api.kinds import EVENT, GROUP, Object
from slipway.plan.plan import EventRecord

CONTROLLER = f"{GROUP}/operator"
NOTE_BYTES = 1024
"""The API server says characters and counts bytes: words of a pod may be in any script."""


def event_of(event: EventRecord, owner: Object, now: datetime, instance: str) -> Object:
    """The Event of one transition of its parent.

    instance: who reports, as in `slipway-7d9f-abcde`. Its name is made of the parent's UID and of what happened, so a
    repetition is AlreadyExists to the API server: no counter, no memory, no second Event within the Events' TTL.
    """
    meta = owner["metadata"]
    mark = sha256("\0".join((meta["uid"], event.type, event.reason, event.message)).encode()).hexdigest()
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"{meta['name']}.{mark[:16]}", "namespace": meta["namespace"]},
        "eventTime": now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:128],
        "action": "Reconcile",
        "type": event.type,
        "reason": event.reason[:128],
        "note": event.message.encode()[:NOTE_BYTES].decode(errors="ignore"),
        "regarding": {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
        },
    }
