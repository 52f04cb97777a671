"""ModelDeployment -> what should exist, and what the status says."""

from __future__ import annotations

from datetime import datetime

from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.errors import SpecError
from slipway.api.kinds import SERVICE, Object
from slipway.api.modeldeployment import ModelDeployment, ModelDeploymentSpec, ModelDeploymentStatus, Revision
from slipway.plan.deployment.ledger import Ledger, pruned
from slipway.plan.deployment.pipeline import Pipeline, settled
from slipway.plan.deployment.revision import new_revision, relocated, replaced, revision_digest
from slipway.plan.deployment.rollout import Fleet, Traffic
from slipway.plan.deployment.source import Source, find_source, step_data
from slipway.plan.deployment.standing import Standing, Stuck
from slipway.plan.deployment.status import happenings, told
from slipway.plan.deployment.steps import plugins_in
from slipway.plan.parent import NAME_CONFLICT, Parent
from slipway.plan.parse import parsed
from slipway.plan.plan import Plan, Settings
from slipway.plan.references import LOOK_AGAIN_AFTER, NotYet, known_store, ready_store
from slipway.plan.seen import Seen


def plan_deployment(obj: Object, seen: Seen, settings: Settings, now: datetime) -> Plan:
    """Choose the next writes for one ModelDeployment."""
    parent = Parent.of(obj)
    if parent.deleting:
        return Plan()
    before = ModelDeploymentStatus.model_validate(obj.get("status") or {})
    try:
        spec = parsed(ModelDeployment, obj).spec
    except SpecError as error:
        return _answer(parent, before, before, _standing_of(error), before.ready_replicas, now)
    ledger = Ledger(parent, before.tasks, seen, settings, now)
    service_is_ours = True
    try:
        parent.own(seen, SERVICE, parent.name)
        status, standing = _wanted(parent, spec, before, ledger, seen, settings, now)
    except SpecError as error:  # nothing is begun that could not be served
        status, standing, service_is_ours = before, _standing_of(error), False
    fleet = Fleet(parent, spec, _store(parent, spec, seen), seen, settings, now)
    traffic = Traffic(status.revisions, status.candidate, status.serving)
    rollout = fleet.roll_out(traffic, cleared=standing is None, service_is_ours=service_is_ours)
    records, ending = pruned(parent, ledger.records, rollout.traffic.revisions, status.candidate, seen)
    status = status.model_copy(
        update={"tasks": records, "revisions": rollout.traffic.revisions, "serving": rollout.traffic.serving}
    )
    plan = ledger.plan.plus(rollout.plan).plus(ending)
    reached = standing or rollout.standing or Standing("RollingOut", "RollingOut", "")
    if (reached.stage == "Pending" and not reached.stalled) or reached.reason == NAME_CONFLICT:
        plan = plan.plus(Plan(wake_at=now + LOOK_AGAIN_AFTER))
    return plan.plus(_answer(parent, before, status, reached, rollout.ready_replicas, now))


def _wanted(
    parent: Parent,
    spec: ModelDeploymentSpec,
    status: ModelDeploymentStatus,
    ledger: Ledger,
    seen: Seen,
    settings: Settings,
    now: datetime,
) -> tuple[ModelDeploymentStatus, Standing | None]:
    """The status with the revision that the spec wants, as far as it is made; None where it may serve.

    While it cannot be told which one that is, the last one wanted keeps its place, and is not cleared.
    """
    try:
        source = find_source(parent, spec, status, seen)
    except (SpecError, NotYet, Stuck) as error:
        return status, _standing_of(error)
    digest = revision_digest(spec, source.model.digest)
    revision = next((r for r in status.revisions if r.digest == digest), None) or new_revision(parent, digest, now)
    revision = relocated(revision, source.model)
    standing: Standing | None
    try:
        revision, standing = _made(parent, spec, source, revision, ledger, seen, settings)
    except (SpecError, NotYet, Stuck) as error:
        standing = _standing_of(error)
    known = {"model": source.model, "model_from": source.named, "train_data": source.train}
    wanted = {"revisions": replaced(status.revisions, revision), "candidate": revision.name}
    return status.model_copy(update={**known, **wanted}), standing


def _made(
    parent: Parent,
    spec: ModelDeploymentSpec,
    source: Source,
    revision: Revision,
    ledger: Ledger,
    seen: Seen,
    settings: Settings,
) -> tuple[Revision, Standing | None]:
    step_data(spec, source)  # refuses data that was seen, also where nothing is to be made
    if (answer := settled(revision, spec.evaluation)) is not None:
        return answer
    store_of = known_store if revision.tasks else ready_store
    store = store_of(seen, parent.namespace, spec.store)
    pipeline = Pipeline(parent.name, spec, source, store, settings, ledger)
    return pipeline.prove(revision) if revision.repository else pipeline.make(revision, plugins_in(seen))


def _store(parent: Parent, spec: ModelDeploymentSpec, seen: Seen) -> ArtifactStoreSpec | None:
    try:
        return known_store(seen, parent.namespace, spec.store)
    except (NotYet, SpecError):
        return None


def _standing_of(error: SpecError | NotYet | Stuck) -> Standing:
    if isinstance(error, NotYet):
        return Standing.waiting(error.reason, error.message)
    return Standing.stuck(error.reason, error.message if isinstance(error, Stuck) else str(error))


def _answer(
    parent: Parent,
    before: ModelDeploymentStatus,
    status: ModelDeploymentStatus,
    standing: Standing,
    ready_replicas: int,
    now: datetime,
) -> Plan:
    after = told(parent, status, standing, ready_replicas, now)
    return Plan(status=after.to_wire(), events=tuple(happenings(before, after)))
