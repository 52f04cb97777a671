"""The task `check`: try a bucket before anything is begun on it, so that its own status tells what is wrong.

It leaves one small object below its own folder, always the same.
"""

from __future__ import annotations

from slipway.api.errors import StoreError
from slipway.api.reports import Report
from slipway.api.tasks import CheckTask
from slipway.runtime.bucketstore import BucketStore
from slipway.runtime.pod import Pod

NAME = "written"
DATA = b"Slipway writes this to see whether it may.\n"


def run(_task: CheckTask, pod: Pod) -> Report:
    """Raises StoreError that names the ArtifactStore's field."""
    if not isinstance(pod.store, BucketStore):
        raise StoreError("spec.s3", "the pod was given no bucket", "this is a defect of Slipway")
    bucket, key = pod.store.bucket, f"{pod.store.own}/{NAME}"
    bucket.list(pod.store.own)
    bucket.create(key, DATA)
    if bucket.create(key, DATA):
        problem = "the service ignores If-None-Match, so that two writers could take themselves for the first"
        raise StoreError("spec.s3.endpoint", problem, "use one that keeps conditional writes")
    found = bucket.read(key)
    if found is None or found.data != DATA:
        raise StoreError(
            "spec.s3.endpoint", f"{bucket.url(key)} does not hold what was written", "see the service's log"
        )
    return pod.succeeded()
