"""Tasks on the store: check a bucket, recover the report of a lost Job, and fetch a repository for a serving pod.

The module imports neither numpy nor torch: the start of every serving pod waits for `fetch`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import PurePath

from slipway.api.artifacts import State, store_path
from slipway.api.errors import StoreError
from slipway.api.reports import Report, parse_report
from slipway.api.tasks import REPOSITORY_FRONTEND, CheckTask, FetchTask, RecoverTask
from slipway.runtime.failures import is_consequence
from slipway.runtime.pod import Pod
from slipway.runtime.store import BucketStore
from slipway.sdk.artifact import copy_artifact, read_artifact

CHECK_NAME = "written"
CHECK_DATA = b"Slipway writes this object to check the bucket.\n"


def check_bucket(_task: CheckTask, pod: Pod) -> Report:
    """List, create and read one object below the pod's own folder, always the same one.

    Raises StoreError, which names the ArtifactStore's field and becomes its status.
    """
    if not isinstance(pod.store, BucketStore):
        raise StoreError("spec.s3", "the pod has no bucket", "report this defect of Slipway")
    bucket, key = pod.store.bucket, f"{pod.store.own}/{CHECK_NAME}"
    bucket.list(pod.store.own)
    bucket.create(key, CHECK_DATA)
    if bucket.create(key, CHECK_DATA):
        problem = "the service ignores If-None-Match, so two writers could create the same object"
        raise StoreError("spec.s3.endpoint", problem, "use a service that supports conditional writes")
    found = bucket.read(key)
    if found is None or found.data != CHECK_DATA:
        raise StoreError(
            "spec.s3.endpoint",
            f"{bucket.url(key)} does not have the content that was written",
            "see the log of the service",
        )
    return pod.succeeded()


def recover_report(task: RecoverTask, pod: Pod) -> Report:
    """Return the earliest failure among the Job's reports, else the success of index 0, else the answer `none`."""
    found = {} if "/" in task.job_uid else pod.store.reports(store_path(task.uri), task.job_uid)
    reports = {name: parse_report(data) for name, data in found.items()}  # an incomplete or foreign file counts as none
    failures = [report for report in reports.values() if report and report.outcome == "failed"]
    if failures:
        return min(failures, key=lambda report: (report.error is None or is_consequence(report.error), report.at))
    first = reports.get(f"{task.job_uid}-0")
    if first is not None and first.outcome == "succeeded":
        return first
    return Report(outcome="none", at=datetime.now(UTC))


def fetch_repository(task: FetchTask, pod: Pod) -> Report:
    """Copy the repository and the front end before Triton starts: the init container of every serving pod.

    The copy is verified, because the store may change after a check and the pod's own folder does not. Raises
    ArtifactError if the store or the copy differs from the digest. A restart overwrites an incomplete copy.
    """
    frontend = pod.repository / PurePath(REPOSITORY_FRONTEND).name
    frontend.unlink(missing_ok=True)  # left by an earlier start; only the repository is verified
    copied = pod.copy_to(pod.repository, task.artifact, State.REPOSITORY)
    if copied.path != pod.repository:
        copy_artifact(copied.path, pod.repository, task.artifact.digest)
    # Triton serves every file in the folder, so it must have only the files that were verified as they were copied.
    read_artifact(pod.repository, task.artifact.digest, verify_bytes=False)
    frontend.write_bytes((files("slipway.runtime.serving") / frontend.name).read_bytes())
    return pod.succeeded()
