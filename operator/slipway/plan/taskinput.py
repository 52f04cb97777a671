"""The folders of a store that a task reads, and the transfer of the task to its pod.

A task is passed as JSON in a variable, or in a file if it is long (docs/decisions/0019).

The text of a file is an annotation of the pod template, and the variable has its digest. The variables of a pod are
immutable, and they are compared with those of its Job. Annotations can be changed; the runtime then refuses the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from slipway.api.artifacts import StoreUri, store_path
from slipway.api.base import Digest, Model, Reference
from slipway.api.kinds import Object
from slipway.api.tasks import TASK_DIR, TASK_ENV, TASK_FILE, RecoverTask, is_task_digest, task_digest

MAX_INPUTS = 64
"""Maximum number of artifacts that the parameters of one step may name; each is a mount of its pod."""

_OWN_FOLDER = re.compile(r"(steps/[0-9a-f]{64}|training/[^/]+/[0-9]+)(/.*)?")
_URI: TypeAdapter[str] = TypeAdapter(StoreUri)
_DIGEST: TypeAdapter[str] = TypeAdapter(Digest)


def inputs_of(task: Model, fields: frozenset[str] | None = None) -> tuple[str, ...]:
    """Return the folders that the task reads, below the store's root, in the order of the task; none contains another.

    They come from every typed reference in the task and every `{uri, digest}` in its parameters. fields: names of the
    task's fields to read; None for all.
    """
    if isinstance(task, RecoverTask):
        return (store_path(task.uri),)
    names = [name for name in type(task).model_fields if fields is None or name in fields]
    return folders_of(*(getattr(task, name) for name in names))


def folders_of(*values: object) -> tuple[str, ...]:
    """Return the folders of the references in fields, parameters or artifacts; none contains another."""
    return outermost(folder_of(store_path(uri)) for value in values for uri in _uris(value))


def folder_of(path: str) -> str:
    """Return the folder to mount for the artifact at a path: that of the task that made it, else the artifact itself.

    The artifact of a task is never mounted itself: the task's code could have replaced it by a symbolic link, which a
    kubelet follows anywhere inside the volume (k8s.io/kubernetes pkg/volume/util/subpath). Inside the mount such a link
    is broken.
    """
    own = _OWN_FOLDER.fullmatch(path)
    return own[1] if own else path


def outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the paths without those that are inside another one, in the given order."""
    given = tuple(dict.fromkeys(paths))
    return tuple(path for path in given if not any(path != other and is_inside(path, other) for other in given))


def is_inside(path: str, folder: str) -> bool:
    """Return True if the path is the folder or is inside it."""
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


TASK_ANNOTATION = "slipway.dev/task"
MAX_VARIABLE_BYTES = 32 * 1024
"""Maximum length of a task in a variable. Linux starts no process with one of 128 KiB
(MAX_ARG_STRLEN), nor with more than some 2 MiB of variables and arguments."""
ANNOTATIONS_LIMIT = 256 * 1024
"""Maximum bytes of all annotations of an object, names included (k8s.io/apimachinery, TotalAnnotationSizeLimitB)."""
RESERVED_BYTES = 16 * 1024
"""Bytes reserved for the rest of a task and for annotations of the Job controller, networks and webhooks."""
MAX_INPUT_BYTES = ANNOTATIONS_LIMIT - 2 * RESERVED_BYTES
"""Maximum bytes of a user's JSON in one task: the parameters of a step, or the entry point of a training."""

_VOLUME = "slipway-task"


@dataclass(frozen=True, slots=True)
class TaskInput:
    """The task as the text that its pod reads."""

    text: str

    @classmethod
    def of(cls, task: Model) -> Self:
        return cls(variable_json(task.to_wire()))

    @property
    def in_file(self) -> bool:
        return len(self.text) > MAX_VARIABLE_BYTES

    @property
    def value(self) -> str:
        """The variable's value: the text, or its digest if the text is in a file."""
        return task_digest(self.text.encode()) if self.in_file else self.text

    @property
    def annotations(self) -> dict[str, str]:
        return {TASK_ANNOTATION: self.text} if self.in_file else {}

    @property
    def volumes(self) -> list[Object]:
        source = {"fieldRef": {"fieldPath": f"metadata.annotations['{TASK_ANNOTATION}']"}}
        items = [{"path": TASK_FILE, **source}]
        return [{"name": _VOLUME, "downwardAPI": {"items": items}}] if self.in_file else []

    @property
    def mounts(self) -> list[Object]:
        return [{"name": _VOLUME, "mountPath": TASK_DIR, "readOnly": True}] if self.in_file else []


def task_text(pod: Mapping[str, Any], container: Mapping[str, Any]) -> str | None:
    """Return the text of the task in a pod or a pod template; None for a container without a task."""
    values = (one.get("value") for one in container.get("env", ()) if one["name"] == TASK_ENV)
    value: str | None = next(values, None)
    if value is None or not is_task_digest(value):
        return value
    text: str | None = pod.get("metadata", {}).get("annotations", {}).get(TASK_ANNOTATION)
    return text


def variable_json(value: object) -> str:
    """Return JSON that Kubernetes does not change in a variable or an argument, where it replaces `$(NAME)` and `$$`.

    Equal values give equal text, in ASCII.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":")).replace("$", "\\u0024")


def literal(word: str) -> str:
    """Return a word of a command with `$` escaped as `$$`, which Kubernetes replaces by `$`."""
    return word.replace("$", "$$")


def json_bytes(value: object) -> int:
    """Return the number of bytes of a value in a task."""
    return len(variable_json(value))
