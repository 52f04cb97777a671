"""Revisions: their digests, and the retention of retired ones."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic.alias_generators import to_camel

from slipway.api.artifacts import ArtifactRef
from slipway.api.base import Model, digest_of, short
from slipway.api.modeldeployment import ModelDeploymentSpec, Revision
from slipway.api.podtemplate import StepPods
from slipway.plan.owner import Owner

PROJECTION = 1
"""Version of the digest's fields; a change makes a new revision of every deployment."""
DRAIN_DELAY = timedelta(seconds=15)
"""Delay between the change of the Service and the scaling down: endpoints reach every Node, and keep-alives end."""
MAX_RETIRED = 2
"""Number of retired revisions to retain, with no replicas, for a rollback."""


def revision_digest(spec: ModelDeploymentSpec, model_digest: str) -> str:
    """Return the digest of the model and of the fields of the spec that change the serving pods.

    It excludes default values, so a field of a later version changes no digest; replicas, which are applied live; the
    resources of the steps' pods, which change no result; and the evaluation, which does not change the model. Without
    steps it includes only the conversion of the compression.
    """
    made: dict[str, object] = {"version": PROJECTION, "model": model_digest}
    if spec.compression.steps:
        made["compression"] = _set_fields(spec.compression, without=StepPods.model_fields)
    elif spec.compression.conversion is not None:
        made["compression"] = {"conversion": spec.compression.conversion}
    made["serving"] = _set_fields(spec.serving, without=("replicas",))
    made["store"] = spec.store  # its claim is mounted in the pods
    return digest_of(made)


def _set_fields(model: Model, *, without: Iterable[str]) -> dict[str, object]:
    """Return the fields of a model by content, without the named ones and those with default values."""
    left_out = {to_camel(name) for name in without}
    wire = model.to_content(exclude_defaults=True)
    return {name: value for name, value in wire.items() if name not in left_out}


def new_revision(owner: Owner, digest: str, now: datetime) -> Revision:
    return Revision(name=owner.child_name(short(digest)), digest=digest, created_at=now.replace(microsecond=0))


def relocated(revision: Revision, model: ArtifactRef) -> Revision:
    """Return the revision with the present URI of its source model: the digest names it, not the location."""
    moved = {
        role: ref.model_copy(update={"uri": model.uri})
        for role, ref in (("baseline", revision.baseline), ("model", revision.model))
        if ref is not None and ref.digest == model.digest
    }
    return revision.model_copy(update=moved)


def find(revisions: Iterable[Revision], name: str | None) -> Revision | None:
    return next((revision for revision in revisions if revision.name == name), None)


def replaced(revisions: Iterable[Revision], new: Revision) -> tuple[Revision, ...]:
    """Return the revisions with the one of that name replaced, or the new one at the end."""
    present = tuple(revisions)
    if find(present, new.name) is None:
        return (*present, new)
    return tuple(new if revision.name == new.name else revision for revision in present)


def drains(revision: Revision, serving: str | None, now: datetime) -> bool:
    """Return True if requests may still reach a revision that has served."""
    if revision.serving_since is None or revision.name == serving:
        return False
    return revision.retired_at is None or now < revision.retired_at + DRAIN_DELAY


def retained_revisions(
    revisions: Iterable[Revision], candidate: str | None, serving: str | None, now: datetime
) -> frozenset[str]:
    """Return the names of the revisions to retain: candidate, serving, draining, and the newest retired ones."""
    present = tuple(revisions)
    others = [r for r in present if r.name not in (candidate, serving)]
    draining = {r.name for r in others if drains(r, serving, now)}
    retired = sorted((r.retired_at, r.name) for r in others if r.retired_at and r.name not in draining)
    names = {candidate, serving, *draining, *(name for _, name in retired[-MAX_RETIRED:])}
    return frozenset(r.name for r in present if r.name in names)
