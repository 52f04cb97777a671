"""Requests of owners: the work, the location of its files, and the rendered Step."""

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
"""Label of a Step whose result other Steps may use: equal for the same work on the same location of files."""
_SHARED = (PrepareTask, CompressTask)
"""Tasks whose result other owners may use. A task that decides something runs for each owner."""
_BACKUP_LABEL = "velero.io/exclude-from-backup"
"""Label that excludes Steps from backups: a Step that is restored without its owner would have none."""
_MARK = 12
"""Number of digits of the digest in the name of a Step."""


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
    """An ArtifactStore with its present spec."""

    name: str
    spec: ArtifactStoreSpec


@dataclass(frozen=True)
class StepRequest:
    """A task that an owner requests. No slots: the digest is cached, since a round needs it several times.

    label: its name in messages, as in `spec.compression.steps[0] (prune-structured 1.0)`. held_out: the store of the
    evaluation data, if that is another one. folder: its folder in the store; None for one named by the digest.
    pods_field: path of the spec's fields for the resources of the pod.
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
        """The digest of the work and of the location of its files, with the keys; None if the result is not shared."""
        if not isinstance(self.task, _SHARED) or self.folder is not None or self.held_out is not None:
            return None
        return short(digest_of({"digest": self.digest, "place": identity_of(self.store.spec)}), 63)


@dataclass(frozen=True, slots=True)
class Demand:
    """The demand for a Step. runs, retry: for its spec. revision: the revision that requests it first."""

    runs: int = 1
    retry: str | None = None
    revision: str | None = None


def step_name(owner: Owner, request: StepRequest) -> str:
    """Return the name of the Step of that owner for that work; a request with its own folder has another name."""
    own = {} if request.folder is None else {"folder": request.folder}
    return owner.child_name("s", short(digest_of({"digest": request.digest, **own}) if own else request.digest, _MARK))


def job_prefix(step: Owner) -> str:
    """Return the prefix of the names of a Step's Jobs; a hash of the UID distinguishes it from an earlier Step."""
    owner = step.controller[1] if step.controller else step.name[:40]
    return f"{owner}-s-{sha256(step.uid.encode()).hexdigest()[:10]}"


def job_of(step: Owner, run: TaskRun | None) -> str:
    """Return the name of the Job of the present try, or of the first one."""
    return run.job if run is not None else job_name(job_prefix(step), 1)


def mark_of(name: str) -> str:
    """Return the last part of the name of a Step, by which its owner identifies it."""
    return name.rsplit("-", 1)[1]


def render_step(
    owner: Owner, request: StepRequest, demand: Demand, live: Object | None = None, *, runs: bool = False
) -> Object:
    """Return the Step for a request.

    live: the present one, which keeps its role and its revision: another revision may request it with another role. If
    runs, it keeps its task too: the next try uses the present location of the inputs.
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
