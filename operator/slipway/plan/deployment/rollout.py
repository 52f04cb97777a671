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
from slipway.api.kinds import CONTROLLER_REVISION, DEPLOYMENT, POD, SERVICE, Object
from slipway.api.modeldeployment import ModelDeploymentSpec, Revision
from slipway.plan.deployment import manifests
from slipway.plan.deployment.revision import DRAIN_DELAY, drains, find, kept
from slipway.plan.deployment.standing import Standing
from slipway.plan.deployment.trouble import creation_trouble, pod_trouble
from slipway.plan.parent import REVISION_LABEL, Parent, deletion
from slipway.plan.plan import Plan, Settings, earliest
from slipway.plan.seen import Seen
from slipway.plan.storemount import StoreMount, secret_of


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the status says of revisions and traffic. candidate: what the spec wants, cleared to serve or not."""

    revisions: tuple[Revision, ...]
    candidate: str | None
    serving: str | None


@dataclass(frozen=True, slots=True)
class Rollout:
    """One round: the traffic as it should be recorded, the writes, and where the wanted revision stands."""

    traffic: Traffic
    plan: Plan
    standing: Standing | None
    ready_replicas: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """The serving side of one deployment as it is seen.

    cleared: the wanted revision is packed and has passed its gate. store: None where it is not known.
    """

    parent: Parent
    spec: ModelDeploymentSpec
    store: ArtifactStoreSpec | None
    seen: Seen
    settings: Settings
    now: datetime

    def roll_out(self, traffic: Traffic, cleared: bool, *, service_is_ours: bool) -> Rollout:
        """Keep what serves, bring up what is cleared, hand over, take down what has drained."""
        plan = Plan()
        if service_is_ours:
            plan = plan.plus(Plan(apply=(manifests.service(self.parent, traffic.serving),)))
        after = self._handed_over(self._retired(traffic), cleared and service_is_ours)
        stay = kept(after.revisions, after.candidate, after.serving, self.now)
        for revision in traffic.revisions:
            if revision.name in stay:
                plan = plan.plus(self._keep(revision, self._replicas(revision, traffic, cleared)))
        if any(obj["kind"] == DEPLOYMENT.kind for obj in plan.apply):
            plan = plan.plus(Plan(apply=(manifests.disruption_budget(self.parent),)))
        remaining, cleaning = self._cleaned(after, stay)
        plan = plan.plus(cleaning)
        after = replace(after, revisions=remaining)
        wake_at = earliest(
            revision.retired_at + DRAIN_DELAY
            for revision in remaining
            if revision.retired_at is not None and drains(revision, after.serving, self.now)
        )
        standing = self._standing(traffic, after) if cleared else None
        return Rollout(after, plan.plus(Plan(wake_at=wake_at)), standing, self._ready(after.serving))

    # --- Pods ---------------------------------------------------------------------------------------------------

    def _replicas(self, revision: Revision, traffic: Traffic, cleared: bool) -> int:
        wanted = revision.name == traffic.serving or (cleared and revision.name == traffic.candidate)
        most, draining = self.spec.serving.replicas, drains(revision, traffic.serving, self.now)
        if wanted or (draining and revision.retired_at is None):
            return most
        if not draining:
            return 0
        live = self._deployment(revision.name)  # what is down stays down, also where the clock is set back
        return min(most, int(live["spec"].get("replicas", 0))) if live else 0

    def _keep(self, revision: Revision, replicas: int) -> Plan:
        """The revision's frozen record, then its Deployment from that record; nothing of one that has no pods."""
        live = self._deployment(revision.name)
        record = self.parent.own(self.seen, CONTROLLER_REVISION, revision.name)
        if record is not None and self._outdated(revision, record):
            return Plan(delete=(deletion(record),))
        if record is not None:
            return Plan(apply=(manifests.deployment(self.parent, record, replicas),)) if live or replicas else Plan()
        if not replicas or revision.repository is None:
            return Plan()
        if live is not None and revision.serving_since is not None:
            # Somebody deleted the record: what runs is what was rendered.
            template: Object = live["spec"]["template"]
        elif self.store is not None:
            mount = StoreMount(self.store)
            template = manifests.serving_pod(
                self.parent, revision, revision.repository, self.spec.serving, mount, self.settings
            )
        else:
            return Plan()
        return Plan(create=(manifests.controller_revision(self.parent, revision, template),))

    def _outdated(self, revision: Revision, record: Object) -> bool:
        """Nobody's model yet, and rendered with other images: an operator with the right ones may mend it."""
        images = {manifests.FETCH: self.settings.runtime_image, manifests.TRITON: self.settings.serving_image}
        known = self.store is not None and "deletionTimestamp" not in record["metadata"]
        return known and revision.serving_since is None and record["data"].get("images") != images

    def _deployment(self, name: str) -> Object | None:
        return self.parent.own(self.seen, DEPLOYMENT, name)

    def _ready(self, name: str | None) -> int:
        live = self._deployment(name) if name else None
        return int((live or {}).get("status", {}).get("readyReplicas", 0))

    def _all_ready(self, name: str) -> bool:
        """At least one replica, and each that is wanted, of the newest template, is ready."""
        live = self._deployment(name)
        if live is None:
            return False
        wanted, status = self.spec.serving.replicas, live.get("status", {})
        return (
            wanted >= 1
            and live["spec"].get("replicas") == wanted
            and int(status.get("observedGeneration", 0)) >= int(live["metadata"].get("generation", 1))
            and min(int(status.get(field, 0)) for field in ("updatedReplicas", "readyReplicas")) >= wanted
        )

    # --- Traffic ------------------------------------------------------------------------------------------------

    def _retired(self, traffic: Traffic) -> Traffic:
        """Those that lost the traffic drain from the moment at which the Service is seen to point elsewhere."""
        selected = manifests.selected_revision(self.seen.get(SERVICE, self.parent.namespace, self.parent.name))
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
        name = traffic.candidate
        if not cleared or name is None or name == traffic.serving or not self._all_ready(name):
            return traffic
        since = {"serving_since": self.now.replace(microsecond=0), "retired_at": None}
        revisions = tuple(
            revision.model_copy(update=since) if revision.name == name else revision for revision in traffic.revisions
        )
        return replace(traffic, revisions=revisions, serving=name)

    def _cleaned(self, traffic: Traffic, stay: frozenset[str]) -> tuple[tuple[Revision, ...], Plan]:
        """Without the revisions that are not kept: their children go first, then their place in the status."""
        remaining: list[Revision] = []
        gone: list[Object] = []
        for revision in traffic.revisions:
            kinds = () if revision.name in stay else (DEPLOYMENT, CONTROLLER_REVISION)
            owned = [obj for kind in kinds if (obj := self.parent.own(self.seen, kind, revision.name)) is not None]
            gone += [obj for obj in owned if "deletionTimestamp" not in obj["metadata"]]
            if revision.name in stay or owned:
                remaining.append(revision)
        return tuple(remaining), Plan(delete=tuple(deletion(obj) for obj in gone))

    # --- How far ------------------------------------------------------------------------------------------------

    def _standing(self, before: Traffic, after: Traffic) -> Standing:
        """Of a wanted revision that is cleared."""
        name = after.candidate or ""
        revision = find(after.revisions, name)
        selected = manifests.selected_revision(self.seen.get(SERVICE, self.parent.namespace, self.parent.name))
        replicas = self.spec.serving.replicas
        if replicas == 0:
            return Standing("Ready" if name == before.serving else "RollingOut", "ScaledToZero", _SCALED_TO_ZERO)
        if name == before.serving == selected and self._all_ready(name):
            accuracy = f" with accuracy {revision.gate.accuracy_candidate:.4f}" if revision and revision.gate else ""
            return Standing("Ready", "RevisionServes", f"revision {name} serves{accuracy}")
        live = self._deployment(name)
        if live is None and self.store is None:
            message = f'spec.store: there is no ArtifactStore "{self.spec.store}"; create it'
            return Standing.waiting("StoreNotFound", message)
        progress = f"revision {name}: {self._ready(name)} of {replicas} replicas are ready"
        if live is None or self._all_ready(name):
            return Standing("RollingOut", "RollingOut", progress)
        pods = self.seen.select(POD, self.parent.namespace, {REVISION_LABEL: name})
        trouble = pod_trouble(pods, secret_of(self.store) if self.store else None) or creation_trouble(live)
        message = f"{progress}: {trouble.message}" if trouble else progress
        if (trouble and trouble.final) or _too_slow(live):
            cure = "" if trouble else f"; see `kubectl describe pods -l {REVISION_LABEL}={name}`"
            return Standing.stuck("RolloutFailed", message + cure)
        return Standing("RollingOut", "RollingOut", message)


_SCALED_TO_ZERO = "spec.serving.replicas is 0: nothing serves, and a new revision takes over when it is at least 1"


def _too_slow(live: Object) -> bool:
    """Its progressDeadlineSeconds are over."""
    conditions: Sequence[Object] = live.get("status", {}).get("conditions", ())
    return any(one.get("type") == "Progressing" and one.get("status") == "False" for one in conditions)
