"""What an owner asks for: the work, where its files lie, and the Step that it becomes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.base import Model, digest_of, short
from slipway.api.kinds import GROUP, STEP, Object
from slipway.api.status import TaskRun
from slipway.api.step import NONCE_LENGTH, NONCE_PATTERN, StepSpec
from slipway.api.tasks import CompressTask, PrepareTask
from slipway.plan.owner import REVISION_LABEL, ROLE_LABEL, Owner
from slipway.plan.storemount import StoreMount, identity_of
from slipway.plan.tasks import TaskSpec, job_name

SHARE_LABEL = f"{GROUP}/share"
"""On a Step whose result others may take over: equal for the same work on the same place of files."""
_SHARED = (PrepareTask, CompressTask)
"""Tasks whose result is taken from the store, whoever left it there. What decides is always done by its own owner."""
_BACKUP_LABEL = "velero.io/exclude-from-backup"
"""A Step that is restored without its owner would be nobody's."""
_MARK = 12
"""Digits of the digest in the name of a Step."""


RETRY_ANNOTATION = f"{GROUP}/retry"
"""On an owner: another value runs its failed Steps again, once."""


def retry_of(owner: Object) -> str | None:
    """Return the nonce of the annotation, or its digest if it is none that a Step can hold; None without one."""
    value = (owner["metadata"].get("annotations") or {}).get(RETRY_ANNOTATION)
    if not isinstance(value, str) or not value:
        return None
    fits = re.fullmatch(NONCE_PATTERN, value) and len(value) <= NONCE_LENGTH
    return value if fits else short(digest_of({"retry": value}), NONCE_LENGTH)


@dataclass(frozen=True, slots=True)
class Store:
    """An ArtifactStore by its name, as it is now."""

    name: str
    spec: ArtifactStoreSpec


@dataclass(frozen=True)
class StepRequest:
    """A task that an owner wants done. No slots: its digest is computed once, and asked for several times a round.

    label: what messages call it, as in `spec.compression.steps[0] (prune-structured 1.0)`. held_out: the store of the
    evaluation data, if that is another one. folder: of the store; None for one by the digest. pods_field: path of the
    user's fields that say what the pod asks for.
    """

    role: str
    label: str
    task: Model
    image: str
    store: Store
    held_out: Store | None = None
    folder: str | None = None
    pods_field: str = "spec.evaluation"

    @cached_property
    def spec(self) -> TaskSpec:
        held_out = self.held_out.spec if self.held_out else None
        mount = StoreMount(self.store.spec, held_out=held_out)
        return TaskSpec(self.role, self.task, self.image, mount, job="", folder=self.folder)

    @cached_property
    def digest(self) -> str:
        return self.spec.digest

    @property
    def share(self) -> str | None:
        """Of the work and of the place of its files, keys included: a store of the same name may be another one."""
        if not isinstance(self.task, _SHARED) or self.folder is not None or self.held_out is not None:
            return None
        return short(digest_of({"digest": self.digest, "place": identity_of(self.store.spec)}), 63)


@dataclass(frozen=True, slots=True)
class Demand:
    """runs, retry: as in the spec of the Step. revision: of the owner, which asks for it first; None without one."""

    runs: int = 1
    retry: str | None = None
    revision: str | None = None


def step_name(owner: Owner, request: StepRequest) -> str:
    """Of the Step of that owner for that work. A folder of its own makes it another one."""
    own = {} if request.folder is None else {"folder": request.folder}
    return owner.child_name("s", short(digest_of({"digest": request.digest, **own}) if own else request.digest, _MARK))


def job_prefix(step: Owner) -> str:
    """What the names of the Jobs of a Step begin with: its UID keeps them apart from those of a former namesake."""
    owner = step.controller[1] if step.controller else step.name[:40]
    return f"{owner}-s-{sha256(step.uid.encode()).hexdigest()[:10]}"


def job_of(step: Owner, run: TaskRun | None) -> str:
    """Name of the Job of the try under way, or of the first one."""
    return run.job if run is not None else job_name(job_prefix(step), 1)


def mark_of(name: str) -> str:
    """The last part of the name of a Step, by which its owner knows it."""
    return name.rsplit("-", 1)[1]


def render_step(
    owner: Owner, request: StepRequest, demand: Demand, live: Object | None = None, *, runs: bool = False
) -> Object:
    """The Step that the owner wants.

    live: the one that there is. Its role and its revision stay: another revision may want it under another role. So
    does its task if runs: where the inputs lie by now is the next try's business.
    """
    role = live["spec"]["role"] if live else request.role
    spec = StepSpec(
        role=role,
        task=live["spec"]["task"] if live and runs else request.task.to_wire(),
        digest=request.digest,
        image=request.image,
        store=request.store.name,
        held_out=request.held_out.name if request.held_out else None,
        folder=request.spec.out,
        runs=demand.runs,
        retry=demand.retry,
    )
    labels = {ROLE_LABEL: role, _BACKUP_LABEL: "true"}
    labels |= {SHARE_LABEL: request.share} if request.share else {}
    revision = (live["metadata"].get("labels") or {}).get(REVISION_LABEL) if live else demand.revision
    labels |= {REVISION_LABEL: revision} if revision else {}
    return owner.child(STEP, step_name(owner, request), labels, spec=spec.to_wire())
