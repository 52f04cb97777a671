"""The environment of a container: folders for its volumes, and its variables.

Nothing can be mounted without privileges: each mountPath stands for a folder of this machine, and is replaced by that
folder in commands, arguments and variables.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from slipway.api.kinds import Object
from slipway.api.tasks import (
    FOLDER_ENV,
    HELD_OUT_DIR,
    STORE_DIR,
    TASK_DIR,
    TASK_ENV,
    TASK_FILE,
    TERMINATION_LOG,
    TRITON_ENV,
    TrainTask,
    parse_task,
)
from slipway.local.state import State
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


_VIEWED = (STORE_DIR, HELD_OUT_DIR)
"""Below these a pod finds its inputs and nothing else of the claim in which they lie."""
LONGEST_SCRATCH = 70
"""Characters of a scratch folder's path."""

Mounts = Mapping[str, Path]
"""mountPath -> folder, of one container."""


class CannotStart(Exception):
    """A container cannot be made as its pod says; the message names what is missing."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The ConfigMaps and Secrets that the files hold, by (kind, namespace, name): key -> content."""

    contents: Mapping[tuple[str, str, str], Mapping[str, bytes]] = field(default_factory=dict)

    def of(self, kind: str, namespace: str, name: str) -> Mapping[str, bytes]:
        """Raises CannotStart where none of the files holds it."""
        try:
            return self.contents[(kind, namespace, name)]
        except KeyError as error:
            raise CannotStart(f"{kind} {name} is in none of the files; add it with -f") from error


def folder_of(pod: Object, state: State) -> Path:
    """Where the pod's own volumes and its containers' last words lie."""
    return state.pods / str(pod["metadata"]["uid"])[:8]  # random; short, as names of sockets must be


def mounts_of(pod: Object, container: Object, state: State, sources: Sources) -> dict[str, Path]:
    """The folders that the container sees, all of them made. Raises CannotStart."""
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
    mounts = {}
    for mount in container.get("volumeMounts", ()):
        folder, path = _volume(volumes[mount["name"]], pod, state, sources), mount["mountPath"].rstrip("/")
        if (root := next((root for root in _VIEWED if path.startswith(f"{root}/")), None)) is not None:
            view = folder_of(pod, state) / "inputs" / container["name"] / Path(root).name
            mounts[root], folder = view, _input(folder, mount["subPath"], view / Path(path).relative_to(root))
        else:
            folder /= mount.get("subPath", "")
            folder.mkdir(parents=True, exist_ok=True)
        mounts[path] = folder
    return mounts


def _input(claim: Path, name: str, view: Path) -> Path:
    """The view of one folder of a claim: hard links to its files, or copies where the file systems differ.

    A container asks for its mounts more than once (its probes do), so a view that stands is left as it is. What is
    missing gives an empty folder, as a kubelet makes one. Raises CannotStart for a folder outside of its claim.
    """
    if view.is_dir():
        return view
    source = claim / name
    if not source.resolve().is_relative_to(claim.resolve()):
        raise CannotStart(f"{name} of claim {claim.name} leads out of it by a link; put the files themselves there")
    if source.is_dir():
        shutil.copytree(source, view, symlinks=True, copy_function=_linked)
    else:
        view.mkdir(parents=True, exist_ok=True)
    return view


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def translated(text: str, mounts: Mounts) -> str:
    """The text with each mountPath, where it stands as a path of its own or begins one, replaced by its folder."""
    if not mounts:
        return text
    longest_first = "|".join(re.escape(path) for path in sorted(mounts, key=len, reverse=True))
    return re.sub(rf"(?<![\w./-])({longest_first})(?![\w.-])", lambda found: str(mounts[found[1]]), text)


def scratch_of(pod: Object, folder: Path, state: State) -> Path:
    """The pod's scratch folder under a name in which sockets can be made: theirs have at most 108 bytes (unix(7)).

    multiprocessing, which a DataLoader's workers pass tensors by, adds some 35 to TMPDIR.
    """
    if len(str(folder)) <= LONGEST_SCRATCH:
        return folder
    alias = folder_of(pod, state) / "alias"
    if not alias.is_symlink():
        alias.symlink_to(tempfile.mkdtemp(prefix="slipway-"))
        (alias / "t").symlink_to(folder)
    return alias.readlink() / "t"


def give_back_scratch(pod: Object, state: State) -> None:
    """Remove the short name of its scratch folder, which lies outside of the state folder. What is in it stays."""
    if (alias := folder_of(pod, state) / "alias").is_symlink():
        shutil.rmtree(alias.readlink(), ignore_errors=True)
        alias.unlink()


def discard(pod: Object, state: State) -> None:
    """Remove what lived only as long as the pod."""
    give_back_scratch(pod, state)
    shutil.rmtree(folder_of(pod, state), ignore_errors=True)


def _volume(volume: Object, pod: Object, state: State, sources: Sources) -> Path:
    namespace = pod["metadata"]["namespace"]
    if (claim := volume.get("persistentVolumeClaim")) is not None:
        return state.claim(namespace, str(claim["claimName"]))
    own = folder_of(pod, state) / str(volume["name"])
    if "emptyDir" in volume:
        return own
    if (config := volume.get("configMap")) is not None:
        return _written(own, sources.of("ConfigMap", namespace, config["name"]))
    if (secret := volume.get("secret")) is not None:
        return _written(own, sources.of("Secret", namespace, secret["secretName"]))
    if (given := volume.get("downwardAPI")) is not None:
        items = {item["path"]: field_of(pod, item["fieldRef"]["fieldPath"]).encode() for item in given["items"]}
        return _written(own, items)
    raise CannotStart(f"volume {volume['name']}: a process cannot have a volume of this type")


def field_of(pod: Object, path: str) -> str:
    """A field of the pod by the downward API. Raises CannotStart for one that it does not give here."""
    meta = pod["metadata"]
    known = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta["namespace"],
        "metadata.uid": meta["uid"],
        "status.podIP": pod["status"]["podIP"],
    }
    if path in known:
        return str(known[path])
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path)
    if keyed is None:
        raise CannotStart(f"a process cannot have the field {path}")
    return str(meta.get(keyed[1], {}).get(keyed[2], ""))


def _written(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        if not path.exists():
            path.touch(mode=0o600)
            path.write_bytes(content)
            path.chmod(0o400)
    return folder


def port_of(container: Object, port: int | str) -> int:
    """The number of a container's port, which may be given by name. Raises CannotStart."""
    if isinstance(port, int):
        return port
    found = next((one["containerPort"] for one in container.get("ports", ()) if one.get("name") == port), None)
    if found is None:
        raise CannotStart(f"container {container['name']} has no port named {port!r}")
    return int(found)
