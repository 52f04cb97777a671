"""How the pods of one task reach the store: a claim is mounted, a bucket is named and its keys passed by reference.

Of a claim a pod sees its inputs, each at its own path below STORE_DIR, and its own folder; nothing else of the store. A
bucket has one key for all that lies in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Self

from slipway.api.artifactstore import ArtifactStoreSpec, ClaimStore, S3Store
from slipway.api.base import Model
from slipway.api.kinds import Object
from slipway.api.tasks import OUT_DIR, S3_OPTIONAL_KEYS, S3_SECRET_ENV, STORE_DIR, STORE_ENV
from slipway.plan.inputs import inputs_of

_STORE, _OUT = "slipway-store", "slipway-out"


@dataclass(frozen=True, slots=True)
class StoreMount:
    """The store as one pod sees it.

    out: the pod's own folder below the store's root; None for readers. inputs: folders below the root that it reads.
    """

    spec: ArtifactStoreSpec
    out: str | None = None
    inputs: tuple[str, ...] = ()

    def for_task(self, task: Model, out: str | None = None) -> Self:
        """The same store as a pod of that task sees it: its inputs and its own folder."""
        return replace(self, inputs=inputs_of(task), out=out)

    @property
    def volumes(self) -> list[Object]:
        if (claim := self.spec.persistent_volume_claim) is not None:
            if not self.mounts:
                return []
            return [{"name": _STORE, "persistentVolumeClaim": {"claimName": claim.claim_name}}]
        return [{"name": mount["name"], "emptyDir": {}} for mount in self.mounts]

    @property
    def mounts(self) -> list[Object]:
        if (claim := self.spec.persistent_volume_claim) is not None:
            return self._of_claim(claim)
        store = {"name": _STORE, "mountPath": STORE_DIR}
        return [store] if self.out is None else [store, {"name": _OUT, "mountPath": OUT_DIR}]

    @property
    def env(self) -> list[Object]:
        """Where a bucket is, and its keys; nothing for a claim."""
        s3 = self.spec.s3
        if s3 is None:
            return []
        where = {"name": STORE_ENV, "value": json.dumps(s3.to_wire(), sort_keys=True, separators=(",", ":"))}
        return [where, *_secret_env(s3)]

    @property
    def service_account(self) -> str | None:
        """By which a cloud knows the pods."""
        return self.spec.s3.service_account_name if self.spec.s3 else None

    def _of_claim(self, claim: ClaimStore) -> list[Object]:
        def below(path: str) -> str:
            return f"{claim.sub_path}/{path}" if claim.sub_path else path

        mounts: list[Object] = [
            {"name": _STORE, "mountPath": f"{STORE_DIR}/{path}", "subPath": below(path), "readOnly": True}
            for path in self.inputs
        ]
        if self.out is not None:
            mounts.append({"name": _STORE, "mountPath": OUT_DIR, "subPath": below(self.out)})
        return mounts


def secret_of(spec: ArtifactStoreSpec) -> str | None:
    """Name of the Secret that holds a bucket's keys."""
    return spec.s3.secret_ref.name if spec.s3 and spec.s3.secret_ref else None


def _secret_env(s3: S3Store) -> list[Object]:
    if s3.secret_ref is None:
        return []
    env = []
    for key, name in S3_SECRET_ENV.items():
        source: Object = {"name": s3.secret_ref.name, "key": key}
        if key in S3_OPTIONAL_KEYS:
            source["optional"] = True
        env.append({"name": name, "valueFrom": {"secretKeyRef": source}})
    return env
