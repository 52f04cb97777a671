"""Find what the pods of a Job had to say when the pods themselves are gone."""

from __future__ import annotations

from datetime import UTC, datetime

from slipway.api.artifacts import store_path
from slipway.api.reports import Report, parse_report
from slipway.api.tasks import RecoverTask
from slipway.runtime.failures import is_consequence
from slipway.runtime.pod import Pod


def run(task: RecoverTask, pod: Pod) -> Report:
    """The earliest failure among the Job's reports, else the success of index 0, else the answer `none`."""
    found = {} if "/" in task.job_uid else pod.store.reports(store_path(task.uri), task.job_uid)
    reports = {name: parse_report(data) for name, data in found.items()}  # a cut or foreign file counts as none
    failures = [report for report in reports.values() if report and report.outcome == "failed"]
    if failures:
        return min(failures, key=lambda report: (report.error is None or is_consequence(report.error), report.at))
    first = reports.get(f"{task.job_uid}-0")
    if first is not None and first.outcome == "succeeded":
        return first
    return Report(outcome="none", at=datetime.now(UTC))
