"""Which folders of a store a task reads: what its pods mount, and what a plugin must never be given.

A pod mounts the folder that the kubelet made for the task which left an artifact, never the artifact itself: the code
that wrote below that folder could have put a symbolic link in the artifact's place, and a kubelet follows such a link
anywhere inside the volume (k8s.io/kubernetes pkg/volume/util/subpath). Inside the mount a link leads nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from pydantic import TypeAdapter, ValidationError

from slipway.api.artifacts import StoreUri, store_path
from slipway.api.base import Digest, Model, Reference
from slipway.api.tasks import RecoverTask

MAX_INPUTS = 64
"""Artifacts that the parameters of one step may name; each is a mount of its pod."""

_OWN_FOLDER = re.compile(r"(steps/[0-9a-f]{64}|training/[^/]+/[0-9]+)(/.*)?")
_URI: TypeAdapter[str] = TypeAdapter(StoreUri)
_DIGEST: TypeAdapter[str] = TypeAdapter(Digest)


def inputs_of(task: Model, fields: frozenset[str] | None = None) -> tuple[str, ...]:
    """The folders that the task reads, below the store's root, in the task's own order; none lies inside another.

    They are those of every typed reference in the task and of every `{uri, digest}` in its parameters. fields: names of
    the task's fields to look at; None for all.
    """
    if isinstance(task, RecoverTask):
        return (store_path(task.uri),)
    names = [name for name in type(task).model_fields if fields is None or name in fields]
    return folders_of(*(getattr(task, name) for name in names))


def folders_of(*values: object) -> tuple[str, ...]:
    """The same of the references in fields, parameters or artifacts."""
    return outermost(folder_of(store_path(uri)) for value in values for uri in _uris(value))


def folder_of(path: str) -> str:
    """What to mount for the artifact at a path: the folder of the task that made it, else the artifact itself."""
    own = _OWN_FOLDER.fullmatch(path)
    return own[1] if own else path


def outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """The paths without those that lie inside another one, as they come: an order by digests would be of no use."""
    given = tuple(dict.fromkeys(paths))
    return tuple(path for path in given if not any(path != other and is_inside(path, other) for other in given))


def is_inside(path: str, folder: str) -> bool:
    """Whether the path is the folder or lies in it."""
    return path == folder or path.startswith(f"{folder}/") or not folder


def _uris(value: object) -> Iterator[str]:
    if isinstance(value, Reference):
        yield str(getattr(value, "uri"))  # noqa: B009 - each of ours has one; the base leaves the place open
    elif isinstance(value, Model):
        for name in type(value).model_fields:
            yield from _uris(getattr(value, name))
    elif isinstance(value, dict):
        if _is_reference(value):
            yield value["uri"]
        for _, item in sorted(value.items()):  # the API server sorts what a file had in another order
            yield from _uris(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _uris(item)


def _is_reference(value: dict[str, object]) -> bool:
    try:
        _URI.validate_python(value.get("uri"), strict=True)
        _DIGEST.validate_python(value.get("digest"), strict=True)
    except ValidationError:
        return False
    return True
