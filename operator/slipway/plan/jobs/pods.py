"""The trusted pods of a Job, and the others that have its UID.

Any user who may create pods in a namespace may write any ownerReference, label and name. A pod is trusted only if it is
what the Job controller makes from the Job's template: its controller, namespace, name and index, and its workload. Of
two pods with one index neither is trusted. docs/explanation/trust.md describes the remaining risks.
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
"""Field of a trimmed object's spec with the result of `workload_of`."""
TEMPLATE = "templateDigest"
"""Field of a trimmed Job's spec with the result of `template_of`."""

_INDEX = re.compile(r"[0-9]{1,9}")
"""A completion index: a label may have 63 digits, but no Job has that many pods."""
_CONTROL_VARIABLES = re.compile(
    "(SLIPWAY|PET|TORCHELASTIC|LD|OPENSSL)_|PYTHON|(PATH|ENV|BASH_ENV|GCONV_PATH|GLIBC_TUNABLES)$"
)

"""Variables that control the runtime, torchrun, an interpreter or the loader, and the code that they run."""
_LONGEST_PREFIX = 58
"""Longest prefix of a generated name, which has 63 characters, five of them random (k8s.io/apiserver names)."""
_CODE = ("/bin", "/lib", "/lib32", "/lib64", "/opt", "/sbin", "/usr")
"""Folders of the code in images. Injectors mount other ones: /var/run/secrets, /etc/ssl/certs, /vault."""
_RUN_BY = ("name", "command", "args", "workingDir", "lifecycle", "envFrom")
_FILLED_IN = frozenset({"defaultMode", "apiVersion", "sizeLimit", "medium", "readOnly"})
_OWN_LABELS = ("slipway.dev/", "app.kubernetes.io/managed-by")
_SHARED_NAMESPACES = ("hostPID", "hostIPC", "hostNetwork", "shareProcessNamespace")


class JobPods(NamedTuple):
    """The pods with a Job's UID. trusted: sorted by name. refused: why each other pod is not trusted."""

    trusted: Sequence[Object]
    refused: Sequence[str]


def pods_of(job: Object, observation: Observation) -> JobPods:
    """Return the pods that the Job controller made for this Job, as far as their fields show."""
    meta = job["metadata"]
    trusted, refused = [], []
    for pod in observation.view.owned(POD, meta["namespace"], meta["uid"]):
        if (why := _mismatch(pod, job, observation.settings)) is None:
            trusted.append(pod)
        else:
            refused.append(f"pod {pod['metadata']['name']} {why}")
    indices = [index_of(pod) for pod in trusted] if job["spec"].get("completionMode") == "Indexed" else []
    twice = sorted({index for index in indices if index is not None and indices.count(index) > 1})
    if twice:
        names = [pod["metadata"]["name"] for pod in trusted if index_of(pod) in twice]
        refused.append(f"pods {', '.join(names[:8])} all claim an index that one pod has")
        trusted = [pod for pod in trusted if index_of(pod) not in twice]
    return JobPods(trusted, refused)


def own_job(owner: Owner, live: Object, rendered: Object, settings: Settings) -> None:
    """Raise SpecError (NameConflict) for a Job with our name and ownerReference that differs from the rendered one."""
    differs = _difference(workload_of(live), workload_of(rendered), settings)
    if differs is None and template_of(live) != template_of(rendered):
        differs = "its labels, containers, mounts or volumes differ"
    if differs is not None:
        name = live["metadata"]["name"]
        raise SpecError(
            "metadata.name",
            f"{JOB} {name} has this {owner.kind} as its owner and is not the one that Slipway creates: {differs}",
            f"delete Job {name}; if an admission webhook changed it, exclude Slipway's Jobs from the webhook",
            reason=NAME_CONFLICT,
        )


def index_of(pod: Object) -> int | None:
    meta = pod["metadata"]
    text = meta.get("labels", {}).get(INDEX_LABEL) or meta.get("annotations", {}).get(INDEX_ANNOTATION)
    return int(text) if text is not None and _INDEX.fullmatch(text) else None


def image_id_of(pods: Sequence[Object]) -> str | None:
    """Return the image ID of the first pod's main container; None if the kubelet does not report it."""
    for pod in pods:
        for one in pod.get("status", {}).get("containerStatuses", ()):
            if one["name"] == CONTAINER and one.get("imageID"):
                return str(one["imageID"])[:512]
    return None


def workload_of(obj: Object) -> str:
    """Return the workload of a Job's pods, or of a pod, as words of the form `part=value`.

    The last part is the name of the image; the others are digests. It excludes legitimate additions by admission:
    sidecars and init containers that mount no volume of Slipway's, other variables, and volumes.
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
    # A user who may mount folders of the Node controls the Node.
    host = {volume["name"] for volume in spec.get("volumes", ()) if "hostPath" in volume}
    parts = {
        "command": [main.get(field) for field in ("command", "args", "workingDir", "lifecycle")],
        "environment": [
            *(_variable(one) for one in main.get("env", ()) if _CONTROL_VARIABLES.match(one["name"])),
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
    return intern(f"{digests} image={main.get('image', '')}")  # last, because the name of an image may be any text


def template_of(job: Object) -> str:
    """Return a digest of all fields that decide what the pods of a Job run, without defaults of the API server.

    A Job with another digest is a forgery: unlike in pods, webhooks may change only resources, scheduling and foreign
    labels. Only Jobs with our labels are watched.
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
    # One Job may do the work of two roles: equal data sets are prepared once.
    return {name: value for name, value in labels.items() if name.startswith(_OWN_LABELS) and name != ROLE_LABEL}


def _written(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields without empty values, which the API server omits."""
    return {name: value for name, value in fields.items() if value}


def _without_defaults(value: Any) -> Any:
    """Return a volume without values that the API server fills in or rewrites."""
    if isinstance(value, dict):
        return {k: _without_defaults(v) for k, v in value.items() if k not in _FILLED_IN}
    return [_without_defaults(one) for one in value] if isinstance(value, list) else value


def _mismatch(pod: Object, job: Object, settings: Settings) -> str | None:
    """Return why the pod is not one that the Job controller made for this Job; None if it may be."""
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
    return f"differs from the template of Job {name}: {differs}" if differs else None


def name_prefix(job: str, index: int | None) -> str:
    """Return the generateName of a pod (podGenerateNameWithIndex in the Job controller)."""
    end = "-" if index is None else f"-{index}-"
    return f"{job}{end}"[:_LONGEST_PREFIX] if index is None else f"{job[: _LONGEST_PREFIX - len(end)]}{end}"


def _difference(one: str, other: str, settings: Settings) -> str | None:
    """Describe the first difference of two workloads; None if they are equal. one: that of the live object."""
    if one == other:
        return None
    live, expected = _parts(one), _parts(other)
    if not _same_image(live["image"], expected["image"], settings):
        return (
            f"its image is {live['image'] or 'none'}, not {expected['image']}; if a webhook rewrites images, name the"
            " mirror in the chart's image.mirrors"
        )
    return next((f"its {name} differs" for name in expected if name != "image" and live[name] != expected[name]), None)


def _same_image(live: str, expected: str, settings: Settings) -> bool:
    """Return True for equal images, or one with a mirror of the settings: `MIRROR/IMAGE`, with or without the host."""
    host, _, path = expected.partition("/")
    names = (expected, path) if path and ("." in host or ":" in host or host == "localhost") else (expected,)
    return live == expected or any(
        live == f"{mirror.rstrip('/')}/{name}" for mirror in settings.image_mirrors for name in names
    )


def _parts(workload: str) -> dict[str, str]:
    digests, _, image = workload.partition(" image=")
    return {"image": image, **{name: value for name, _, value in (word.partition("=") for word in digests.split())}}


def _variable(variable: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the variable without defaults of the API server."""
    source = variable.get("valueFrom", {})
    if "fieldRef" not in source:
        return variable
    return {**variable, "valueFrom": {"fieldRef": {"fieldPath": source["fieldRef"]["fieldPath"]}}}


def _hides_code(path: str) -> bool:
    """Return True if a mount hides the interpreter, a library, the loader's configuration or the runtime."""
    path = posixpath.normpath(path)
    return path == "/" or any(f"{path}/".startswith(f"{code}/") for code in _CODE) or path.startswith("/etc/ld.so")


def _mounts_ours(container: Mapping[str, Any]) -> bool:
    names: Iterator[str] = (mount["name"] for mount in container.get("volumeMounts", ()))
    return any(name.startswith("slipway-") for name in names)


def _digest(value: object) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
