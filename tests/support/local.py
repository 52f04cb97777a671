"""What local mode is tested with: pods as controllers make them, and a process's state folder."""

from __future__ import annotations

from slipway.api.kinds import Object


def a_pod(uid: str = "pod", **spec: object) -> Object:
    """A running pod of one container, controlled by a Job. spec: fields of its PodSpec."""
    container = {
        "name": "main",
        "image": "slipway.local/runtime:test",
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "job", "uid": "job", "controller": True}
    meta = {
        "name": f"job-{uid}",
        "namespace": "default",
        "uid": uid,
        "labels": {"batch.kubernetes.io/controller-uid": "job"},
        "annotations": {"batch.kubernetes.io/job-completion-index": "1"},
        "finalizers": ["slipway.dev/local"],
        "ownerReferences": [owner],
    }
    body = {"containers": [container], "restartPolicy": "Never", **spec}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta,
        "spec": body,
        "status": {"phase": "Running", "podIP": "127.64.0.101"},
    }
