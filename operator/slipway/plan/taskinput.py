"""How a task reaches its pod: as JSON in a variable, or in a file if it is long (docs/decisions/0019).

The text of a file lies in an annotation of the pod template, and the variable holds its digest. Nobody can change the
variables of a pod, and they are compared with those of its Job. Its annotations can be changed: the runtime then
refuses the text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from slipway.api.base import Model
from slipway.api.kinds import Object
from slipway.api.tasks import TASK_DIR, TASK_ENV, TASK_FILE, is_task_digest, task_digest

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
