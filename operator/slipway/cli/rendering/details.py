"""Tables of `slipway status`: one resource in full or a line for each, and how they change while they are watched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from slipway.api.errors import ClusterError, Forbidden, NotFound
from slipway.api.kinds import Object
from slipway.api.modeldeployment import GateResult, ModelDeployment, Revision
from slipway.api.status import Condition, Failure, TaskRun
from slipway.api.trainingjob import Attempt, TrainingJob
from slipway.cli.rendering.errors import FAILED, TIMED_OUT, CommandError
from slipway.cli.rendering.summary import StepRow, get_readiness, owners_in, reference, steps_of, summary, typed
from slipway.cli.rendering.tables import Table, coloured, number, short_digest, since, size, took
from slipway.cli.rendering.terminal import one_line, pinned

CUT = 160
"""Limit of characters of a message in a table of many resources."""


def overview(objects: Iterable[Object], now: datetime, *, all_namespaces: bool = False) -> Table:
    """Return a table with a line for each resource."""
    rows = []
    given = list(objects)
    for obj in owners_in(given):
        phase, progress, wrong = summary(obj, steps_of(obj, given))
        meta = obj["metadata"]
        row = (reference(obj), phase, progress, since(meta.get("creationTimestamp"), now), _cut(wrong))
        rows.append((meta["namespace"], *row) if all_namespaces else row)
    columns = ("NAME", "PHASE", "PROGRESS", "AGE", "MESSAGE")
    return Table(("NAMESPACE", *columns) if all_namespaces else columns, tuple(rows))


def details(obj: Object, now: datetime, objects: Iterable[Object] = ()) -> list[Table]:
    """Return the tables of one resource: head, conditions, steps, attempts or revisions. objects: with its Steps."""
    resource, steps = typed(obj), steps_of(obj, objects)
    phase, progress, _ = summary(obj, steps)
    meta = obj["metadata"]
    age = since(meta.get("creationTimestamp"), now)
    lines = [f"{phase}: {progress} (age {age})" if progress != "-" else f"{phase} (age {age})"]
    if isinstance(resource, TrainingJob):
        last = attempts(resource.status.attempts, now)
        lines += _artifact_lines(resource)
    else:
        last = revisions(resource, now)
        lines += _served_lines(resource)
    head = Table((), (), title=f"{obj['kind']} {meta.get('namespace', '')}/{meta['name']}", lines=tuple(lines))
    tables = (head, conditions(resource.status.conditions, now), step_table(steps, now), last)
    return [table for table in tables if table.rows or table is head]


def conditions(items: Sequence[Condition], now: datetime) -> Table:
    rows = tuple((c.type, c.status, c.reason, since(c.last_transition_time, now), one_line(c.message)) for c in items)
    return Table(("TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"), rows, title="Conditions")


def step_table(steps: Sequence[StepRow], now: datetime) -> Table:
    rows = tuple(
        (
            step.role,
            step.phase,
            str(step.run.tries) if step.run else "1",
            took(step.run.started_at, step.run.ended_at, now) if step.run else "-",
            _result(step.run),
        )
        for step in steps
    )
    return Table(("STEP", "PHASE", "TRIES", "TOOK", "RESULT"), rows, title="Steps")


def attempts(items: Sequence[Attempt], now: datetime) -> Table:
    rows = tuple(
        (
            str(a.number),
            a.pool or "-",
            f"{a.nodes}x{a.processes_per_node}",
            since(a.started_at, now),
            took(a.running_at or a.started_at, a.ended_at, now),
            a.outcome or "Running",
            failure_text(a.failure),
        )
        for a in items
    )
    columns = ("ATTEMPT", "POOL", "RANKS", "STARTED", "TOOK", "OUTCOME", "CAUSE")
    return Table(columns, rows, title="Attempts")


def revisions(deployment: ModelDeployment, now: datetime) -> Table:
    status = deployment.status

    def role(revision: Revision) -> str:
        names = (("serving", status.serving), ("candidate", status.candidate))
        return ", ".join(word for word, name in names if name == revision.name) or "-"

    rows = tuple(
        (
            r.name,
            role(r),
            since(r.created_at, now),
            size(r.model.size_bytes) if r.model else "-",
            _gate(r.gate),
        )
        for r in status.revisions
    )
    return Table(("REVISION", "ROLE", "AGE", "SIZE", "GATE"), rows, title="Revisions")


def failure_text(failure: Failure | None) -> str:
    """Return `rank 1: ValueError: no such file (exit code 1)`; `-` without a failure."""
    if failure is None:
        return "-"
    where = f"rank {failure.rank}" if failure.rank is not None else None
    where = where or (f"pod {failure.index}" if failure.index is not None else None)
    what = ": ".join(part for part in (failure.exception or failure.reason, one_line(failure.message)) if part)
    code = f" (exit code {failure.exit_code})" if failure.exit_code is not None else ""
    return f"{where}: {what}{code}" if where else f"{what}{code}"


def _result(task: TaskRun | None) -> str:
    if task is None:
        return "-"
    if task.failure:
        return failure_text(task.failure)
    parts = [f"{name} {number(value)}" for name, value in sorted((task.metrics or {}).items())]
    if task.counts:
        counts = task.counts
        parts.append(f"n {counts.n}, lost {counts.lost}, gained {counts.gained}")
    if task.artifact:
        parts.append(short_digest(task.artifact.digest))
        parts += [size(task.artifact.size_bytes)] if task.artifact.size_bytes is not None else []
    return ", ".join(parts) or "-"


def _gate(gate: GateResult | None) -> str:
    if gate is None:
        return "-"
    expected = "passed" if gate.passed else "refused"
    if gate.same_model:
        return f"{expected}: accuracy {gate.accuracy_baseline:.4f}, nothing was compressed"
    readable = "; plugins could read the held-out data" if gate.held_out_readable else ""
    return (
        f"{expected}: accuracy {gate.accuracy_baseline:.4f} -> {gate.accuracy_candidate:.4f}, "
        f"drop at most {gate.drop_bound:.4f} ({gate.confidence:.0%} bound), {gate.max_drop:g} allowed{readable}"
    )


def _artifact_lines(job: TrainingJob) -> list[str]:
    artifact = job.status.artifact
    return [f"artifact {artifact.uri} {artifact.digest}"] if artifact else []


def _served_lines(deployment: ModelDeployment) -> list[str]:
    status = deployment.status
    lines = [f"serves at {status.url}"] if status.url else []
    if (sizes := status.sizes) and sizes.float_bytes and sizes.compressed_bytes:
        lines.append(f"size {size(sizes.float_bytes)} -> {size(sizes.compressed_bytes)}")
    return lines


def _cut(text: str) -> str:
    return text if len(text) <= CUT else text[: CUT - 3] + "..."


Look = Callable[[], Awaitable[list[Object]]]
Show = Callable[[Sequence[Object]], None]

EVERY_SECONDS = 1.0


async def watch_until_ready(
    look: Look,
    show: Show,
    timeout_seconds: float | None,
    *,
    stop_at_first: bool,
) -> list[Object]:
    """Read the resources repeatedly, show them, and return them when all are Ready or Stalled.

    stop_at_first: return with the first that is Stalled, as resources that need it may wait for ever. Calls are tried
    again while the API server is unavailable. Raises CommandError after the time limit.
    """
    seen: list[Object] = []
    try:
        async with asyncio.timeout(timeout_seconds):
            while True:
                try:
                    seen = await look()
                except (Forbidden, NotFound):
                    raise
                except ClusterError:
                    if not seen:
                        raise  # no answer ever: waiting would hide a wrong address
                    await asyncio.sleep(EVERY_SECONDS)
                    continue
                show(seen)
                states = [get_readiness(obj) for obj in owners_in(seen)]
                if None not in states or (stop_at_first and False in states):
                    return seen
                await asyncio.sleep(EVERY_SECONDS)
    except TimeoutError as error:
        waiting = ", ".join(
            f"{reference(obj)} ({summary(obj)[0]})" for obj in owners_in(seen) if get_readiness(obj) is None
        )
        raise CommandError(
            f"--timeout: not Ready after {timeout_seconds:g} s: {waiting or 'no answer'}", TIMED_OUT
        ) from error


def readiness_exit_code(objects: Sequence[Object]) -> int:
    """Return the exit code: 0 if every watched resource is Ready."""
    return 0 if all(get_readiness(obj) for obj in owners_in(objects)) else FAILED


class TransitionLog:
    """Writes a line when the summary of a resource changes, for pipes and logs."""

    def __init__(self, write: Callable[[str], None], now: Callable[[], datetime]) -> None:
        self._write = write
        self._now = now
        self._written: dict[str, tuple[str, str, str]] = {}

    def __call__(self, objects: Sequence[Object]) -> None:
        for obj in owners_in(objects):
            name = f"{obj['metadata'].get('namespace', '')}/{reference(obj)}"
            line = summary(obj, steps_of(obj, objects))
            if self._written.get(name) == line:
                continue
            self._written[name] = line
            phase, progress, wrong = line
            text = "; ".join(part for part in (progress, wrong) if part and part != "-")
            written = f"{self._now():%H:%M:%S} {reference(obj)} {phase}{f': {text}' if text else ''}"
            self._write(one_line(written))


@contextmanager
def live_view(*, single: bool, all_namespaces: bool) -> Iterator[Show]:
    """Yield a function that draws the tables again in place, on a terminal."""
    with pinned() as screen:

        def show(objects: Sequence[Object]) -> None:
            screen.update(coloured(status_tables(objects, single=single, all_namespaces=all_namespaces)), refresh=True)

        yield show


def status_tables(objects: Sequence[Object], *, single: bool, all_namespaces: bool = False) -> list[Table]:
    """Return the tables of `slipway status`: all details of a named resource, or a line for each resource."""
    now = datetime.now(UTC)
    if single:
        return [table for obj in owners_in(objects) for table in details(obj, now, objects)]
    return [overview(objects, now, all_namespaces=all_namespaces)]
