"""The variables of a container: what the image has, what stands for mounts and names, and what the pod says."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from slipway.api.kinds import Object
from slipway.api.tasks import (
    FOLDER_ENV,
    TASK_DIR,
    TASK_ENV,
    TASK_FILE,
    TERMINATION_LOG,
    TRITON_ENV,
    TrainTask,
    parse_task,
)
from slipway.local.volumes import CannotStart, Mounts, Sources, field_of, translated
from slipway.plan.deployment.manifests import HTTP_PORT
from slipway.plan.taskinput import TaskInput, task_text

_KEPT = ("PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "USER", "LOGNAME")
"""Of this process' own environment: how its Python is found, and how people write. Nothing else is a pod's to see."""

Meeting = tuple[str, int]
"""Address and port at which the torchrun agents of a Job meet."""


class Seat(NamedTuple):
    """What a pod has been given. meeting: where its Job's agents meet; devices: CUDA_VISIBLE_DEVICES."""

    meeting: Meeting | None = None
    devices: str = ""


def image_environment(address: str) -> dict[str, str]:
    """What the image would bring: this very Python, and one network interface, whose address is the pod's."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    return {
        **kept,
        "PATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PET_LOCAL_ADDR": address,
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        TRITON_ENV: f"{address}:{HTTP_PORT}",
    }


def environment_of(
    pod: Object, container: Object, *, mounts: Mounts, message: Path, sources: Sources, seat: Seat
) -> dict[str, str]:
    """Everything that the container finds in its environment, a long task included. Raises CannotStart.

    message: the file that stands for the termination message's path.
    """
    places = {**mounts, TERMINATION_LOG: message}
    given = image_environment(pod["status"]["podIP"])
    given["CUDA_VISIBLE_DEVICES"] = seat.devices
    given |= {FOLDER_ENV[path]: str(place) for path, place in places.items() if path in FOLDER_ENV}
    for source in container.get("envFrom", ()):
        given |= _all_keys(source, pod, sources)
    for variable in container.get("env", ()):
        value = _value(variable, pod, sources)
        if value is None:
            continue
        if variable["name"] == TASK_ENV:
            value = task_text(pod, container) or ""
            value = value if seat.meeting is None else _met_at(value, seat.meeting)
        given[variable["name"]] = translated(expanded(value, given), mounts)
    return given


def with_task_in_file(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment of a process; a task that is too long for a variable is written into the folder.

    The file that the pod mounts is not enough: paths and the rendezvous of the task are those of this machine here.
    """
    task = TaskInput(environment.get(TASK_ENV, ""))
    if not task.in_file:
        return dict(environment)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TASK_FILE).write_text(task.text, encoding="utf-8")
    return {**environment, TASK_ENV: task.value, FOLDER_ENV[TASK_DIR]: str(folder)}


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` replaced by a variable that is known, `$$` by `$` (Kubernetes API, Container.command)."""
    return re.sub(
        r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)",
        lambda found: "$" if found[1] is None else variables.get(found[1], found[0]),
        text,
    )


def _met_at(task: str, meeting: Meeting) -> str:
    """No name server knows the pods: agents meet at the address of the first, and listen there alone."""
    read = parse_task(task)
    if not isinstance(read, TrainTask) or read.rendezvous.host is None:
        return task
    host, port = meeting
    moved = read.rendezvous.model_copy(update={"host": host, "port": port})
    return TaskInput.of(read.model_copy(update={"rendezvous": moved})).text


def _value(variable: Object, pod: Object, sources: Sources) -> str | None:
    source = variable.get("valueFrom")
    if source is None:
        return str(variable.get("value", ""))
    if (field := source.get("fieldRef")) is not None:
        return field_of(pod, field["fieldPath"])
    for kind, name in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
        if (selector := source.get(name)) is not None:
            return _key(kind, selector, pod, sources)
    raise CannotStart(f"variable {variable['name']}: a process cannot have its value from {', '.join(source)}")


def _key(kind: str, selector: Object, pod: Object, sources: Sources) -> str | None:
    content = sources.contents.get((kind, pod["metadata"]["namespace"], selector["name"]), {})
    if (value := content.get(selector["key"])) is not None:
        return value.decode()
    if selector.get("optional"):
        return None
    raise CannotStart(f"{kind} {selector['name']} with a key {selector['key']} is in none of the files; add it with -f")


def _all_keys(source: Object, pod: Object, sources: Sources) -> dict[str, str]:
    kind, name = ("ConfigMap", "configMapRef") if "configMapRef" in source else ("Secret", "secretRef")
    content = sources.of(kind, pod["metadata"]["namespace"], source[name]["name"])
    return {key: value.decode() for key, value in content.items()}
