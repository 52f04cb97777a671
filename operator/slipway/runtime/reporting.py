"""Where a report goes: the termination message of the pod, and the task's own folder in the store."""

from __future__ import annotations

from slipway.api.errors import StoreAway, StoreError
from slipway.api.reports import Report, encode_report
from slipway.runtime.pod import Pod

_OF_THE_STORE = frozenset({StoreError.__name__, StoreAway.__name__})


def publish(report: Report, pod: Pod) -> None:
    """Write the report to both places; one that cannot be written is said in the log and stops nothing.

    A store that has just refused, or not answered, is not asked again: some services make a missing bucket of a write.
    """
    data = encode_report(report)
    try:
        pod.termination_log.write_bytes(data)
    except OSError as error:
        print(f"the termination message could not be written: {error}", flush=True)
    if not pod.out_uri or (report.error is not None and report.error.exception in _OF_THE_STORE):
        return
    try:
        pod.results.write_report(f"{pod.job_uid}-{pod.index}", data)
    except (OSError, StoreError) as error:
        print(f"the report could not be written to the store: {error}", flush=True)
