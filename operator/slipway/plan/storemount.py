"""The mounts and variables by which the pods of a task reach the store: a claim is mounted, a bucket is named.

With a claim a pod mounts its inputs, each at its own path below STORE_DIR, and its own folder, and nothing else of the
store. A bucket has one key for all its files. So evaluation data may be in a second store, which only pods of deciding
tasks get (below HELD_OUT_DIR).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

from slipway.api.artifactstore import ArtifactStoreSpec, S3Store
from slipway.api.base import Model
from slipway.api.kinds import Object
from slipway.api.tasks import (
    HELD_OUT,
    HELD_OUT_DIR,
    HELD_OUT_SECRET_ENV,
    HELD_OUT_STORE_ENV,
    OUT_DIR,
    OUT_STORE_ENV,
    S3_OPTIONAL_KEYS,
    S3_SECRET_ENV,
    STORE_DIR,
    STORE_ENV,
    DecidingTask,
)
from slipway.plan.egress import EGRESS_LABEL, RESTRICTED
from slipway.plan.taskinput import inputs_of, variable_json

_STORE, _HELD_OUT, _OUT = "slipway-store", "slipway-held-out", "slipway-out"


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two stores of a pod. out: the pod's own folder if it is in this store."""

    spec: ArtifactStoreSpec
    volume: str
    root: str
    inputs: tuple[str, ...]
    out: str | None

    def mounts(self) -> Iterator[Object]:
        claim = self.spec.persistent_volume_claim
        if claim is None:
            yield {"name": self.volume, "mountPath": self.root}
            if self.out is not None:
                yield {"name": _OUT, "mountPath": OUT_DIR}
            return
        below = f"{claim.sub_path}/" if claim.sub_path else ""
        for path in self.inputs:
            where = {"mountPath": f"{self.root}/{path}", "subPath": f"{below}{path}"}
            yield {"name": self.volume, **where, "readOnly": True}
        if self.out is not None:
            yield {"name": self.volume, "mountPath": OUT_DIR, "subPath": f"{below}{self.out}"}


@dataclass(frozen=True, slots=True)
class StoreMount:
    """The store of one pod, and the store of held-out data if it is another one.

    out: the pod's own folder below the root of its store; None for readers. inputs, held_out_inputs: folders below the
    roots that it reads.
    """

    spec: ArtifactStoreSpec
    out: str | None = None
    inputs: tuple[str, ...] = ()
    held_out: ArtifactStoreSpec | None = None
    held_out_inputs: tuple[str, ...] = ()
    out_held_out: bool = False

    def for_task(self, task: Model, out: str | None = None) -> Self:
        """Return the mount for a pod of that task, with its inputs and its own folder."""
        fields = task.held_out_fields if isinstance(task, DecidingTask) else frozenset()
        if self.held_out is None or not fields:
            return replace(self, inputs=inputs_of(task), out=out, held_out=None)
        others = frozenset(type(task).model_fields) - fields
        return replace(
            self,
            inputs=inputs_of(task, others),
            held_out_inputs=inputs_of(task, fields),
            out=out,
            out_held_out=isinstance(task, DecidingTask) and task.leaves_held_out,
        )

    def of_results(self, task: Model) -> StoreMount:
        """Return the store in which a pod of that task has its folder."""
        mount = self.for_task(task, "")
        return StoreMount(mount.held_out) if mount.held_out is not None and mount.out_held_out else self

    @property
    def held_out_identity(self) -> Object | None:
        """The location of the store for evaluation data; None if the pod has none."""
        store = self.held_out or (self.spec if self.spec.held_out else None)
        return None if store is None else identity_of(store)

    @property
    def volumes(self) -> list[Object]:
        claims = {one.volume: one.spec.persistent_volume_claim for one in self._sides}
        names = dict.fromkeys(mount["name"] for mount in self.mounts)
        return [
            {"name": name, "persistentVolumeClaim": {"claimName": claim.claim_name}}
            if (claim := claims.get(name)) is not None
            else {"name": name, "emptyDir": {}}
            for name in names
        ]

    @property
    def mounts(self) -> list[Object]:
        return [mount for side in self._sides for mount in side.mounts()]

    @property
    def env(self) -> list[Object]:
        """The variables with the location of a bucket and its keys; none for a claim."""
        variables: list[Object] = []
        if (s3 := self.spec.s3) is not None:
            variables += [{"name": STORE_ENV, "value": variable_json(s3.to_wire())}, *_secret_env(s3, S3_SECRET_ENV)]
        if (apart := self.held_out) is not None:
            variables.append({"name": HELD_OUT_STORE_ENV, "value": variable_json(identity_of(apart))})
            if apart.s3 is not None:
                variables += _secret_env(apart.s3, HELD_OUT_SECRET_ENV)
            if self.out_held_out:
                variables.append({"name": OUT_STORE_ENV, "value": HELD_OUT})
        return variables

    @property
    def service_account(self) -> str | None:
        """The ServiceAccount that gives the pod access to a bucket; that of the held-out store takes precedence."""
        stores = (self.held_out, self.spec)
        return next((s.s3.service_account_name for s in stores if s and s.s3 and s.s3.service_account_name), None)

    @property
    def _sides(self) -> tuple[_Side, ...]:
        main = _Side(self.spec, _STORE, STORE_DIR, self.inputs, None if self.out_held_out else self.out)
        if self.held_out is None:
            return (main,)
        claims = [one.persistent_volume_claim for one in (self.spec, self.held_out)]
        # A pod that mounts one claim as two volumes may wait for ever (kubernetes #28502).
        same = claims[0] is not None and claims[1] is not None and claims[0].claim_name == claims[1].claim_name
        out = self.out if self.out_held_out else None
        return main, _Side(self.held_out, _STORE if same else _HELD_OUT, HELD_OUT_DIR, self.held_out_inputs, out)


def place_of(store: ArtifactStoreSpec, path: str) -> tuple[str, str]:
    """Return the claim or the bucket of a path of the store, and the path in it. Two stores may share one."""
    volume, folder = "", None
    if (claim := store.persistent_volume_claim) is not None:
        volume, folder = claim.claim_name, claim.sub_path
    elif (s3 := store.s3) is not None:
        volume, folder = f"{s3.endpoint}/{s3.bucket}", s3.prefix
    return volume, f"{folder}/{path}" if folder else path


def readable_by_plugins(store: ArtifactStoreSpec, held_out: ArtifactStoreSpec | None) -> bool:
    """Return True if a pod that runs a plugin can read the evaluation data. store: the store of such pods."""
    apart = held_out or store
    if apart.s3 is None:
        return False
    if held_out is None:
        return True
    if store.s3 is None:
        return False
    return _identity(store.s3) == _identity(apart.s3)


def egress_labels(store: StoreMount) -> dict[str, str]:
    """Return the label that the policy of an owner's tasks selects; none for pods with a second store."""
    return {} if store.held_out_identity is not None else {EGRESS_LABEL: RESTRICTED}


def secret_of(spec: ArtifactStoreSpec) -> str | None:
    """Return the name of the Secret with a bucket's keys."""
    return spec.s3.secret_ref.name if spec.s3 and spec.s3.secret_ref else None


def _identity(s3: S3Store) -> tuple[str | None, str | None]:
    return s3.secret_ref.name if s3.secret_ref else None, s3.service_account_name


def identity_of(store: ArtifactStoreSpec) -> Object:
    """Return the fields of the spec with the location of the files and the keys, which are immutable."""
    fields = {"persistentVolumeClaim": store.persistent_volume_claim, "s3": store.s3}
    return {name: place.to_wire() for name, place in fields.items() if place is not None}


def _secret_env(s3: S3Store, names: Mapping[str, str]) -> list[Object]:
    if s3.secret_ref is None:
        return []
    env = []
    for key, name in names.items():
        source: Object = {"name": s3.secret_ref.name, "key": key}
        if key in S3_OPTIONAL_KEYS:
            source["optional"] = True
        env.append({"name": name, "valueFrom": {"secretKeyRef": source}})
    return env
