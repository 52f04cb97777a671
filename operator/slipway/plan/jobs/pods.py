"""Whose word counts: the pods of a Job, told from those that merely carry its UID.

Anybody who may create pods in a namespace may write any ownerReference, any label and any name into them. A pod speaks
for a Job only where it is what the Job controller makes of that Job's template: its controller, namespace, name and
index, and what it runs. Of two for one index neither is believed. docs/explanation/trust.md says what remains.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from sys import intern
from typing import Any, NamedTuple

from slipway.api.errors import SpecError
from slipway.api.kinds import JOB, POD, Object
from slipway.api.tasks import OUT_DIR, STORE_DIR
from slipway.plan.observation import Observation, controller_uid
from slipway.plan.owner import NAME_CONFLICT, ROLE_LABEL, Owner
from slipway.plan.plan import Settings
from slipway.plan.pods import CONTAINER

INDEX_ANNOTATION = INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
WORKLOAD = "workload"
"""Field of a trimmed object's spec that holds what `workload_of` says of it."""
TEMPLATE = "templateDigest"
"""Field of a trimmed Job's spec that holds what `template_of` says of it."""

_INDEX = re.compile(r"[0-9]{1,9}")
"""A label may hold 63 digits, whoever set it; no Job has so many pods."""
_STEERING = re.compile("(SLIPWAY|PET|TORCHELASTIC|LD|OPENSSL)_|PYTHON|(PATH|ENV|BASH_ENV|GCONV_PATH|GLIBC_TUNABLES)$")

"""Variables by which the runtime, torchrun, an interpreter or the loader is told what to do and which code to run."""
_LONGEST_PREFIX = 58
"""Names that the API server completes are 63 characters long, five of them random (k8s.io/apiserver names)."""
_CODE = ("/bin", "/lib", "/lib32", "/lib64", "/opt", "/sbin", "/usr")
"""Where images keep what runs. Injectors mount elsewhere: /var/run/secrets, /etc/ssl/certs, /vault."""
_RUN_BY = ("name", "command", "args", "workingDir", "lifecycle", "envFrom")
_FILLED_IN = frozenset({"defaultMode", "apiVersion", "sizeLimit", "medium", "readOnly"})
_OWN_LABELS = ("slipway.dev/", "app.kubernetes.io/managed-by")
_SHARED_NAMESPACES = ("hostPID", "hostIPC", "hostNetwork", "shareProcessNamespace")


class JobPods(NamedTuple):
    """believed: in the order of their names. refused: why each other pod under the Job's UID is not believed."""

    believed: Sequence[Object]
    refused: Sequence[str]


def pods_of(job: Object, observation: Observation) -> JobPods:
    """The pods that the Job controller made for this Job, as far as anything in them can tell."""
    meta = job["metadata"]
    believed, refused = [], []
    for pod in observation.view.owned(POD, meta["namespace"], meta["uid"]):
        if (why := _refusal(pod, job, observation.settings)) is None:
            believed.append(pod)
        else:
            refused.append(f"pod {pod['metadata']['name']} {why}")
    indices = [index_of(pod) for pod in believed] if job["spec"].get("completionMode") == "Indexed" else []
    twice = sorted({index for index in indices if index is not None and indices.count(index) > 1})
    if twice:
        names = [pod["metadata"]["name"] for pod in believed if index_of(pod) in twice]
        refused.append(f"pods {', '.join(names[:8])} all claim an index that one pod has")
        believed = [pod for pod in believed if index_of(pod) not in twice]
    return JobPods(believed, refused)


def own_job(owner: Owner, live: Object, rendered: Object, settings: Settings) -> None:
    """Raises SpecError (NameConflict) for a Job under our name and ownerReference that is not the one we make."""
    differs = _difference(workload_of(live), workload_of(rendered), settings)
    if differs is None and template_of(live) != template_of(rendered):
        differs = "its labels, containers, mounts or volumes differ"
    if differs is not None:
        name = live["metadata"]["name"]
        raise SpecError(
            "metadata.name",
            f"{JOB} {name} carries this {owner.kind}'s UID and is not the one that Slipway makes: {differs}",
            f"delete Job {name}; where an admission webhook changed it, exclude Slipway's Jobs from the webhook",
            reason=NAME_CONFLICT,
        )


def index_of(pod: Object) -> int | None:
    meta = pod["metadata"]
    text = meta.get("labels", {}).get(INDEX_LABEL) or meta.get("annotations", {}).get(INDEX_ANNOTATION)
    return int(text) if text is not None and _INDEX.fullmatch(text) else None


def image_id_of(pods: Sequence[Object]) -> str | None:
    """What the kubelet calls the image of the first pod's container that works; None where it does not tell."""
    for pod in pods:
        for one in pod.get("status", {}).get("containerStatuses", ()):
            if one["name"] == CONTAINER and one.get("imageID"):
                return str(one["imageID"])[:512]
    return None


def workload_of(obj: Object) -> str:
    """What a Job's pods run, or a pod runs, as `part=value` words; equal strings where it is the same.

    image, the last, is the image's name; the other parts are digests. Left out is what admission legitimately adds:
    sidecars and init containers that mount no volume of Slipway's, variables that steer no interpreter, and volumes.
    """
    spec = obj.get("spec", {})
    if WORKLOAD in spec:
        return str(spec[WORKLOAD])
    if obj["kind"] == JOB.kind:
        spec = spec.get("template", {}).get("spec", {})
    containers = spec.get("containers", ())
    main: Mapping[str, Any] = next((one for one in containers if one["name"] == CONTAINER), {})
    sources = {
        volume["name"]: [sorted(volume), volume.get("persistentVolumeClaim", {}).get("claimName")]
        for volume in spec.get("volumes", ())
    }
    # Whoever may mount folders of the Node has the Node.
    host = {volume["name"] for volume in spec.get("volumes", ()) if "hostPath" in volume}
    parts = {
        "command": [main.get(field) for field in ("command", "args", "workingDir", "lifecycle")],
        "environment": [
            *(_variable(one) for one in main.get("env", ()) if _STEERING.match(one["name"])),
            main.get("envFrom"),
        ],
        "store": [
            [mount["mountPath"], mount.get("subPath"), bool(mount.get("readOnly")), sources.get(mount["name"])]
            for mount in main.get("volumeMounts", ())
            if mount["mountPath"].startswith((STORE_DIR, OUT_DIR))
            or (mount["name"] not in host and _hides_code(mount["mountPath"]))
        ],
        "containers": [
            {field: value for field, value in one.items() if field in ("name", "image", "command", "args")}
            for one in (*spec.get("initContainers", ()), *containers)
            if one is not main and _mounts_ours(one)
        ],
        "namespaces": [field for field in _SHARED_NAMESPACES if spec.get(field)],
    }
    digests = " ".join(f"{name}={_digest(value)}" for name, value in parts.items())
    return intern(f"{digests} image={main.get('image', '')}")  # last: whoever names an image may put anything into it


def template_of(job: Object) -> str:
    """A digest of all that decides what the pods of a Job run, without what the API server fills in.

    Nobody but a forger changes a Job that Slipway is about to make: unlike of a pod, nothing is left to webhooks but
    resources, scheduling and labels of others. Only what carries our labels is watched.
    """
    spec = job.get("spec", {})
    if TEMPLATE in spec:
        return str(spec[TEMPLATE])
    template = spec.get("template", {})
    pod = template.get("spec", {})
    labels = [_own_labels(one.get("metadata", {})) for one in (job, template)]
    containers = [
        {
            **{field: one.get(field) or None for field in _RUN_BY},
            "env": [_written(_variable(variable)) for variable in one.get("env", ())],
            "mounts": [_written(mount) for mount in one.get("volumeMounts", ())],
        }
        for one in (*pod.get("initContainers", ()), *pod.get("containers", ()))
    ]
    volumes = [_without_defaults(volume) for volume in pod.get("volumes", ())]
    return _digest([labels, containers, volumes, [field for field in _SHARED_NAMESPACES if pod.get(field)]])


def _own_labels(meta: Mapping[str, Any]) -> dict[str, str]:
    labels = meta.get("labels") or {}
    # One Job may do the work of two roles: data sets of one content are prepared once.
    return {name: value for name, value in labels.items() if name.startswith(_OWN_LABELS) and name != ROLE_LABEL}


def _written(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without empty values, which the API server leaves out."""
    return {name: value for name, value in fields.items() if value}


def _without_defaults(value: Any) -> Any:
    """A volume without what the API server fills in, or writes in another way."""
    if isinstance(value, dict):
        return {k: _without_defaults(v) for k, v in value.items() if k not in _FILLED_IN}
    return [_without_defaults(one) for one in value] if isinstance(value, list) else value


def _refusal(pod: Object, job: Object, settings: Settings) -> str | None:
    """Why the pod is not one that the Job controller made of this Job; None where it may be."""
    meta, labels = pod["metadata"], pod["metadata"].get("labels") or {}
    name = job["metadata"]["name"]
    if meta["namespace"] != job["metadata"]["namespace"] or controller_uid(pod) != job["metadata"]["uid"]:
        return f"is not controlled by Job {name}"
    index = index_of(pod)
    indexed = job["spec"].get("completionMode") == "Indexed"
    if indexed and (index is None or index >= int(job["spec"].get("completions", 1))):
        return f"has no index of Job {name}"
    if not re.fullmatch(rf"{re.escape(name_prefix(name, index if indexed else None))}[a-z0-9]{{1,10}}", meta["name"]):
        return f"has no name that the Job controller gives to pods of Job {name}"
    if labels.get(JOB_NAME_LABEL, name) != name:
        return f"carries the label of Job {labels[JOB_NAME_LABEL]}"
    differs = _difference(workload_of(pod), workload_of(job), settings)
    return f"is not what Job {name} says: {differs}" if differs else None


def name_prefix(job: str, index: int | None) -> str:
    """What the API server adds five characters to (podGenerateNameWithIndex in the Job controller)."""
    end = "-" if index is None else f"-{index}-"
    return f"{job}{end}"[:_LONGEST_PREFIX] if index is None else f"{job[: _LONGEST_PREFIX - len(end)]}{end}"


def _difference(one: str, other: str, settings: Settings) -> str | None:
    """The first part in which two workloads differ, in words. one: that of what lives."""
    if one == other:
        return None
    found, wanted = _parts(one), _parts(other)
    if not _same_image(found["image"], wanted["image"], settings):
        return (
            f"its image is {found['image'] or 'none'}, not {wanted['image']}; where a webhook rewrites images, name the"
            " mirror in the chart's image.mirrors"
        )
    return next((f"its {name} differs" for name in wanted if name != "image" and found[name] != wanted[name]), None)


def _same_image(found: str, wanted: str, settings: Settings) -> bool:
    """Equal, or pulled by way of a mirror of the settings: `MIRROR/IMAGE`, with the registry's host or without."""
    host, _, path = wanted.partition("/")
    names = (wanted, path) if path and ("." in host or ":" in host or host == "localhost") else (wanted,)
    return found == wanted or any(
        found == f"{mirror.rstrip('/')}/{name}" for mirror in settings.image_mirrors for name in names
    )


def _parts(workload: str) -> dict[str, str]:
    digests, _, image = workload.partition(" image=")
    return {"image": image, **{name: value for name, _, value in (word.partition("=") for word in digests.split())}}


def _variable(variable: Mapping[str, Any]) -> Mapping[str, Any]:
    """The variable without what the API server fills in."""
    source = variable.get("valueFrom", {})
    if "fieldRef" not in source:
        return variable
    return {**variable, "valueFrom": {"fieldRef": {"fieldPath": source["fieldRef"]["fieldPath"]}}}


def _hides_code(path: str) -> bool:
    """Whether a mount lies over the interpreter, a library, the loader's configuration or our runtime."""
    path = posixpath.normpath(path)
    return path == "/" or any(f"{path}/".startswith(f"{code}/") for code in _CODE) or path.startswith("/etc/ld.so")


def _mounts_ours(container: Mapping[str, Any]) -> bool:
    names: Iterator[str] = (mount["name"] for mount in container.get("volumeMounts", ()))
    return any(name.startswith("slipway-") for name in names)


def _digest(value: object) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
