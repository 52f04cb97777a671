"""The port's side to a real API server: raw JSON, one call a method, no retries of its own.

A call without an answer may have been executed; the caller observes again (level-triggered).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from slipway.api.kinds import Key, Kind, Object, key_of, selector_text
from slipway.cluster.connection import Connection
from slipway.cluster.port import FIELD_MANAGER

PAGE = 200
LIST_SECONDS = 60.0
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_STRICT = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}


class ApiServer:
    """A Cluster on a kube-apiserver."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, key: Key) -> Object:
        return _object(await self._connection.call(f"get {_describe(key)}", "GET", _path(key)))

    async def list(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Sequence[Object]:
        pages = self.pages(kind, namespace, selector_text(labels or {}))
        return [obj async for page in pages for obj in page]

    async def pages(
        self, kind: Kind, namespace: str | None = None, selector: str = "", *, metadata_only: bool = False
    ) -> AsyncIterator[Sequence[Object]]:
        """Yield all objects of a kind at one moment, PAGE at a time, for callers that keep only a part of each.

        selector: a label selector. metadata_only: items have apiVersion, kind and metadata alone.
        """
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        accept = _METADATA_ONLY if metadata_only else "application/json"
        path, what = collection_path(kind, namespace), f"list {kind.plural} in {namespace or 'all namespaces'}"
        while True:
            answer = await self._connection.call(what, "GET", path, query=query, accept=accept, seconds=LIST_SECONDS)
            items = answer.get("items") or []
            for item in items:
                item["apiVersion"], item["kind"] = kind.api_version, kind.kind
            yield items
            following = answer["metadata"].get("continue")
            if not following:
                return
            query["continue"] = following

    async def create(self, obj: Object) -> Object:
        key = key_of(obj)
        path = collection_path(key.kind, key.namespace)
        return _object(await self._connection.call(f"create {_describe(key)}", "POST", path, query=_STRICT, body=obj))

    async def apply(self, obj: Object) -> Object:
        key = key_of(obj)
        return _object(
            await self._connection.call(
                f"apply {_describe(key)}",
                "PATCH",
                _path(key),
                query={**_STRICT, "force": "true"},
                body=obj,
                content_type=_APPLY,
            )
        )

    async def patch_status(self, key: Key, resource_version: str, patch: Object) -> Object:
        return _object(
            await self._connection.call(
                f"patch the status of {_describe(key)}",
                "PATCH",
                f"{_path(key)}/status",
                query=_STRICT,
                body={"metadata": {"resourceVersion": resource_version}, "status": patch},
                content_type=_MERGE,
            )
        )

    async def delete(self, key: Key, *, uid: str, resource_version: str) -> Object | None:
        answer = await self._connection.call(
            f"delete {_describe(key)}",
            "DELETE",
            _path(key),
            body={
                "apiVersion": "v1",
                "kind": "DeleteOptions",
                "propagationPolicy": "Background",
                "preconditions": {"uid": uid, "resourceVersion": resource_version},
            },
        )
        # The answer is the object itself while a finalizer or a pod's grace period keeps it.
        held = answer.get("kind") == key.kind.kind and "deletionTimestamp" in answer["metadata"]
        return _object(answer) if held else None


def collection_path(kind: Kind, namespace: str | None) -> str:
    """Return the path of all objects of a kind, in a namespace or (None, "") in all."""
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    return f"{root}/namespaces/{namespace}/{kind.plural}" if namespace else f"{root}/{kind.plural}"


def _path(key: Key) -> str:
    return f"{collection_path(key.kind, key.namespace if key.kind.namespaced else None)}/{key.name}"


def _describe(key: Key) -> str:
    return f"{key.kind.plural} {key.namespace}/{key.name}" if key.namespace else f"{key.kind.plural} {key.name}"


def _object(answer: Any) -> Object:
    """Return the answer as an Object, which is what the parser makes of a JSON object."""
    obj: Object = answer
    return obj
