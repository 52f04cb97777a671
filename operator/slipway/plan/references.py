"""Objects that a spec names. GitOps applies them in any order, so a planner waits for a missing one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from slipway.api.artifactstore import ArtifactStore, ArtifactStoreSpec
from slipway.api.errors import SpecError
from slipway.api.kinds import ARTIFACT_STORE, GPU_POOL
from slipway.api.scheduling import GPUPool, GPUPoolSpec
from slipway.api.status import Condition
from slipway.plan.observation import ClusterView
from slipway.plan.parse import parse_referenced
from slipway.plan.pods import Placement

RESYNC_INTERVAL = timedelta(seconds=60)
"""Time after which a planner checks again for changes of other objects that no event may report to this resource."""


class NotYet(Exception):
    """An object that the spec names does not exist yet, or is not ready: Pending, Reconciling=True."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class TerminalError(Exception):
    """The spec is valid, but a job or a step failed for good. Each round derives it again."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class StoreUse:
    """The use of an ArtifactStore by a spec. field: the field that names it; held_out: only for evaluation data."""

    field: str = "spec.store"
    held_out: bool = False


FOR_ALL = StoreUse()
FOR_EVALUATION = StoreUse("spec.evaluation.store", held_out=True)


def ready_store(view: ClusterView, namespace: str, name: str, use: StoreUse = FOR_ALL) -> ArtifactStoreSpec:
    """Return a store that is ready for new work.

    Raises NotYet (StoreNotFound, StoreNotReady), SpecError (StoreInvalid, StoreFailed) for one that the user must fix,
    and SpecError (StoreMisused) for one with another use.
    """
    field = use.field
    store = _find_store(view, namespace, name, field)
    verdict = condition(store.status.conditions, "Ready")
    stalled = condition(store.status.conditions, "Stalled")
    _refuse_other_use(store.spec, name, use)
    if stalled is not None and stalled.status == "True":
        problem = f'ArtifactStore "{name}" cannot be used: {stalled.message}'
        raise SpecError(field, problem, "fix it, or name another store", reason="StoreFailed")
    if verdict is None or verdict.status != "True":
        why = f": {verdict.message}" if verdict and verdict.message else ""
        raise NotYet("StoreNotReady", f'{field}: ArtifactStore "{name}" is not ready{why}')
    return store.spec


def known_store(view: ClusterView, namespace: str, name: str, use: StoreUse = FOR_ALL) -> ArtifactStoreSpec:
    """Return the store of work in progress, which need not be ready.

    Raises NotYet (StoreNotFound) and SpecError (StoreInvalid, StoreMisused).
    """
    store = _find_store(view, namespace, name, use.field).spec
    _refuse_other_use(store, name, use)
    return store


def _find_store(view: ClusterView, namespace: str, name: str, field: str) -> ArtifactStore:
    obj = view.get(ARTIFACT_STORE, namespace, name)
    if obj is None:
        raise NotYet("StoreNotFound", f'{field}: there is no ArtifactStore "{name}" in this namespace; create it')
    return parse_referenced(ArtifactStore, obj, field, "StoreInvalid")


def _refuse_other_use(store: ArtifactStoreSpec, name: str, use: StoreUse) -> None:
    if store.held_out and not use.held_out:
        problem, cure = "is only for evaluation data (spec.heldOut: true)", "name a store without spec.heldOut"
    elif use.held_out and not store.held_out:
        problem, cure = "is open to all pods", "name a store with spec.heldOut: true, or leave the field out"
    else:
        return
    raise SpecError(use.field, f'ArtifactStore "{name}" {problem}', cure, reason="StoreMisused")


def known_pool(view: ClusterView, name: str, field: str = "spec.pools") -> GPUPoolSpec:
    """Return the pool that a field of a spec names. Raises NotYet (PoolNotFound) and SpecError (PoolInvalid)."""
    obj = view.get(GPU_POOL, "", name)
    if obj is None:
        raise NotYet("PoolNotFound", f'{field}: there is no GPUPool "{name}"; create it')
    return parse_referenced(GPUPool, obj, field, "PoolInvalid").spec


def placement_of(pool: GPUPoolSpec) -> Placement:
    """Return the node selector, the tolerations and the devices of the pods of a pool."""
    devices = {pool.resource.name: pool.resource.per_pod} if pool.resource else {}
    return Placement(pool.node_selector, pool.tolerations, devices)


def condition(conditions: tuple[Condition, ...], kind: str) -> Condition | None:
    return next((found for found in conditions if found.type == kind), None)
