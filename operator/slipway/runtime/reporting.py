"""Where a report goes: the termination message of the pod, and the task's own folder in the store."""

from __future__ import annotations

import os
from pathlib import Path

from slipway.api.reports import Report, encode_report
from slipway.runtime.pod import Pod

REPORTS_DIR = "reports"


def publish(report: Report, pod: Pod) -> None:
    """Write the report to both places; one that cannot be written is said in the log and stops nothing."""
    data = encode_report(report)
    try:
        pod.termination_log.write_bytes(data)
    except OSError as error:
        print(f"the termination message could not be written: {error}", flush=True)
    if not pod.out_uri:
        return
    try:
        _replace(report_file(pod.out, pod.job_uid, pod.index), data)
    except OSError as error:
        print(f"the report could not be written to the store: {error}", flush=True)


def report_file(folder: Path, job_uid: str, index: int | str) -> Path:
    """Where the pod of that index of the Job leaves its report."""
    return folder / REPORTS_DIR / f"{job_uid}-{index}.json"


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    draft.rename(path)
