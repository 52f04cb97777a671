"""Reports of pods: a small JSON in the termination message, and the same in the store.

A pod may be killed at any line, may run a user's image, and may report anything: readers take what parses and is within
its limits, and treat everything else as absent.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, ValidationError

from slipway.api.artifacts import ArtifactRef
from slipway.api.base import Count, Digest, ExitCode, Metrics, Model, Rank, Rule

MAX_REPORT_BYTES = 2048
"""The kubelet keeps the last 4,096 bytes of a termination message, and less with many containers."""

SATURATION = "saturation"
"""Metric of an evaluation on a processor whose int8 kernels saturate: the difference between the model's scores and
those with exact sums, as a fraction of their size, from 0 to 1. Absent if the kernels are exact."""

PEER_LOST = "PeerLost"
"""Exception of a rank that lost its connection to another one: a consequence, so any other failure is reported
instead."""


def _to_the_millisecond(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Instant = Annotated[datetime, PlainSerializer(_to_the_millisecond, return_type=str, when_used="json")]
"""A time to the millisecond: when one rank fails, the others follow within the same second."""


class Slice(Model):
    """Counts of one part of the data, for instance of one class."""

    name: Annotated[str, Field(max_length=63)]
    """Name of the part, such as the class."""
    n: Count
    """Number of samples in the part."""
    lost: Count
    """Number of samples that only the baseline classifies correctly."""
    gained: Count
    """Number of samples that only the candidate classifies correctly."""


class PairedCounts(Model):
    """Results of two classifiers on the same samples. Their accuracies differ by (gained - lost) / n."""

    n: Count
    """Number of samples that were compared."""
    baseline_right: int = Field(ge=0)
    """Number of samples that the baseline classifies correctly."""
    lost: int = Field(ge=0)
    """Number of samples that only the baseline classifies correctly (b in McNemar's table)."""
    gained: int = Field(ge=0)
    """Number of samples that only the candidate classifies correctly (c in McNemar's table)."""
    slices: tuple[Slice, ...] = Field(default=(), max_length=16)
    """Counts by part of the data, worst first."""

    rules = (
        Rule(
            "self.lost + self.gained <= self.n && self.lost <= self.baselineRight && self.baselineRight <= self.n",
            "counts must satisfy lost + gained <= n and lost <= baselineRight <= n",
            lambda c: c.lost + c.gained <= c.n and c.lost <= c.baseline_right <= c.n,
        ),
    )


class ErrorReport(Model):
    """The error that ended the work of a pod."""

    exception: Annotated[str, Field(max_length=128)]
    """Type of the exception, or the signal's name."""
    message: Annotated[str, Field(max_length=1024)]
    """Message of the exception, cut in the middle if it is long."""
    rank: Rank | None = None
    """Global rank, if torchrun reported it."""
    exit_code: ExitCode | None = None
    """Exit code of the worker."""
    missing: Digest | None = None
    """Digest of the artifact that the pod was given and did not find in the store."""


class Report(Model):
    """The report of one pod on its work."""

    outcome: Literal["succeeded", "failed", "none"]
    """`none` is the answer of a recovery that found no report in the store."""
    at: Instant
    """Time at which the work ended; for a failure, at which it first failed."""
    error: ErrorReport | None = None
    """Set for a failure."""
    artifact: ArtifactRef | None = None
    """Artifact that the pod made."""
    metrics: Metrics | None = None
    """Measurements: accuracy, loss, seconds, ..."""
    counts: PairedCounts | None = None
    """Counts of a comparison."""

    rules = (
        Rule(
            "(self.outcome == 'failed') == has(self.error)",
            "error must be set if outcome is failed, and only then",
            lambda r: (r.outcome == "failed") == (r.error is not None),
        ),
    )


def encode_report(report: Report) -> bytes:
    """Return JSON of at most MAX_REPORT_BYTES: slices are dropped first, then the middle of the message."""
    body = report.to_wire()
    while len(encoded := _dump(body)) > MAX_REPORT_BYTES:
        slices = body.get("counts", {}).get("slices")
        message = body.get("error", {}).get("message", "")
        if slices:
            slices.pop()
        elif len(message) > 64:
            body["error"]["message"] = shorten(message, len(message) * 3 // 4)
        elif body.get("metrics"):
            body["metrics"].popitem()
        else:
            raise ValueError(f"a report of {len(encoded)} bytes cannot be cut to {MAX_REPORT_BYTES}")
    return encoded


def parse_report(message: str | bytes | None) -> Report | None:
    """Return the report in a termination message; None if it is empty or another text."""
    if not message or len(message) > 4 * MAX_REPORT_BYTES:
        return None
    try:
        body = json.loads(message)
        return _validated(body) if isinstance(body, dict) else None
    except (ValueError, RecursionError):  # a ValidationError is a ValueError
        return None


def _validated(body: dict[str, Any]) -> Report:
    """Return the report without optional values that are invalid: a rank of 2**70, an accuracy of NaN, the 17th metric.

    Raises ValueError.
    """
    try:
        return Report.model_validate(body)
    except ValidationError as error:
        for place, found in {found["loc"]: found for found in error.errors(include_url=False)}.items():
            limit = found["ctx"]["max_length"] if found["type"] == "too_long" else None
            match place:
                case ("counts", "slices") if limit is not None:
                    body["counts"]["slices"] = body["counts"]["slices"][:limit]  # the worst come first
                case ("metrics",) if limit is not None:
                    body["metrics"] = dict(list(body["metrics"].items())[:limit])
                case ("error" as part, "rank" | "exitCode" as field) | ("artifact" as part, "sizeBytes" as field):
                    del body[part][field]
                case ("metrics", str(field)):
                    del body["metrics"][field]
                case _:
                    raise
    return Report.model_validate(body)


def shorten(text: str, limit: int) -> str:
    """Shorten the text but keep both ends: the start names the error, the end of a traceback its place."""
    if len(text) <= limit:
        return text
    gap = " ... "
    head = (limit - len(gap)) * 2 // 3
    return text[:head] + gap + text[len(text) - (limit - len(gap) - head) :]


def _dump(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
