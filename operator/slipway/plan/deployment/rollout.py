"""The rollout: replicas of revisions, traffic, and deletion of old revisions.

The order loses no request: all pods of the new revision are ready, then the status names it, then the stable Service
selects it, then (DRAIN_DELAY later) the old revision is scaled down. A rollback scales a revision up from its
ControllerRevision, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.errors import SpecError
from slipway.api.kinds import CONTROLLER_REVISION, DEPLOYMENT, POD, SERVICE, Kind, Object, kind_of
from slipway.api.modeldeployment import MAX_REVISIONS, Revision, Serving
from slipway.plan.deployment import manifests
from slipway.plan.deployment.revision import DRAIN_DELAY, drains, find, retained_revisions
from slipway.plan.deployment.status import RevisionProgress
from slipway.plan.deployment.unready import creation_failure, unready_reason
from slipway.plan.observation import ClusterView, controller_uid
from slipway.plan.owner import REVISION_LABEL, Owner, deletion
from slipway.plan.plan import Plan, Settings, earliest
from slipway.plan.storemount import StoreMount, secret_of

MAX_DRAINING = 4
"""Number of draining revisions that fit into the status, besides the candidate, serving and retired ones."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """The revisions and the traffic of the status. candidate: the revision of the present spec."""

    revisions: tuple[Revision, ...]
    candidate: str | None
    serving: str | None


@dataclass(frozen=True, slots=True)
class Rollout:
    """The result of one round: the traffic to record, the writes, and the progress of the candidate.

    conflicts: objects of other owners with names of children. Everything that does not need these names continues.
    """

    traffic: Traffic
    plan: Plan
    progress: RevisionProgress | None
    ready_replicas: int
    conflicts: tuple[SpecError, ...] = ()


@dataclass(frozen=True, slots=True)
class Fleet:
    """The serving side of one deployment.

    It needs only the status, the children and these fields of the spec, so that the serving revision does not depend on
    the rest of the spec, its source or its steps. store: None if it is not known; then no pod can be rendered.
    unread: names of revisions in the status that this version cannot read; their children are not changed.
    packed_at: when the candidate's repository was packaged, if that is known.
    """

    owner: Owner
    serving: Serving
    store_name: str
    store: ArtifactStoreSpec | None
    view: ClusterView
    settings: Settings
    now: datetime
    unread: frozenset[str] = frozenset()
    packed_at: datetime | None = None

    def roll_out(self, traffic: Traffic, cleared: bool) -> Rollout:
        """Maintain the serving revision, start a cleared candidate, switch the traffic, scale drained revisions down.

        cleared: True if the candidate is packaged and has passed its gate.
        """
        service, conflicts = self._applied(manifests.service(self.owner, traffic.serving))
        plan = service
        after = self._handed_over(self._retired(traffic), cleared and not conflicts)
        stay = retained_revisions(after.revisions, after.candidate, after.serving, self.now)
        for revision in traffic.revisions:
            if revision.name in stay:
                plan = plan.plus(self._keep(revision, self._replicas(revision, traffic, cleared)).as_own_part())
                conflicts += self._conflicts_of(revision.name)
        if traffic.serving is not None or any(obj["kind"] == DEPLOYMENT.kind for obj in plan.apply):
            budget, taken = self._applied(manifests.disruption_budget(self.owner))
            plan, conflicts = plan.plus(budget), conflicts + taken
        remaining, cleaning = self._cleaned(after, stay)
        plan = plan.plus(cleaning)
        after = replace(after, revisions=remaining)
        wake_at = earliest(
            revision.retired_at + DRAIN_DELAY
            for revision in remaining
            if revision.retired_at is not None and drains(revision, after.serving, self.now)
        )
        progress = self._progress(traffic, after) if cleared else None
        return Rollout(after, plan.plus(Plan(wake_at=wake_at)), progress, self._ready(after.serving), conflicts)

    # --- Names ----------------------------------------------------------------------------------------------------

    def _applied(self, rendered: Object) -> tuple[Plan, tuple[SpecError, ...]]:
        """Return a plan that applies the child, or the conflict about its name."""
        conflict = self.owner.conflict(self.view, kind_of(rendered), rendered["metadata"]["name"])
        return (Plan(), (conflict,)) if conflict else (Plan(apply=(rendered,)).as_own_part(), ())

    def _conflicts_of(self, revision: str) -> tuple[SpecError, ...]:
        found = (self.owner.conflict(self.view, kind, revision) for kind in (DEPLOYMENT, CONTROLLER_REVISION))
        return tuple(conflict for conflict in found if conflict)

    def _ours(self, kind: Kind, name: str) -> Object | None:
        """Return the owner's child of that name; None if the object has another owner."""
        found = self.view.get(kind, self.owner.namespace, name)
        return found if found is not None and controller_uid(found) == self.owner.uid else None

    # --- Pods ---------------------------------------------------------------------------------------------------

    def _replicas(self, revision: Revision, traffic: Traffic, cleared: bool) -> int:
        serves = revision.name == traffic.serving or (cleared and revision.name == traffic.candidate)
        most, draining = self.serving.replicas, drains(revision, traffic.serving, self.now)
        if serves or (draining and revision.retired_at is None):
            return most
        if not draining:
            return 0
        live = self._deployment(revision.name)  # a revision is not scaled up again if the clock is set back
        return min(most, int(live["spec"].get("replicas") or 0)) if live else 0

    def _keep(self, revision: Revision, replicas: int) -> Plan:
        """Return a plan for the record of a revision, and then for its Deployment; empty if it needs no pods."""
        if self.owner.conflict(self.view, DEPLOYMENT, revision.name):
            return Plan()
        live = self._deployment(revision.name)
        record = self._ours(CONTROLLER_REVISION, revision.name)
        if record is not None and (_template_of(record) is None or self._outdated(revision, record)):
            return Plan(delete=(deletion(record),)) if "deletionTimestamp" not in record["metadata"] else Plan()
        if record is not None:
            return (
                Plan(apply=(self._deployed(revision, _template_of(record), replicas),)) if live or replicas else Plan()
            )
        if self.owner.conflict(self.view, CONTROLLER_REVISION, revision.name):
            return Plan(apply=(self._deployed(revision, live["spec"]["template"], replicas),)) if live else Plan()
        if not replicas or revision.repository is None:
            return Plan()
        if live is not None and revision.serving_since is not None:
            # The record was deleted: the Deployment still has the rendered template.
            template: Object = live["spec"]["template"]
        elif self.store is not None:
            mount = StoreMount(self.store)
            template = manifests.serving_pod(
                self.owner, revision, revision.repository, self.serving, mount, self.settings
            )
        else:
            return Plan()
        return Plan(create=(manifests.controller_revision(self.owner, revision, template),))

    def _deployed(self, revision: Revision, template: Object | None, replicas: int) -> Object:
        return manifests.deployment(self.owner, revision.name, template or {}, replicas)

    def _outdated(self, revision: Revision, record: Object) -> bool:
        """Return True if a revision that has never served was rendered with other images: it is rendered again."""
        images = {manifests.FETCH: self.settings.runtime_image, manifests.TRITON: self.settings.serving_image}
        known = self.store is not None and "deletionTimestamp" not in record["metadata"]
        return known and revision.serving_since is None and record["data"].get("images") != images

    def _deployment(self, name: str) -> Object | None:
        return self._ours(DEPLOYMENT, name)

    def _ready(self, name: str | None) -> int:
        """Return the number of ready pods of a revision; those of another owner's Deployment count if selected."""
        live = self.view.get(DEPLOYMENT, self.owner.namespace, name) if name else None
        if name is None or live is None:
            return 0
        if self._deployment(name) is None and not manifests.is_selected(self.owner, name, live):
            return 0
        return int((live.get("status") or {}).get("readyReplicas") or 0)

    def _all_ready(self, name: str) -> bool:
        """Return True if there is at least one replica, and all replicas of the newest template are ready."""
        live = self._deployment(name)
        if live is None:
            return False
        replicas, status = self.serving.replicas, live.get("status", {})
        return (
            replicas >= 1
            and live["spec"].get("replicas") == replicas
            and int(status.get("observedGeneration", 0)) >= int(live["metadata"].get("generation", 1))
            and min(int(status.get(field, 0)) for field in ("updatedReplicas", "readyReplicas")) >= replicas
        )

    # --- Traffic ------------------------------------------------------------------------------------------------

    def _retired(self, traffic: Traffic) -> Traffic:
        """Return the traffic with the time from which former revisions drain: when the Service selects another one."""
        selected = manifests.selected_revision(self.view.get(SERVICE, self.owner.namespace, self.owner.name))
        if traffic.serving is None or selected != traffic.serving:
            return traffic
        at = self.now.replace(microsecond=0)
        lost = {
            revision.name
            for revision in traffic.revisions
            if revision.serving_since is not None and revision.retired_at is None and revision.name != traffic.serving
        }
        revisions = tuple(
            revision.model_copy(update={"retired_at": at}) if revision.name in lost else revision
            for revision in traffic.revisions
        )
        return replace(traffic, revisions=revisions)

    def _handed_over(self, traffic: Traffic, cleared: bool) -> Traffic:
        """Return the traffic with a ready candidate as the serving revision.

        It waits while the Service does not select the serving revision yet, or while MAX_DRAINING revisions drain.
        """
        name = traffic.candidate
        if not cleared or name is None or name == traffic.serving or not self._all_ready(name):
            return traffic
        selected = manifests.selected_revision(self.view.get(SERVICE, self.owner.namespace, self.owner.name))
        draining = sum(drains(revision, traffic.serving, self.now) for revision in traffic.revisions)
        if traffic.serving is not None and (selected != traffic.serving or draining >= MAX_DRAINING):
            return traffic
        since = {"serving_since": self.now.replace(microsecond=0), "retired_at": None}
        revisions = tuple(
            revision.model_copy(update=since) if revision.name == name else revision for revision in traffic.revisions
        )
        return replace(traffic, revisions=revisions, serving=name)

    def _cleaned(self, traffic: Traffic, stay: frozenset[str]) -> tuple[tuple[Revision, ...], Plan]:
        """Return the revisions without those to delete, and a plan for their children, which are deleted first.

        A revision with a child that a finalizer blocks stays in the status only if there is room for it.
        """
        prefix, plan = self.owner.child_name(""), Plan()
        leaving: set[str] = set()
        for kind in (DEPLOYMENT, CONTROLLER_REVISION):
            for obj in self.view.owned(kind, self.owner.namespace, self.owner.uid):
                name = obj["metadata"]["name"]
                if name in stay or name in self.unread or not name.startswith(prefix):
                    continue
                leaving.add(name)
                if "deletionTimestamp" not in obj["metadata"]:
                    plan = plan.plus(Plan(delete=(deletion(obj),)).as_own_part())
        held = [r.name for r in traffic.revisions if r.name in leaving and r.name not in stay]
        room = MAX_REVISIONS - sum(revision.name in stay for revision in traffic.revisions)
        shown = stay | frozenset(held[-room:] if room > 0 else ())
        return tuple(revision for revision in traffic.revisions if revision.name in shown), plan

    # --- Progress -----------------------------------------------------------------------------------------------

    def _progress(self, before: Traffic, after: Traffic) -> RevisionProgress:
        """Return the progress of a cleared candidate."""
        name = after.candidate or ""
        revision = find(after.revisions, name)
        selected = manifests.selected_revision(self.view.get(SERVICE, self.owner.namespace, self.owner.name))
        replicas = self.serving.replicas
        if replicas == 0:
            return RevisionProgress(
                "Ready" if name == before.serving else "RollingOut", "ScaledToZero", _SCALED_TO_ZERO
            )
        if name == before.serving == selected and self._all_ready(name):
            accuracy = f" with accuracy {revision.gate.accuracy_candidate:.4f}" if revision and revision.gate else ""
            return RevisionProgress("Ready", "RevisionServes", f"revision {name} serves{accuracy}")
        live = self._deployment(name)
        if live is None and self.store is None:
            message = f'spec.store: there is no ArtifactStore "{self.store_name}"; create it'
            return RevisionProgress.waiting("StoreNotFound", message)
        progress = f"revision {name}: {self._ready(name)} of {replicas} replicas are ready"
        if live is None or self._all_ready(name):
            return RevisionProgress("RollingOut", "RollingOut", progress)
        pods = self.view.select(POD, self.owner.namespace, {REVISION_LABEL: name})
        secret = secret_of(self.store) if self.store else None
        reason = unready_reason(pods, secret, self.packed_at) or creation_failure(live)
        message = f"{progress}: {reason.message}" if reason else progress
        if (reason and reason.final) or _too_slow(live):
            cure = "" if reason else f"; see `kubectl describe pods -l {REVISION_LABEL}={name}`"
            return RevisionProgress.blocked("RolloutFailed", message + cure)
        return RevisionProgress("RollingOut", "RollingOut", message)


_SCALED_TO_ZERO = "spec.serving.replicas is 0, so no revision serves; set it to at least 1 to serve"


def _template_of(record: Object) -> Object | None:
    """Return the pod template of a ControllerRevision; None if its data has another form."""
    template = (record.get("data") or {}).get("template")
    return template if isinstance(template, dict) else None


def _too_slow(live: Object) -> bool:
    """Return True if its progressDeadlineSeconds have passed."""
    conditions: Sequence[Object] = live.get("status", {}).get("conditions", ())
    return any(one.get("type") == "Progressing" and one.get("status") == "False" for one in conditions)
