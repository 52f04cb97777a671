"""Find what the pods of a Job had to say when the pods themselves are gone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from slipway.api.artifacts import store_path
from slipway.api.reports import MAX_REPORT_BYTES, Report, parse_report
from slipway.api.tasks import RereadTask
from slipway.runtime.failures import is_consequence
from slipway.runtime.pod import Pod


def run(task: RereadTask, pod: Pod) -> Report:
    """The earliest failure among the Job's reports, else the success of index 0, else the answer `none`."""
    folder = pod.store / store_path(task.uri) / "reports"
    if "/" in task.job_uid or not folder.is_dir():
        return Report(outcome="none", at=datetime.now(UTC))
    reports = {path.stem: _read(path) for path in sorted(folder.glob(f"{task.job_uid}-*.json"))}
    failures = [report for report in reports.values() if report and report.outcome == "failed"]
    if failures:
        return min(failures, key=lambda report: (report.error is None or is_consequence(report.error), report.at))
    first = reports.get(f"{task.job_uid}-0")
    if first is not None and first.outcome == "succeeded":
        return first
    return Report(outcome="none", at=datetime.now(UTC))


def _read(path: Path) -> Report | None:
    """A cut or foreign file counts as none."""
    if path.is_symlink() or path.stat().st_size > MAX_REPORT_BYTES:
        return None
    return parse_report(path.read_bytes())
