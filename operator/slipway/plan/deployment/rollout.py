"""Which revisions have pods, which one has the traffic, and when the old ones go.

The order keeps every request served: the new revision's pods are all ready, then the status names it, then the stable
Service points at it, then (DRAIN_DELAY later) the old revision's pods go. A revision that is gone back to is scaled up
from its ControllerRevision and takes over in the same way.
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
from slipway.plan.deployment.revision import DRAIN_DELAY, drains, find, kept
from slipway.plan.deployment.status import RevisionProgress
from slipway.plan.deployment.unready import creation_failure, unready_reason
from slipway.plan.observation import ClusterView, controller_uid
from slipway.plan.owner import REVISION_LABEL, Owner, deletion
from slipway.plan.plan import Plan, Settings, earliest
from slipway.plan.storemount import StoreMount, secret_of

MAX_DRAINING = 4
"""With what is wanted, what serves and the retired ones that are kept, these fit into the status."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the status says of revisions and traffic. candidate: what the spec wants, cleared to serve or not."""

    revisions: tuple[Revision, ...]
    candidate: str | None
    serving: str | None


@dataclass(frozen=True, slots=True)
class Rollout:
    """One round: the traffic as it should be recorded, the writes, and where the wanted revision stands.

    conflicts: objects under the names of children that are not ours. All that does not need those names goes on.
    """

    traffic: Traffic
    plan: Plan
    progress: RevisionProgress | None
    ready_replicas: int
    conflicts: tuple[SpecError, ...] = ()


@dataclass(frozen=True, slots=True)
class Fleet:
    """The serving side of one deployment as it is seen.

    It needs the status, the children and these fields of the spec alone: what serves is kept up whatever else of the
    spec, of its source or of its steps is wrong. store: None where it is not known, and no pod can be rendered anew.
    unread: names of revisions in the status that this version cannot read: their children are left alone.
    packed_at: when the wanted revision's repository was packed, if that is known.
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
        """Keep what serves, bring up what is cleared, hand over, take down what has drained.

        cleared: the wanted revision is packed and has passed its gate.
        """
        service, conflicts = self._applied(manifests.service(self.owner, traffic.serving))
        plan = service
        after = self._handed_over(self._retired(traffic), cleared and not conflicts)
        stay = kept(after.revisions, after.candidate, after.serving, self.now)
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
        """A plan to apply the child, or why its name cannot be had."""
        conflict = self.owner.conflict(self.view, kind_of(rendered), rendered["metadata"]["name"])
        return (Plan(), (conflict,)) if conflict else (Plan(apply=(rendered,)).as_own_part(), ())

    def _conflicts_of(self, revision: str) -> tuple[SpecError, ...]:
        found = (self.owner.conflict(self.view, kind, revision) for kind in (DEPLOYMENT, CONTROLLER_REVISION))
        return tuple(conflict for conflict in found if conflict)

    def _ours(self, kind: Kind, name: str) -> Object | None:
        """Our child of that name; None also where the name is another's."""
        found = self.view.get(kind, self.owner.namespace, name)
        return found if found is not None and controller_uid(found) == self.owner.uid else None

    # --- Pods ---------------------------------------------------------------------------------------------------

    def _replicas(self, revision: Revision, traffic: Traffic, cleared: bool) -> int:
        wanted = revision.name == traffic.serving or (cleared and revision.name == traffic.candidate)
        most, draining = self.serving.replicas, drains(revision, traffic.serving, self.now)
        if wanted or (draining and revision.retired_at is None):
            return most
        if not draining:
            return 0
        live = self._deployment(revision.name)  # what is down stays down, also where the clock is set back
        return min(most, int(live["spec"].get("replicas") or 0)) if live else 0

    def _keep(self, revision: Revision, replicas: int) -> Plan:
        """The revision's frozen record, then its Deployment from that record; nothing of one that has no pods."""
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
            # Somebody deleted the record: what runs is what was rendered.
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
        """Nobody's model yet, and rendered with other images: an operator with the right ones may mend it."""
        images = {manifests.FETCH: self.settings.runtime_image, manifests.TRITON: self.settings.serving_image}
        known = self.store is not None and "deletionTimestamp" not in record["metadata"]
        return known and revision.serving_since is None and record["data"].get("images") != images

    def _deployment(self, name: str) -> Object | None:
        return self._ours(DEPLOYMENT, name)

    def _ready(self, name: str | None) -> int:
        """Ready pods of a revision. They serve whoever owns their Deployment, where the Service selects them."""
        live = self.view.get(DEPLOYMENT, self.owner.namespace, name) if name else None
        if name is None or live is None:
            return 0
        if self._deployment(name) is None and not manifests.is_selected(self.owner, name, live):
            return 0
        return int((live.get("status") or {}).get("readyReplicas") or 0)

    def _all_ready(self, name: str) -> bool:
        """At least one replica, and each that is wanted, of the newest template, is ready."""
        live = self._deployment(name)
        if live is None:
            return False
        wanted, status = self.serving.replicas, live.get("status", {})
        return (
            wanted >= 1
            and live["spec"].get("replicas") == wanted
            and int(status.get("observedGeneration", 0)) >= int(live["metadata"].get("generation", 1))
            and min(int(status.get(field, 0)) for field in ("updatedReplicas", "readyReplicas")) >= wanted
        )

    # --- Traffic ------------------------------------------------------------------------------------------------

    def _retired(self, traffic: Traffic) -> Traffic:
        """Those that lost the traffic drain from the moment at which the Service is seen to point elsewhere."""
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
        """One after another: while the Service does not select what serves, or many drain, the next one waits."""
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
        """Without the revisions that are not kept: their children go first, then their place in the status.

        What a finalizer holds needs no place where there is none left: its deletion is asked for by what is seen.
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

    # --- How far ------------------------------------------------------------------------------------------------

    def _progress(self, before: Traffic, after: Traffic) -> RevisionProgress:
        """Of a wanted revision that is cleared."""
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


_SCALED_TO_ZERO = "spec.serving.replicas is 0: nothing serves, and a new revision takes over when it is at least 1"


def _template_of(record: Object) -> Object | None:
    """The pod template of a ControllerRevision; None where somebody put something else there."""
    template = (record.get("data") or {}).get("template")
    return template if isinstance(template, dict) else None


def _too_slow(live: Object) -> bool:
    """Its progressDeadlineSeconds are over."""
    conditions: Sequence[Object] = live.get("status", {}).get("conditions", ())
    return any(one.get("type") == "Progressing" and one.get("status") == "False" for one in conditions)
