"""The folders of a store that a task reads, and the way in which the task reaches its pod.

It travels as JSON in a variable, or in a file if it is long (docs/decisions/0019).

The text of a file lies in an annotation of the pod template, and the variable holds its digest. Nobody can change the
variables of a pod, and they are compared with those of its Job. Its annotations can be changed: the runtime then
refuses the text.
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
    """Return what to mount for the artifact at a path: the folder of the task that made it, else the artifact itself.

    Never the artifact of a task: the code that wrote below the folder could have put a symbolic link in its place, and
    a kubelet follows such a link anywhere inside the volume (k8s.io/kubernetes pkg/volume/util/subpath). Inside the
    mount a link leads nowhere.
    """
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


TASK_ANNOTATION = "slipway.dev/task"
MAX_VARIABLE_BYTES = 32 * 1024
"""Length of a task that is still handed over in a variable. Linux starts no process with one of 128 KiB
(MAX_ARG_STRLEN), nor with more than some 2 MiB of variables and arguments."""
ANNOTATIONS_LIMIT = 256 * 1024
"""Bytes of all annotations of an object, names included (k8s.io/apimachinery, TotalAnnotationSizeLimitB)."""
RESERVED_BYTES = 16 * 1024
"""Bytes of annotations for the rest of a task and for what the Job controller, networks and webhooks add to a pod."""
MAX_INPUT_BYTES = ANNOTATIONS_LIMIT - 2 * RESERVED_BYTES
"""Bytes of JSON of what a user writes into one task: the parameters of a step, or the entry point of a training."""

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
        """The variable's value: the text, or its digest if the text travels in a file."""
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
    """The task's text as a pod or a pod template hands it to a container of its own; None for one without a task."""
    values = (one.get("value") for one in container.get("env", ()) if one["name"] == TASK_ENV)
    value: str | None = next(values, None)
    if value is None or not is_task_digest(value):
        return value
    text: str | None = pod.get("metadata", {}).get("annotations", {}).get(TASK_ANNOTATION)
    return text


def variable_json(value: object) -> str:
    """JSON that means the same as a variable's value and as an argument: Kubernetes replaces `$(NAME)` and `$$` there.

    Equal values give equal text, in ASCII.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":")).replace("$", "\\u0024")


def literal(word: str) -> str:
    """A word of a command that Kubernetes hands over as it is given here (`$$` stands for `$`)."""
    return word.replace("$", "$$")


def json_bytes(value: object) -> int:
    """Bytes that a value takes in a task."""
    return len(variable_json(value))
