"""Validation of files for a run without a cluster: each unsupported field is reported before anything starts."""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from slipway.api.kinds import (
    ARTIFACT_STORE,
    COMPRESSION_PLUGIN,
    GPU_POOL,
    MODEL_DEPLOYMENT,
    PVC,
    TRAINING_JOB,
    Key,
    Kind,
    Object,
)
from slipway.local.environment import Sources
from slipway.reconcile.references import stores_of
from slipway.sdk.plugin import BrokenPlugin

SOURCES = ("ConfigMap", "Secret")
IGNORED = ("Namespace",)
"""Other kinds that repositories hold beside ours, and that need nothing without a cluster."""
_SUPPORTED = frozenset(
    kind.kind for kind in (TRAINING_JOB, MODEL_DEPLOYMENT, ARTIFACT_STORE, GPU_POOL, COMPRESSION_PLUGIN, PVC)
)

_NODES = {
    "nodeSelector": "there is one machine to run on",
    "serviceAccountName": "there are no service accounts",
    "imagePullSecrets": "no image is pulled",
    "priorityClassName": "there is no scheduler",
}
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_CLAIM_FIELDS = ("volumeName", "dataSource", "dataSourceRef", "selector", "volumeAttributesClassName")


class FieldProblem(NamedTuple):
    """One field of an object, what is wrong with it and what to do. field: its path in the object."""

    object: Object
    field: str
    problem: str
    cure: str

    def __str__(self) -> str:
        name = f"{self.object['kind']} {self.object['metadata']['name']}"
        return f"{name}: {self.field}: {self.problem}; {self.cure}"


@dataclass(frozen=True, slots=True)
class Available:
    """Objects by key, ConfigMaps and Secrets, plugins, and counts of devices by the name of their resource.

    broken: plugins that cannot be loaded, by name. devices: None if processors replace them.
    """

    objects: Mapping[Key, Object]
    sources: Sources
    plugins: Mapping[str, Object]
    broken: Mapping[str, BrokenPlugin]
    devices: Mapping[str, int] | None

    def has(self, kind: Kind, namespace: str, name: str) -> bool:
        return Key(kind, namespace if kind.namespaced else "", name) in self.objects


def find_unsupported_fields(objects: Sequence[Object], available: Available) -> list[FieldProblem]:
    """Return every field that a run without a cluster cannot honour, in the order of the files."""
    return [problem for obj in objects for problem in _find_problems(obj, available)]


def find_foreign_kinds(objects: Sequence[Object]) -> list[FieldProblem]:
    """Return a problem for each object of a kind that nothing acts on without a cluster."""
    return [
        FieldProblem(
            obj, "kind", f"{obj['kind']} has no effect without a cluster", "remove the object, or use a cluster"
        )
        for obj in objects
        if obj["kind"] not in (*_SUPPORTED, *SOURCES, *IGNORED)
    ]


def find_invalid_contents(objects: Sequence[Object]) -> list[FieldProblem]:
    """Return the problems of ConfigMaps and Secrets that an API server would refuse: keys become names of files."""
    return [problem for obj in objects if obj["kind"] in SOURCES for problem in _find_invalid_keys(obj)]


def _find_invalid_keys(obj: Object) -> Iterator[FieldProblem]:
    coded = {"data", "binaryData"} if obj["kind"] == "Secret" else {"binaryData"}
    for field in ("data", "binaryData", "stringData"):
        content = obj.get(field)
        if content is not None and not isinstance(content, dict):
            yield FieldProblem(obj, field, "is not a mapping", "write `key: text` lines")
            continue
        for key, text in (content or {}).items():
            place = f"{field}.{key}"
            if not _KEY.fullmatch(key) or key.startswith("..") or key == ".":
                cure = "use only letters, digits, -, _ and ."
                yield FieldProblem(obj, field, f"{key!r:.80} is not a valid key: it becomes the name of a file", cure)
            elif not isinstance(text, str):
                yield FieldProblem(obj, place, "is not a text", "write it in quotes")
            elif field in coded and not _is_base64(text):
                cure = "encode it, or move it to stringData" if obj["kind"] == "Secret" else "encode it"
                yield FieldProblem(obj, place, "is not base64", cure)


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        return False
    return True


def _find_problems(obj: Object, available: Available) -> Iterator[FieldProblem]:
    match obj["kind"]:
        case TRAINING_JOB.kind:
            yield from _check_training(obj, available)
        case MODEL_DEPLOYMENT.kind:
            yield from _check_deployment(obj, available)
        case COMPRESSION_PLUGIN.kind:
            yield from _check_plugin(obj, available)
        case ARTIFACT_STORE.kind:
            yield from _check_store(obj, available)
        case PVC.kind:
            yield from _check_claim(obj)


def _check_training(obj: Object, available: Available) -> Iterator[FieldProblem]:
    spec = obj["spec"]
    if spec.get("image"):
        cure = "remove it, and install its packages into this Python environment"
        yield FieldProblem(obj, "spec.image", "images are not run without a cluster", cure)
    yield from _check_named_stores(obj, available)
    for number, name in enumerate(spec.get("pools", ())):
        yield from _check_pool(obj, f"spec.pools[{number}]", name, available)
    template = spec.get("podTemplate", {})
    yield from _check_template(obj, "spec.podTemplate", template, available)
    script = spec["entrypoint"].get("script", {}).get("path")
    mounted = [mount["mountPath"].rstrip("/") + "/" for mount in template.get("volumeMounts", ())]
    if script and not script.startswith(tuple(mounted)) and not Path(script).is_file():
        problem = f"{script} is neither on this machine nor on a volume of podTemplate"
        yield FieldProblem(
            obj, "spec.entrypoint.script.path", problem, "correct the path, or mount the volume that holds it"
        )


def _check_deployment(obj: Object, available: Available) -> Iterator[FieldProblem]:
    spec, namespace = obj["spec"], obj["metadata"]["namespace"]
    yield from _check_named_stores(obj, available)
    job = spec["model"].get("trainingJob")
    if job and not available.has(TRAINING_JOB, namespace, job):
        problem = f'TrainingJob "{job}" of namespace "{namespace}" is in no file and not in the state folder'
        yield FieldProblem(obj, "spec.model.trainingJob", problem, "add its file with -f")
    for number, step in enumerate(spec.get("compression", {}).get("steps", ())):
        field, name = f"spec.compression.steps[{number}].plugin", step["plugin"]
        if name in available.broken:
            yield FieldProblem(
                obj, field, f'plugin "{name}" cannot be loaded: {available.broken[name].error}', "fix or reinstall it"
            )
        elif not available.has(COMPRESSION_PLUGIN, "", name):
            present = ", ".join(sorted(available.plugins)) or "none"
            problem = f'plugin "{name}" is not installed in {sys.prefix}; installed: {present}'
            yield FieldProblem(obj, field, problem, "correct the name, or install its package there with pip")
    yield from _check_template(
        obj, "spec.serving.podTemplate", spec.get("serving", {}).get("podTemplate", {}), available
    )


def _check_named_stores(obj: Object, available: Available) -> Iterator[FieldProblem]:
    for use, name in stores_of(obj):
        if not available.has(ARTIFACT_STORE, obj["metadata"]["namespace"], name):
            problem = f'ArtifactStore "{name}" is in no file'
            yield FieldProblem(obj, use.field, problem, "add its file with -f, or remove the field")


def _check_pool(obj: Object, field: str, name: str, available: Available) -> Iterator[FieldProblem]:
    if available.devices is None:
        return
    pool = available.objects.get(Key(GPU_POOL, "", name))
    if pool is None:
        yield FieldProblem(obj, field, f'GPUPool "{name}" is in no file', "add its file with -f, or use --cpu")
        return
    resource = pool["spec"].get("resource")
    if resource is None:
        return
    wanted, here = (
        int(resource.get("perPod", 1)) * int(obj["spec"].get("nodes", 1)),
        available.devices.get(resource["name"], 0),
    )
    if wanted > here:
        problem = f'GPUPool "{name}" needs {wanted} {resource["name"]}, and this machine has {here}'
        yield FieldProblem(obj, field, problem, "use --cpu to run on processors, or lower spec.nodes")


def _check_plugin(obj: Object, available: Available) -> Iterator[FieldProblem]:
    spec = obj["spec"]
    here = available.plugins.get(spec["entryPoint"])
    if here is None:
        yield FieldProblem(
            obj,
            "spec.entryPoint",
            f'plugin "{spec["entryPoint"]}" is not installed here',
            "install its package with pip",
        )
    elif here["spec"]["version"] != spec["version"]:
        problem = f'version "{spec["version"]}" is not installed here; installed: "{here["spec"]["version"]}"'
        yield FieldProblem(obj, "spec.version", problem, "install that version, or remove the file")


def _check_store(obj: Object, available: Available) -> Iterator[FieldProblem]:
    claim = obj["spec"].get("persistentVolumeClaim", {}).get("claimName")
    if claim and not available.has(PVC, obj["metadata"]["namespace"], claim):
        problem = f'PersistentVolumeClaim "{claim}" is in no file'
        yield FieldProblem(obj, "spec.persistentVolumeClaim.claimName", problem, "add its file with -f")
    s3 = obj["spec"].get("s3", {})
    if s3.get("serviceAccountName"):
        cure = "use secretRef with a Secret that holds keys"
        yield FieldProblem(obj, "spec.s3.serviceAccountName", "there are no service accounts without a cluster", cure)
    secret = s3.get("secretRef", {}).get("name")
    if secret and ("Secret", obj["metadata"]["namespace"], secret) not in available.sources.contents:
        yield FieldProblem(obj, "spec.s3.secretRef.name", f'Secret "{secret}" is in no file', "add its file with -f")


def _check_claim(obj: Object) -> Iterator[FieldProblem]:
    spec = obj.get("spec", {})
    for number, mode in enumerate(spec.get("accessModes", ())):
        if mode == "ReadWriteOncePod":
            yield FieldProblem(
                obj, f"spec.accessModes[{number}]", "a folder cannot be limited to one pod", "use ReadWriteMany"
            )
    for field in _CLAIM_FIELDS:
        if field in spec:
            yield FieldProblem(obj, f"spec.{field}", "a claim is a folder of the state folder here", "remove it")
    if spec.get("volumeMode") == "Block":
        yield FieldProblem(obj, "spec.volumeMode", "there are no block devices without a cluster", "remove it")


def _check_template(obj: Object, path: str, template: Object, available: Available) -> Iterator[FieldProblem]:
    namespace = obj["metadata"]["namespace"]
    for field, why in _NODES.items():
        if template.get(field):
            yield FieldProblem(obj, f"{path}.{field}", f"{why} without a cluster", "remove it")
    for place, kind, name in _iterate_references(template):
        if kind == PVC.kind and not available.has(PVC, namespace, name):
            yield FieldProblem(
                obj, f"{path}.{place}", f'PersistentVolumeClaim "{name}" is in no file', "add its file with -f"
            )
        elif kind in SOURCES and (kind, namespace, name) not in available.sources.contents:
            yield FieldProblem(
                obj, f"{path}.{place}", f'{kind} "{name}" is in no file', "add its file or its kustomization with -f"
            )
    yield from _check_nested_mounts(
        obj, path, [mount["mountPath"].rstrip("/") for mount in template.get("volumeMounts", ())]
    )
    for number, volume in enumerate(template.get("volumes", ())):
        if volume.get("emptyDir", {}).get("sizeLimit"):
            field = f"{path}.volumes[{number}].emptyDir.sizeLimit"
            yield FieldProblem(obj, field, "the size of a folder cannot be limited without a cluster", "remove it")


def _check_nested_mounts(obj: Object, path: str, mounts: Sequence[str]) -> Iterator[FieldProblem]:
    """Yield mounts below another mount: each is a folder of its own, so the outer one would not hold the inner one."""
    for number, inner in enumerate(mounts):
        outer = next((one for one in mounts if inner.startswith(f"{one}/")), None)
        if outer is not None:
            problem = f'"{inner}" is inside "{outer or "/"}", where another volume is mounted'
            cure = "mount it outside of the other volume"
            yield FieldProblem(obj, f"{path}.volumeMounts[{number}].mountPath", problem, cure)


def _iterate_references(template: Object) -> Iterator[tuple[str, str, str]]:
    """Yield (field, kind, name) of each object that must exist before the pod can start."""
    for number, volume in enumerate(template.get("volumes", ())):
        for field, kind, key in (
            ("configMap", "ConfigMap", "name"),
            ("secret", "Secret", "secretName"),
            ("persistentVolumeClaim", PVC.kind, "claimName"),
        ):
            if field in volume:
                yield f"volumes[{number}].{field}.{key}", kind, volume[field][key]
    for number, variable in enumerate(template.get("env", ())):
        for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
            selector = variable.get("valueFrom", {}).get(field)
            if selector and not selector.get("optional"):
                yield f"env[{number}].valueFrom.{field}.name", kind, selector["name"]
    for number, source in enumerate(template.get("envFrom", ())):
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if field in source:
                yield f"envFrom[{number}].{field}.name", kind, source[field]["name"]
