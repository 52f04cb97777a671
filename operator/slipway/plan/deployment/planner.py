"""The planner of ModelDeployments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from pydantic import ValidationError

from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.errors import SpecError
from slipway.api.kinds import DEPLOYMENT, POD, SERVICE, STEP, Object
from slipway.api.modeldeployment import (
    MAX_REPLICAS,
    MAX_REVISIONS,
    ModelDeployment,
    ModelDeploymentSpec,
    ModelDeploymentStatus,
    Revision,
    Serving,
)
from slipway.api.reading import EPOCH, NO_DIGEST, read_status
from slipway.plan.deployment.compression import plugins_in
from slipway.plan.deployment.graph import Inputs
from slipway.plan.deployment.pipeline import Pipeline, decide_without_steps
from slipway.plan.deployment.revision import find, new_revision, relocated, replaced, revision_digest
from slipway.plan.deployment.rollout import Fleet, Traffic
from slipway.plan.deployment.source import Source, find_source, step_data
from slipway.plan.deployment.status import RevisionProgress, derive_status, event_records
from slipway.plan.deployment.unready import missed_at
from slipway.plan.observation import ClusterView, Observation
from slipway.plan.owner import NAME_CONFLICT, REVISION_LABEL, Owner
from slipway.plan.parse import merged_status, parse
from slipway.plan.plan import Plan
from slipway.plan.references import (
    FOR_EVALUATION,
    RESYNC_INTERVAL,
    NotYet,
    TerminalError,
    known_store,
    ready_store,
)
from slipway.plan.steps.request import Store, retry_of
from slipway.plan.steps.tracking import StepSet, all_steps, obsolete_steps, run_of


def plan_deployment(obj: Object, observation: Observation) -> Plan:
    """Choose the next writes for one ModelDeployment.

    The serving revision depends only on the status and the children; the spec, its source and its steps decide the next
    revision.
    """
    owner = Owner.of(obj)
    if owner.deleting:
        return Plan()
    view, now, refusals = observation.view, observation.now, observation.refusals
    before = _with_serving_revision(read_status(ModelDeploymentStatus, obj.get("status") or {}))
    steps = StepSet(owner, view, now, retry=retry_of(obj))
    status, progress, defect, fleet = before, None, None, _fleet(owner, obj, before, observation)
    try:
        spec = parse(ModelDeployment, {"spec": obj.get("spec")}).spec
        if before.serving is None and not view.owned(STEP, owner.namespace, owner.uid):
            # No step starts for a model that could not be served; steps in progress continue.
            owner.refuse_foreign(view, SERVICE, owner.name)
        status, progress = _candidate(owner, spec, before, steps, observation)
    except SpecError as error:
        progress = _progress_of(error)
    except Exception as error:  # noqa: BLE001 - no error may affect the serving revision
        defect = error
        message = f"planning this ModelDeployment failed, which is a defect of Slipway: {type(error).__name__}: {error}"
        progress = RevisionProgress.blocked("InternalError", f"{message}; report it with the operator's log")
    traffic = Traffic(status.revisions, status.candidate, status.serving)
    rollout = fleet.roll_out(traffic, cleared=progress is None)
    retained = rollout.traffic.revisions
    marks = (*steps.marks, *(mark for revision in retained for mark in revision.steps))
    ending = obsolete_steps(owner, view, marks) if steps.complete and not steps.remaking else ()
    status = status.model_copy(update={"revisions": retained, "serving": rollout.traffic.serving})
    # The first round records the candidate and creates the Service, whose name may be taken.
    step_plan = steps.plan if before.candidate is not None else Plan()
    plan = step_plan.plus(rollout.plan).plus(Plan(delete=ending).as_own_part()).plus(Plan(defect=defect))
    reached = progress or rollout.progress or RevisionProgress("RollingOut", "RollingOut", "")
    if (conflicts := [*steps.conflicts, *rollout.conflicts]) and not reached.stalled:
        reached = replace(reached, reason=NAME_CONFLICT, message=_join_conflicts(conflicts), stalled=True)
    if conflicts or (reached.stage == "Pending" and not reached.stalled) or reached.reason == NAME_CONFLICT:
        plan = plan.plus(Plan(wake_at=now + RESYNC_INTERVAL))
    after = derive_status(owner, status, reached, rollout.ready_replicas, refusals, now, steps.refused)
    events = tuple(event_records(before, after))
    return plan.plus(Plan(status=merged_status(obj, before, after, refusals), events=events))


def _fleet(owner: Owner, obj: Object, status: ModelDeploymentStatus, observation: Observation) -> Fleet:
    """Return the serving side, from the fields of the spec that it needs: the others may be unreadable.

    If spec.serving is unreadable, the number of replicas is that of the live Deployment, and no pod is rendered.
    """
    spec, view = obj.get("spec"), observation.view
    spec = spec if isinstance(spec, dict) else {}
    store_name = spec.get("store", "default")
    store = _store(owner, store_name, view) if isinstance(store_name, str) else None
    try:
        serving = Serving.model_validate(spec.get("serving") or {})
    except ValidationError:
        live = view.get(DEPLOYMENT, owner.namespace, status.serving or "") or {}
        known = live.get("spec", {}).get("replicas", 1)
        serving, store = Serving(replicas=min(int(known or 0), MAX_REPLICAS)), None
    unread = _unreadable_revisions(owner, obj.get("status") or {}, status, view)
    packed_at = _packed_at(find(status.revisions, status.candidate or ""), owner, view)
    settings, now = observation.settings, observation.now
    return Fleet(owner, serving, str(store_name), store, view, settings, now, unread, packed_at)


def _unreadable_revisions(
    owner: Owner, written: Object, status: ModelDeploymentStatus, view: ClusterView
) -> frozenset[str]:
    """Return the names of the revisions in the status that this version cannot read; all if the list is unreadable."""
    recorded = written.get("revisions", [])
    if not isinstance(recorded, list):
        return frozenset(live["metadata"]["name"] for live in view.owned(DEPLOYMENT, owner.namespace, owner.uid))
    names = {one.get("name") for one in recorded if isinstance(one, dict)}
    read = {revision.name for revision in status.revisions}
    return frozenset(name for name in names if isinstance(name, str) and name not in read)


def _with_serving_revision(status: ModelDeploymentStatus) -> ModelDeploymentStatus:
    """Return the status with a record of the serving revision, which this version may have been unable to read."""
    if status.serving is None or find(status.revisions, status.serving) is not None:
        return status
    moment = datetime.fromisoformat(EPOCH)
    known = Revision(name=status.serving, digest=NO_DIGEST, created_at=moment, serving_since=moment)
    return status.model_copy(update={"revisions": (known, *status.revisions)[:MAX_REVISIONS]})


def _join_conflicts(conflicts: Sequence[SpecError]) -> str:
    """Return the messages of the first conflicts; the others follow when these are resolved."""
    messages = list(dict.fromkeys(str(conflict) for conflict in conflicts))
    return "; ".join(messages[:3]) + (f"; and {len(messages) - 3} more" if len(messages) > 3 else "")


def _candidate(
    owner: Owner,
    spec: ModelDeploymentSpec,
    status: ModelDeploymentStatus,
    steps: StepSet,
    observation: Observation,
) -> tuple[ModelDeploymentStatus, RevisionProgress | None]:
    """Return the status with the revision of the present spec, and its progress; None for one that may serve.

    If the revision cannot be determined, the last candidate stays and may not start to serve.
    """
    try:
        source = find_source(owner, spec, status, observation.view)
    except (SpecError, NotYet, TerminalError) as error:
        return status, _progress_of(error)
    digest = revision_digest(spec, source.model.digest)
    revision = next((r for r in status.revisions if r.digest == digest), None) or new_revision(
        owner, digest, observation.now
    )
    revision = relocated(revision, source.model)
    steps.revision = revision.name
    progress: RevisionProgress | None
    try:
        revision, progress = _advance_revision(owner, spec, source, revision, steps, observation)
        steps.complete = True
    except (SpecError, NotYet, TerminalError) as error:
        progress = _progress_of(error)
    known = {"model": source.model, "model_from": source.named, "train_data": source.train}
    updated = {"revisions": replaced(status.revisions, revision), "candidate": revision.name}
    return status.model_copy(update={**known, **updated}), progress


def _advance_revision(
    owner: Owner,
    spec: ModelDeploymentSpec,
    source: Source,
    revision: Revision,
    steps: StepSet,
    observation: Observation,
) -> tuple[Revision, RevisionProgress | None]:
    view = observation.view
    step_data(spec, source)  # refuses overlapping data, also if no step has to run
    lost_at = _lost_at(revision, owner, view)
    if lost_at is None and (answer := decide_without_steps(revision, spec.evaluation)) is not None:
        return answer
    store_of = known_store if view.owned(STEP, owner.namespace, owner.uid) else ready_store
    store = Store(spec.store, store_of(view, owner.namespace, spec.store))
    name = spec.evaluation.store if spec.evaluation else None
    # The spec may name another store than before, so steps in progress do not show that this one was ever ready.
    held_out = Store(name, ready_store(view, owner.namespace, name, FOR_EVALUATION)) if name else None
    pipeline = Pipeline(Inputs(owner.name, spec, source, store, observation.settings, held_out), steps)
    if revision.repository is None:
        return pipeline.make(revision, plugins_in(view))
    if lost_at is None:
        return pipeline.evaluate_again(revision)
    return pipeline.package_again(revision, revision.repository, lost_at, plugins_in(view))


def _lost_at(revision: Revision, owner: Owner, view: ClusterView) -> datetime | None:
    """Return when a pod last did not find the repository, unless it was packaged again since; None if it exists."""
    if revision.repository is None:
        return None
    at = missed_at(view.select(POD, owner.namespace, {REVISION_LABEL: revision.name}), revision.repository.digest)
    packed_at = _packed_at(revision, owner, view)
    return None if at is None or (packed_at is not None and at <= packed_at) else at


def _packed_at(revision: Revision | None, owner: Owner, view: ClusterView) -> datetime | None:
    """Return when the revision's repository was packaged; None if no Step has recorded it."""
    if revision is None or revision.repository is None:
        return None
    runs = (run for step in all_steps(owner, view) if (run := run_of(step)) is not None)
    made = (run.ended_at for run in runs if run.artifact and run.artifact.digest == revision.repository.digest)
    return max((at for at in made if at is not None), default=None)


def _store(owner: Owner, name: str, view: ClusterView) -> ArtifactStoreSpec | None:
    try:
        return known_store(view, owner.namespace, name)
    except (NotYet, SpecError):
        return None


def _progress_of(error: SpecError | NotYet | TerminalError) -> RevisionProgress:
    if isinstance(error, NotYet):
        return RevisionProgress.waiting(error.reason, error.message)
    return RevisionProgress.blocked(error.reason, error.message if isinstance(error, TerminalError) else str(error))
