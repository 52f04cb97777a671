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
"""Kinds of others that stand in a repository beside ours and ask for nothing that is not so here."""
_TAKEN = frozenset(
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


class Refusal(NamedTuple):
    """field: its path in the object. cure: an imperative."""

    object: Object
    field: str
    problem: str
    cure: str

    def __str__(self) -> str:
        name = f"{self.object['kind']} {self.object['metadata']['name']}"
        return f"{name}: {self.field}: {self.problem}; {self.cure}"


@dataclass(frozen=True, slots=True)
class Offer:
    """What is here: objects by key, ConfigMaps and Secrets, plugins, and devices by the name of their resource.

    devices: None where processors stand in for any.
    """

    objects: Mapping[Key, Object]
    sources: Sources
    plugins: Mapping[str, Object]
    broken: Mapping[str, BrokenPlugin]
    devices: Mapping[str, int] | None

    def has(self, kind: Kind, namespace: str, name: str) -> bool:
        return Key(kind, namespace if kind.namespaced else "", name) in self.objects


def refusals(objects: Sequence[Object], offer: Offer) -> list[Refusal]:
    """All of them, in the order of the files."""
    return [refusal for obj in objects for refusal in _of(obj, offer)]


def foreign(objects: Sequence[Object]) -> list[Refusal]:
    """Objects of kinds that nothing here would act upon."""
    return [
        Refusal(obj, "kind", f"without a cluster nothing acts on a {obj['kind']}", "leave it out, or run on a cluster")
        for obj in objects
        if obj["kind"] not in (*_TAKEN, *SOURCES, *IGNORED)
    ]


def unfit(objects: Sequence[Object]) -> list[Refusal]:
    """ConfigMaps and Secrets that an API server would not take: their keys become names of files."""
    return [refusal for obj in objects if obj["kind"] in SOURCES for refusal in _unfit(obj)]


def _unfit(obj: Object) -> Iterator[Refusal]:
    coded = {"data", "binaryData"} if obj["kind"] == "Secret" else {"binaryData"}
    for field in ("data", "binaryData", "stringData"):
        content = obj.get(field)
        if content is not None and not isinstance(content, dict):
            yield Refusal(obj, field, "is no mapping", "write a line for each key: its text")
            continue
        for key, text in (content or {}).items():
            place = f"{field}.{key}"
            if not _KEY.fullmatch(key) or key.startswith("..") or key == ".":
                cure = "write letters, digits, -, _ and . alone"
                yield Refusal(obj, field, f"{key!r:.80} is no key: it becomes the name of a file", cure)
            elif not isinstance(text, str):
                yield Refusal(obj, place, "is no text", "write it in quotes")
            elif field in coded and not _is_base64(text):
                cure = "encode it, or write it under stringData" if obj["kind"] == "Secret" else "encode it"
                yield Refusal(obj, place, "is no base64", cure)


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        return False
    return True


def _of(obj: Object, offer: Offer) -> Iterator[Refusal]:
    match obj["kind"]:
        case TRAINING_JOB.kind:
            yield from _training(obj, offer)
        case MODEL_DEPLOYMENT.kind:
            yield from _deployment(obj, offer)
        case COMPRESSION_PLUGIN.kind:
            yield from _plugin(obj, offer)
        case ARTIFACT_STORE.kind:
            yield from _store(obj, offer)
        case PVC.kind:
            yield from _claim(obj)


def _training(obj: Object, offer: Offer) -> Iterator[Refusal]:
    spec = obj["spec"]
    if spec.get("image"):
        cure = "take it out, and install what it holds into this Python environment"
        yield Refusal(obj, "spec.image", "without a cluster no image is run", cure)
    yield from _named_stores(obj, offer)
    for number, name in enumerate(spec.get("pools", ())):
        yield from _pool(obj, f"spec.pools[{number}]", name, offer)
    template = spec.get("podTemplate", {})
    yield from _template(obj, "spec.podTemplate", template, offer)
    script = spec["entrypoint"].get("script", {}).get("path")
    mounted = [mount["mountPath"].rstrip("/") + "/" for mount in template.get("volumeMounts", ())]
    if script and not script.startswith(tuple(mounted)) and not Path(script).is_file():
        problem = f"{script} is neither on this machine nor on a volume that podTemplate mounts"
        yield Refusal(obj, "spec.entrypoint.script.path", problem, "put it there, or mount it")


def _deployment(obj: Object, offer: Offer) -> Iterator[Refusal]:
    spec, namespace = obj["spec"], obj["metadata"]["namespace"]
    yield from _named_stores(obj, offer)
    job = spec["model"].get("trainingJob")
    if job and not offer.has(TRAINING_JOB, namespace, job):
        problem = f'neither a file nor the state folder has a TrainingJob "{job}" of namespace {namespace}'
        yield Refusal(obj, "spec.model.trainingJob", problem, "add its file with -f")
    for number, step in enumerate(spec.get("compression", {}).get("steps", ())):
        field, name = f"spec.compression.steps[{number}].plugin", step["plugin"]
        if name in offer.broken:
            yield Refusal(
                obj, field, f"plugin {name} cannot be loaded: {offer.broken[name].error}", "mend or reinstall it"
            )
        elif not offer.has(COMPRESSION_PLUGIN, "", name):
            problem = (
                f"no plugin {name} is installed in {sys.prefix}, which has {', '.join(sorted(offer.plugins)) or 'none'}"
            )
            yield Refusal(obj, field, problem, "mend the name, or pip install its package there")
    yield from _template(obj, "spec.serving.podTemplate", spec.get("serving", {}).get("podTemplate", {}), offer)


def _named_stores(obj: Object, offer: Offer) -> Iterator[Refusal]:
    for use, name in stores_of(obj):
        if not offer.has(ARTIFACT_STORE, obj["metadata"]["namespace"], name):
            problem = f'no file has an ArtifactStore "{name}"'
            yield Refusal(obj, use.field, problem, "add its file, or take the field out")


def _pool(obj: Object, field: str, name: str, offer: Offer) -> Iterator[Refusal]:
    if offer.devices is None:
        return
    pool = offer.objects.get(Key(GPU_POOL, "", name))
    if pool is None:
        yield Refusal(obj, field, f'no file has a GPUPool "{name}"', "add its file, or give --cpu")
        return
    resource = pool["spec"].get("resource")
    if resource is None:
        return
    wanted, here = (
        int(resource.get("perPod", 1)) * int(obj["spec"].get("nodes", 1)),
        offer.devices.get(resource["name"], 0),
    )
    if wanted > here:
        problem = f'GPUPool "{name}" takes {wanted} {resource["name"]}, and this machine has {here}'
        yield Refusal(obj, field, problem, "give --cpu to run on its processors, or ask for less")


def _plugin(obj: Object, offer: Offer) -> Iterator[Refusal]:
    spec = obj["spec"]
    here = offer.plugins.get(spec["entryPoint"])
    if here is None:
        yield Refusal(obj, "spec.entryPoint", f"no plugin {spec['entryPoint']} is installed here", "pip install it")
    elif here["spec"]["version"] != spec["version"]:
        problem = f"{spec['version']} is wanted, and {here['spec']['version']} is installed here"
        yield Refusal(obj, "spec.version", problem, "install that version, or leave the file out")


def _store(obj: Object, offer: Offer) -> Iterator[Refusal]:
    claim = obj["spec"].get("persistentVolumeClaim", {}).get("claimName")
    if claim and not offer.has(PVC, obj["metadata"]["namespace"], claim):
        problem = f"no file has a PersistentVolumeClaim {claim}"
        yield Refusal(obj, "spec.persistentVolumeClaim.claimName", problem, "add its file with -f")
    s3 = obj["spec"].get("s3", {})
    if s3.get("serviceAccountName"):
        cure = "name a Secret with keys by secretRef"
        yield Refusal(obj, "spec.s3.serviceAccountName", "without a cluster there are no service accounts", cure)
    secret = s3.get("secretRef", {}).get("name")
    if secret and ("Secret", obj["metadata"]["namespace"], secret) not in offer.sources.contents:
        yield Refusal(obj, "spec.s3.secretRef.name", f"no file has a Secret {secret}", "add its file with -f")


def _claim(obj: Object) -> Iterator[Refusal]:
    spec = obj.get("spec", {})
    for number, mode in enumerate(spec.get("accessModes", ())):
        if mode == "ReadWriteOncePod":
            yield Refusal(
                obj, f"spec.accessModes[{number}]", "a folder cannot be kept to one pod", "write ReadWriteMany"
            )
    for field in _CLAIM_FIELDS:
        if field in spec:
            yield Refusal(obj, f"spec.{field}", "a claim is a folder of the state folder here", "take it out")
    if spec.get("volumeMode") == "Block":
        yield Refusal(obj, "spec.volumeMode", "there are no block devices here", "take it out")


def _template(obj: Object, path: str, template: Object, offer: Offer) -> Iterator[Refusal]:
    namespace = obj["metadata"]["namespace"]
    for field, why in _NODES.items():
        if template.get(field):
            yield Refusal(obj, f"{path}.{field}", f"without a cluster {why}", "take it out")
    for place, kind, name in _references(template):
        if kind == PVC.kind and not offer.has(PVC, namespace, name):
            yield Refusal(obj, f"{path}.{place}", f"no file has a PersistentVolumeClaim {name}", "add its file with -f")
        elif kind in SOURCES and (kind, namespace, name) not in offer.sources.contents:
            yield Refusal(
                obj, f"{path}.{place}", f"no file has a {kind} {name}", "add its file, or the kustomization, with -f"
            )
    yield from _nested(obj, path, [mount["mountPath"].rstrip("/") for mount in template.get("volumeMounts", ())])
    for number, volume in enumerate(template.get("volumes", ())):
        if volume.get("emptyDir", {}).get("sizeLimit"):
            field = f"{path}.volumes[{number}].emptyDir.sizeLimit"
            yield Refusal(obj, field, "the size of a folder cannot be limited here", "take it out")


def _nested(obj: Object, path: str, mounts: Sequence[str]) -> Iterator[Refusal]:
    """A mount below another one: a folder stands for each, and the outer one would not hold the inner one."""
    for number, inner in enumerate(mounts):
        outer = next((one for one in mounts if inner.startswith(f"{one}/")), None)
        if outer is not None:
            problem = f"{inner} lies below {outer or '/'}, where another volume is mounted"
            cure = "mount it beside the other one"
            yield Refusal(obj, f"{path}.volumeMounts[{number}].mountPath", problem, cure)


def _references(template: Object) -> Iterator[tuple[str, str, str]]:
    """(field, kind, name) of each object that must be there before the pod can start."""
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
