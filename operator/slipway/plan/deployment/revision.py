"""Revisions: what names them, and which are kept."""

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
"""Version of what the digest covers; another one would make a new revision of every deployment."""
DRAIN_DELAY = timedelta(seconds=15)
"""From the Service's change to the scaling down: endpoints reach every node within it, and keep-alives are used up."""
KEPT_RETIRED = 2
"""Retired revisions that are kept, at no replicas, to go back to."""


def revision_digest(spec: ModelDeploymentSpec, model_digest: str) -> str:
    """Of the model and of the user's fields that make what serves it.

    Defaults are left out, so a field that a later version adds changes no digest. Replicas are left out: they are
    applied live. So is what the steps' pods ask for, which decides no result, and the evaluation: it proves a revision
    and makes none. Without steps nothing of the compression matters but the conversion.
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
    """The model's fields by content, without those named and those that are at their defaults."""
    left_out = {to_camel(name) for name in without}
    wire = model.to_content(exclude_defaults=True)
    return {name: value for name, value in wire.items() if name not in left_out}


def new_revision(owner: Owner, digest: str, now: datetime) -> Revision:
    return Revision(name=owner.child_name(short(digest)), digest=digest, created_at=now.replace(microsecond=0))


def relocated(revision: Revision, model: ArtifactRef) -> Revision:
    """The revision with the model that it is of read from where it lies now: what names it is content, not a place."""
    moved = {
        role: ref.model_copy(update={"uri": model.uri})
        for role, ref in (("baseline", revision.baseline), ("model", revision.model))
        if ref is not None and ref.digest == model.digest
    }
    return revision.model_copy(update=moved)


def find(revisions: Iterable[Revision], name: str | None) -> Revision | None:
    return next((revision for revision in revisions if revision.name == name), None)


def replaced(revisions: Iterable[Revision], new: Revision) -> tuple[Revision, ...]:
    """The revisions with the one of that name replaced, or the new one at the end."""
    present = tuple(revisions)
    if find(present, new.name) is None:
        return (*present, new)
    return tuple(new if revision.name == new.name else revision for revision in present)


def drains(revision: Revision, serving: str | None, now: datetime) -> bool:
    """Whether requests may still reach it: it has served, and its end is not yet known to all."""
    if revision.serving_since is None or revision.name == serving:
        return False
    return revision.retired_at is None or now < revision.retired_at + DRAIN_DELAY


def kept(revisions: Iterable[Revision], candidate: str | None, serving: str | None, now: datetime) -> frozenset[str]:
    """Names of the revisions that stay: wanted, serving, draining, and the newest retired ones."""
    present = tuple(revisions)
    others = [r for r in present if r.name not in (candidate, serving)]
    draining = {r.name for r in others if drains(r, serving, now)}
    retired = sorted((r.retired_at, r.name) for r in others if r.retired_at and r.name not in draining)
    names = {candidate, serving, *draining, *(name for _, name in retired[-KEPT_RETIRED:])}
    return frozenset(r.name for r in present if r.name in names)
