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
from slipway.local.state import StateFolder
from slipway.plan.deployment.manifests import HTTP_PORT
from slipway.plan.taskinput import TaskInput, task_text

_INHERITED = ("PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "USER", "LOGNAME")
"""Variables of this process that pods see as well: for finding Python, and locales. Pods see no others."""

RendezvousEndpoint = tuple[str, int]
"""Address and port of the rendezvous of a Job's torchrun agents."""


class Allocation(NamedTuple):
    """Resources of this machine that a pod uses. rendezvous: of its Job; devices: CUDA_VISIBLE_DEVICES."""

    rendezvous: RendezvousEndpoint | None = None
    devices: str = ""


def build_image_environment(address: str) -> dict[str, str]:
    """Return what the image would define: this Python, and one network interface with the pod's address."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    return {
        **inherited,
        "PATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PET_LOCAL_ADDR": address,
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        TRITON_ENV: f"{address}:{HTTP_PORT}",
    }


def build_environment(
    pod: Object, container: Object, *, mounts: Mounts, message: Path, sources: Sources, allocation: Allocation
) -> dict[str, str]:
    """Return all variables of the container, a long task included. Raises ContainerConfigError.

    message: file that replaces the path of the termination message.
    """
    folders = {**mounts, TERMINATION_LOG: message}
    variables = build_image_environment(pod["status"]["podIP"])
    variables["CUDA_VISIBLE_DEVICES"] = allocation.devices
    variables |= {FOLDER_ENV[path]: str(folder) for path, folder in folders.items() if path in FOLDER_ENV}
    for source in container.get("envFrom", ()):
        variables |= _read_all_keys(source, pod, sources)
    for variable in container.get("env", ()):
        value = _read_value(variable, pod, sources)
        if value is None:
            continue
        if variable["name"] == TASK_ENV:
            value = task_text(pod, container) or ""
            value = value if allocation.rendezvous is None else _set_rendezvous(value, allocation.rendezvous)
        variables[variable["name"]] = translate_paths(expand_variables(value, variables), mounts)
    return variables


def move_long_task_to_file(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the environment of a process; a task that is too long for a variable is written to a file in the folder.

    The file that the pod mounts cannot be used: it names paths and a rendezvous of a cluster, not of this machine.
    """
    task = TaskInput(environment.get(TASK_ENV, ""))
    if not task.in_file:
        return dict(environment)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TASK_FILE).write_text(task.text, encoding="utf-8")
    return {**environment, TASK_ENV: task.value, FOLDER_ENV[TASK_DIR]: str(folder)}


def expand_variables(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` by a known variable and `$$` by `$` (Kubernetes API, Container.command)."""
    return re.sub(
        r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)",
        lambda found: "$" if found[1] is None else variables.get(found[1], found[0]),
        text,
    )


def _set_rendezvous(task: str, endpoint: RendezvousEndpoint) -> str:
    """Set the address of the first pod as rendezvous of a training task: no name server knows the pods."""
    read = parse_task(task)
    if not isinstance(read, TrainTask) or read.rendezvous.host is None:
        return task
    host, port = endpoint
    rendezvous = read.rendezvous.model_copy(update={"host": host, "port": port})
    return TaskInput.of(read.model_copy(update={"rendezvous": rendezvous})).text


def _read_value(variable: Object, pod: Object, sources: Sources) -> str | None:
    source = variable.get("valueFrom")
    if source is None:
        return str(variable.get("value", ""))
    if (field := source.get("fieldRef")) is not None:
        return read_pod_field(pod, field["fieldPath"])
    for kind, name in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
        if (selector := source.get(name)) is not None:
            return _read_key(kind, selector, pod, sources)
    raise ContainerConfigError(
        f"variable {variable['name']}: valueFrom {', '.join(source)} does not work without a cluster"
    )


def _read_key(kind: str, selector: Object, pod: Object, sources: Sources) -> str | None:
    content = sources.contents.get((kind, pod["metadata"]["namespace"], selector["name"]), {})
    if (value := content.get(selector["key"])) is not None:
        return value.decode()
    if selector.get("optional"):
        return None
    raise ContainerConfigError(
        f"{kind} {selector['name']} with key {selector['key']} is in no file; add its file with -f"
    )


def _read_all_keys(source: Object, pod: Object, sources: Sources) -> dict[str, str]:
    kind, name = ("ConfigMap", "configMapRef") if "configMapRef" in source else ("Secret", "secretRef")
    content = sources.get(kind, pod["metadata"]["namespace"], source[name]["name"])
    return {key: value.decode() for key, value in content.items()}


_VIEW_ROOTS = (STORE_DIR, HELD_OUT_DIR)
"""Below these a pod finds its inputs, and nothing else of the claim that holds them."""
MAX_SCRATCH_PATH = 70
"""Limit of characters of a scratch folder's path."""

Mounts = Mapping[str, Path]
"""Folders of one container by mountPath."""


class ContainerConfigError(Exception):
    """A container cannot be created as its pod describes it (CreateContainerConfigError)."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Contents by key of the ConfigMaps and Secrets of the files, by (kind, namespace, name)."""

    contents: Mapping[tuple[str, str, str], Mapping[str, bytes]] = field(default_factory=dict)

    def get(self, kind: str, namespace: str, name: str) -> Mapping[str, bytes]:
        """Return the contents by key. Raises ContainerConfigError if no file holds the object."""
        try:
            return self.contents[(kind, namespace, name)]
        except KeyError as error:
            raise ContainerConfigError(f"{kind} {name} is in no file; add its file with -f") from error


def pod_folder(pod: Object, state: StateFolder) -> Path:
    """Return the folder of the pod's own volumes and its containers' termination messages."""
    return state.pods / str(pod["metadata"]["uid"])[:8]  # random; short, as names of sockets must be


def make_mounts(pod: Object, container: Object, state: StateFolder, sources: Sources) -> dict[str, Path]:
    """Create the folders of the container's mounts, and return them by mountPath. Raises ContainerConfigError."""
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
    mounts = {}
    for mount in container.get("volumeMounts", ()):
        folder, path = _make_volume(volumes[mount["name"]], pod, state, sources), mount["mountPath"].rstrip("/")
        if (root := next((root for root in _VIEW_ROOTS if path.startswith(f"{root}/")), None)) is not None:
            view = pod_folder(pod, state) / "inputs" / container["name"] / Path(root).name
            mounts[root], folder = view, _make_view(folder, mount["subPath"], view / Path(path).relative_to(root))
        else:
            folder /= mount.get("subPath", "")
            folder.mkdir(parents=True, exist_ok=True)
        mounts[path] = folder
    return mounts


def _make_view(claim: Path, name: str, view: Path) -> Path:
    """Create a view of one folder of a claim: hard links to its files, or copies if the file systems differ.

    An existing view stays as it is: mounts are made again for each probe. A missing folder gives an empty one, as
    with a kubelet. Raises ContainerConfigError for a folder outside of its claim.
    """
    if view.is_dir():
        return view
    source = claim / name
    if not source.resolve().is_relative_to(claim.resolve()):
        raise ContainerConfigError(
            f"claim {claim.name}: {name} is a link that leads out of the claim; copy the files into it"
        )
    if source.is_dir():
        shutil.copytree(source, view, symlinks=True, copy_function=_link_or_copy)
    else:
        view.mkdir(parents=True, exist_ok=True)
    return view


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def translate_paths(text: str, mounts: Mounts) -> str:
    """Replace each mountPath by its folder, where it is a path or the start of one."""
    if not mounts:
        return text
    longest_first = "|".join(re.escape(path) for path in sorted(mounts, key=len, reverse=True))
    return re.sub(rf"(?<![\w./-])({longest_first})(?![\w.-])", lambda found: str(mounts[found[1]]), text)


def short_scratch_path(pod: Object, folder: Path, state: StateFolder) -> Path:
    """Return a path of the pod's scratch folder that is short enough for sockets: at most 108 bytes (unix(7)).

    multiprocessing, by which the workers of a DataLoader pass tensors, adds some 35 bytes to TMPDIR.
    """
    if len(str(folder)) <= MAX_SCRATCH_PATH:
        return folder
    alias = pod_folder(pod, state) / "alias"
    if not alias.is_symlink():
        alias.symlink_to(tempfile.mkdtemp(prefix="slipway-"))
        (alias / "t").symlink_to(folder)
    return alias.readlink() / "t"


def remove_scratch_alias(pod: Object, state: StateFolder) -> None:
    """Remove the link to the scratch folder, which lies outside of the state folder; the files stay."""
    if (alias := pod_folder(pod, state) / "alias").is_symlink():
        shutil.rmtree(alias.readlink(), ignore_errors=True)
        alias.unlink()


def remove_pod_folder(pod: Object, state: StateFolder) -> None:
    """Remove the files that exist only as long as the pod."""
    remove_scratch_alias(pod, state)
    shutil.rmtree(pod_folder(pod, state), ignore_errors=True)


def _make_volume(volume: Object, pod: Object, state: StateFolder, sources: Sources) -> Path:
    namespace = pod["metadata"]["namespace"]
    if (claim := volume.get("persistentVolumeClaim")) is not None:
        return state.claim(namespace, str(claim["claimName"]))
    own = pod_folder(pod, state) / str(volume["name"])
    if "emptyDir" in volume:
        return own
    if (config := volume.get("configMap")) is not None:
        return _write_files(own, sources.get("ConfigMap", namespace, config["name"]))
    if (secret := volume.get("secret")) is not None:
        return _write_files(own, sources.get("Secret", namespace, secret["secretName"]))
    if (downward := volume.get("downwardAPI")) is not None:
        items = {
            item["path"]: read_pod_field(pod, item["fieldRef"]["fieldPath"]).encode() for item in downward["items"]
        }
        return _write_files(own, items)
    raise ContainerConfigError(f"volume {volume['name']}: this type of volume does not work without a cluster")


def read_pod_field(pod: Object, path: str) -> str:
    """Return a field of the pod as the downward API does. Raises ContainerConfigError for an unsupported field."""
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
        raise ContainerConfigError(f"field {path}: the downward API does not provide it without a cluster")
    return str(meta.get(keyed[1], {}).get(keyed[2], ""))


def _write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        if not path.exists():
            path.touch(mode=0o600)
            path.write_bytes(content)
            path.chmod(0o400)
    return folder


def resolve_port(container: Object, port: int | str) -> int:
    """Return the number of a container's port, which may be named. Raises ContainerConfigError."""
    if isinstance(port, int):
        return port
    found = next((one["containerPort"] for one in container.get("ports", ()) if one.get("name") == port), None)
    if found is None:
        raise ContainerConfigError(f"container {container['name']} has no port named {port!r}")
    return int(found)
