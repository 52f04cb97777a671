"""The status of a ModelDeployment: the progress of its revision, phase, conditions, figures, and Events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Self

from slipway.api.modeldeployment import ModelDeploymentStatus, Sizes
from slipway.plan.conditions import (
    ConditionValue,
    blocked,
    inactive,
    ready,
    refused,
    stalled,
    under_way,
    with_conditions,
)
from slipway.plan.deployment.manifests import pod_selector, service_url
from slipway.plan.deployment.revision import find
from slipway.plan.owner import Owner
from slipway.plan.plan import EventRecord, Refusal
from slipway.plan.references import condition

Stage = Literal["Pending", "Compressing", "Evaluating", "RollingOut", "Ready"]


@dataclass(frozen=True, slots=True)
class RevisionProgress:
    """The progress of a revision. stalled: it waits for an action of the user, as in `reason` and `message`."""

    stage: Stage
    reason: str
    message: str
    stalled: bool = False

    @classmethod
    def waiting(cls, reason: str, message: str) -> Self:
        """Return the progress of a revision that waits for another object."""
        return cls("Pending", reason, message)

    @classmethod
    def blocked(cls, reason: str, message: str) -> Self:
        return cls("Pending", reason, message, stalled=True)


_EXTERNAL_REASONS = ("ModelNotReady", "StoreNotFound", "StoreNotReady", "PluginNotFound")
"""Reasons of waiting for another object, which do not depend on refused children."""


def derive_status(
    owner: Owner,
    status: ModelDeploymentStatus,
    progress: RevisionProgress,
    ready_replicas: int,
    refusals: Sequence[Refusal],
    now: datetime,
    below: ConditionValue | None = None,
) -> ModelDeploymentStatus:
    """Return the status with all derived fields: from its revisions, the progress of the candidate, and refused writes.

    below: the refused writes of children of Steps.
    """
    candidate, serving = find(status.revisions, status.candidate), find(status.revisions, status.serving)
    sizes = Sizes(
        float_bytes=candidate.baseline.size_bytes if candidate and candidate.baseline else None,
        compressed_bytes=candidate.model.size_bytes if candidate and candidate.model else None,
    )
    here = {**_verdicts(progress), "Available": _available(status.serving, ready_replicas)}
    values = blocked(here, refused(refusals, status.conditions, now, below), unless=_EXTERNAL_REASONS)
    update = {
        "observed_generation": owner.generation,
        "phase": _phase(progress, status.serving),
        "conditions": with_conditions(status.conditions, values, owner.generation, now),
        "sizes": None if sizes == Sizes() else sizes,
        "accuracy": f"{serving.gate.accuracy_candidate:.4f}" if serving and serving.gate else None,
        "ready_replicas": ready_replicas,
        "selector": pod_selector(owner, serving.name) if serving else None,
        "url": service_url(owner) if serving else None,
    }
    return status.model_copy(update=update)


def _phase(progress: RevisionProgress, serving: str | None) -> str:
    if progress.stalled:
        return "Degraded" if serving else "Failed"
    return progress.stage


def _verdicts(progress: RevisionProgress) -> dict[str, ConditionValue]:
    if progress.stalled:
        return stalled(progress.reason, progress.message)
    if progress.stage == "Ready":
        return ready(progress.reason, progress.message)
    if progress.reason == "ScaledToZero":
        return inactive(progress.reason, progress.message)
    return under_way(progress.reason, progress.message)


def _available(serving: str | None, ready_replicas: int) -> ConditionValue:
    if serving is None:
        return ConditionValue(False, "NothingServes", "no revision has the traffic")
    if ready_replicas == 0:
        return ConditionValue(
            False, "NoReplicaReady", f"revision {serving} has the traffic and no replica that is ready"
        )
    return ConditionValue(True, "RevisionServes", f"revision {serving}")


def event_records(before: ModelDeploymentStatus, after: ModelDeploymentStatus) -> Iterator[EventRecord]:
    """Yield an Event for each transition from one status to the next."""
    stalled_before, stalled_after = (condition(status.conditions, "Stalled") for status in (before, after))
    if (
        stalled_after
        and stalled_after.status == "True"
        and not (stalled_before and stalled_before.status == "True" and stalled_before.reason == stalled_after.reason)
    ):
        yield EventRecord("Warning", stalled_after.reason, stalled_after.message)
    new = find(after.revisions, after.candidate)
    if new and new.gate and new.gate.passed:
        old = find(before.revisions, new.name)
        if old is None or old.gate is None or not old.gate.passed:
            figures = f"{new.gate.accuracy_candidate:.4f} against {new.gate.accuracy_baseline:.4f}"
            bound = f"a drop of at most {new.gate.drop_bound:.4f} (maxDrop {new.gate.max_drop:g})"
            yield EventRecord("Normal", "GatePassed", f"revision {new.name}: accuracy {figures}, {bound}")
    if after.serving and after.serving != before.serving:
        instead = f" instead of {before.serving}" if before.serving else ""
        yield EventRecord("Normal", "TookOver", f"revision {after.serving} serves{instead}")
