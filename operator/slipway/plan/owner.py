"""The resource that is planned: its identity, and the metadata of its children."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from slipway.api.errors import SpecError
from slipway.api.kinds import GROUP, STEP, Kind, Object, key_of, kind_of
from slipway.plan.observation import ClusterView, controller_uid
from slipway.plan.plan import Deletion

STEP_LABEL = f"{GROUP}/step"
"""Label of the Job and the pod of a Step, besides that of its owner: the name of the Step."""
OWNER_LABELS = {
    "TrainingJob": f"{GROUP}/training-job",
    "ModelDeployment": f"{GROUP}/model-deployment",
    "ArtifactStore": f"{GROUP}/artifact-store",
}
"""Label of every child and every pod: the name of the owner, by which an event on a pod finds the owner's key."""
ROLE_LABEL = f"{GROUP}/role"
REVISION_LABEL = f"{GROUP}/revision"
ATTEMPT_LABEL = f"{GROUP}/attempt"
REPLACEMENT_LABEL = f"{GROUP}/replacement"
"""Label of the Job and the pod that replace a lost pod of an attempt: the generation of the pod of that index."""
PEERS_LABEL = f"{GROUP}/peers"
"""Label of the pods of a TrainingJob on several nodes, which its Service and its NetworkPolicy select."""
NAME_CONFLICT = "NameConflict"
"""Reason of a Stalled resource whose child cannot be created, because an object of another owner has its name."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Identity of the resource that is planned."""

    kind: Kind
    namespace: str
    name: str
    uid: str
    generation: int
    deleting: bool = False
    controller: tuple[str, str] | None = None
    """Kind and name of the controller of a Step; None for other kinds."""

    @classmethod
    def of(cls, obj: Object) -> Self:
        meta = obj["metadata"]
        owners = (one for one in meta.get("ownerReferences", ()) if one.get("controller"))
        return cls(
            kind_of(obj),
            meta.get("namespace", ""),
            meta["name"],
            meta["uid"],
            int(meta.get("generation", 0)),
            "deletionTimestamp" in meta,
            next(((one["kind"], one["name"]) for one in owners), None),
        )

    @property
    def labels(self) -> dict[str, str]:
        """The labels of each child: the name of its owner, and of the Step between them if there is one."""
        managed = {"app.kubernetes.io/managed-by": "slipway"}
        if self.kind != STEP:
            return {OWNER_LABELS[self.kind.kind]: self.name, **managed}
        owner = {OWNER_LABELS[kind]: name for kind, name in [self.controller or ("", "")] if kind in OWNER_LABELS}
        return {STEP_LABEL: self.name, **owner, **managed}

    def child_name(self, *parts: str) -> str:
        """Return `<name>-<6 digits of the UID's hash>-<parts>`: a re-created owner has other names of children."""
        mark = sha256(self.uid.encode()).hexdigest()[:6]
        return "-".join((self.name, mark, *parts))

    def child(self, kind: Kind, name: str, labels: dict[str, str] | None = None, **body: object) -> Object:
        """Return a child with type, name, labels and the one owner reference (no blockOwnerDeletion)."""
        return {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": {**self.labels, **(labels or {})},
                "ownerReferences": [
                    {
                        "apiVersion": self.kind.api_version,
                        "kind": self.kind.kind,
                        "name": self.name,
                        "uid": self.uid,
                        "controller": True,
                    }
                ],
            },
            **body,
        }

    def own(self, view: ClusterView, kind: Kind, name: str, uid: str | None = None) -> Object | None:
        """Return the owner's child of that name, None if there is none.

        uid: the recorded UID of the child, which identifies it even if it lost its ownerReference; an object of the
        same name with another UID is ignored.
        Raises SpecError (NameConflict) if an object of another owner has the name: it is never taken over.
        """
        obj = view.get(kind, self.namespace, name)
        if uid is not None:
            return obj if obj is not None and obj["metadata"]["uid"] == uid else None
        self.refuse_foreign(view, kind, name)
        return obj

    def refuse_foreign(self, view: ClusterView, kind: Kind, name: str) -> None:
        """Raise SpecError (NameConflict) if an object of that name is not a child of this owner."""
        if (error := self.conflict(view, kind, name)) is not None:
            raise error

    def conflict(self, view: ClusterView, kind: Kind, name: str) -> SpecError | None:
        """Return an error if an object of that name is not a child of this owner, to raise or to report."""
        obj = view.get(kind, self.namespace, name)
        if obj is None or controller_uid(obj) == self.uid:
            return None
        others = (one for one in obj["metadata"].get("ownerReferences", ()) if one.get("controller"))
        owner = next(
            (f"its controller is {one.get('kind')} {one.get('name')}" for one in others), "it has no controller"
        )
        # Users do not name Steps.
        renamed = "" if self.kind == STEP else f", or give this {self.kind} another name"
        return SpecError(
            "metadata.name",
            f"{kind} {name} exists and is not a child of this {self.kind}: {owner}",
            f"delete {kind} {name}, or restore its ownerReference{renamed}",
            reason=NAME_CONFLICT,
        )


def deletion(obj: Object) -> Deletion:
    meta = obj["metadata"]
    return Deletion(key_of(obj), meta["uid"], meta["resourceVersion"])
