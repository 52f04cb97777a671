"""Objects as the API server shows them. Every default is valid, so a test says only what it is about.

Fields of a spec are given in wire form: `training_job(nodes=2, restarts={"max": 1})`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.base import wire_time
from slipway.api.kinds import (
    ARTIFACT_STORE,
    COMPRESSION_PLUGIN,
    GPU_POOL,
    JOB,
    MODEL_DEPLOYMENT,
    POD,
    PVC,
    TRAINING_JOB,
    Kind,
    Object,
)
from slipway.api.status import not_yet_observed
from slipway.plan.jobs.pods import name_prefix
from slipway.plan.plan import Settings
from slipway.plan.pods import CONTAINER

NAMESPACE = "team"
T0 = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SETTINGS = Settings(runtime_image="registry.example/slipway-runtime:1", serving_image="registry.example/triton:1")
DIGEST = "sha256:" + "a" * 64
RECIPE = {"recipe": {"model": {"args": {"layers": [784, 128, 10]}}}}


def resource(kind: Kind, name: str, *, uid: str = "", status: Object | None = None, **spec: Any) -> Object:
    """Any object with a spec."""
    metadata: Object = {"name": name, "uid": uid or f"uid-of-{name}", "resourceVersion": "1", "generation": 1}
    if kind.namespaced:
        metadata["namespace"] = NAMESPACE
    obj: Object = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}
    return obj if status is None else {**obj, "status": status}


def training_job(name: str = "digits", *, uid: str = "", status: Object | None = None, **spec: Any) -> Object:
    """A recipe on one node with stored data, just made: nothing needs to be prepared."""
    wanted = {"entrypoint": RECIPE, "data": [stored_data("train")], **spec}
    return resource(TRAINING_JOB, name, uid=uid, status=status or not_yet_observed(), **wanted)


def stored_data(name: str) -> Object:
    return {"name": name, "stored": {"uri": f"store:///data/{name}", "digest": DIGEST}}


def store(name: str = "default", *, claim: str = "artifacts", ready: bool = True) -> Object:
    """An ArtifactStore on a claim, found ready or not."""
    condition = {
        "type": "Ready",
        "status": "True" if ready else "False",
        "reason": "ClaimFound" if ready else "ClaimNotFound",
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": wire_time(T0),
    }
    status = {"observedGeneration": 1, "phase": "Ready" if ready else "Pending", "conditions": [condition]}
    return resource(ARTIFACT_STORE, name, status=status, persistentVolumeClaim={"claimName": claim})


S3 = {"bucket": "models", "endpoint": "http://s3.example:8333", "secretRef": {"name": "keys"}}


def bucket_store(name: str = "default", *, status: Object | None = None, **s3: Any) -> Object:
    """An ArtifactStore on a bucket, found ready unless a status is given. s3: fields of spec.s3; None removes one."""
    wanted = {field: value for field, value in {**S3, **s3}.items() if value is not None}
    return resource(ARTIFACT_STORE, name, status=status or store()["status"], s3=wanted)


def claim(name: str = "artifacts", *, modes: tuple[str, ...] = ("ReadWriteMany",)) -> Object:
    return resource(PVC, name, status={"phase": "Bound"}, accessModes=list(modes))


def pool(name: str = "h100", **spec: Any) -> Object:
    """One device a pod, behind a taint."""
    wanted = {
        "nodeSelector": {"accelerator": name},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "resource": {"name": "nvidia.com/gpu", "perPod": 1},
        **spec,
    }
    return resource(GPU_POOL, name, **wanted)


def trained(name: str = "digits", *, model: Object | None = None, **spec: Any) -> Object:
    """A TrainingJob that has left a model of state module; trained on the digits."""
    status = {
        "observedGeneration": 1,
        "phase": "Succeeded",
        "artifact": model or artifact("trained"),
        "metrics": {"accuracy": 0.97},
    }
    return training_job(name, status=status, **{"data": [{"name": "train", "dataset": "digits"}], **spec})


PRUNE = {"plugin": "prune-structured", "params": {"ratio": 0.5}}
QUANTIZE = {"plugin": "quantize-int8"}
HELD_OUT = {"data": {"dataset": "digits", "split": "test"}, "gate": {"maxDrop": 0.02}}


def model_deployment(name: str = "digits", *, steps: tuple[Object, ...] = (PRUNE, QUANTIZE), **spec: Any) -> Object:
    """Of TrainingJob digits, pruned and quantized, evaluated on the digits held out; just made."""
    wanted = {"model": {"trainingJob": "digits"}, "compression": {"steps": list(steps)}, "evaluation": HELD_OUT, **spec}
    return resource(MODEL_DEPLOYMENT, name, uid=f"uid-of-md-{name}", status=not_yet_observed(), **wanted)


def plugin(name: str, consumes: str, produces: str, **spec: Any) -> Object:
    wanted = {"version": "1.0.0", "entryPoint": name, "consumes": consumes, "produces": produces, **spec}
    return resource(COMPRESSION_PLUGIN, name, **wanted)


def prune_plugin(*, produces: str = "module", **spec: Any) -> Object:
    """Takes a module and gives one; needs data, and one parameter."""
    parameters = {
        "type": "object",
        "properties": {
            "ratio": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "recover": {"anyOf": [{"$ref": "#/$defs/Recover"}, {"type": "null"}]},
        },
        "$defs": {"Recover": {"type": "object", "properties": {"epochs": {"type": "integer", "minimum": 1}}}},
        "required": ["ratio"],
        "additionalProperties": False,
    }
    wanted = {"needs": {"data": True}, "parameters": parameters, **spec}
    return plugin("prune-structured", "module", produces, **wanted)


def quantize_plugin(**spec: Any) -> Object:
    return plugin("quantize-int8", "onnx", "onnx", **{"needs": {"data": True}, **spec})


def export_plugin(**spec: Any) -> Object:
    return plugin("export-onnx", "module", "onnx", **{"conversion": True, **spec})


def plugins() -> tuple[Object, ...]:
    """Those that Slipway ships."""
    return prune_plugin(), quantize_plugin(), export_plugin()


def controlled(obj: Object, owner: Object) -> Object:
    """The object with the owner as its controller."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [reference]}}


def job(
    name: str = "digits-1", *, owner: Object | None = None, ended: str = "", reason: str = "", **more: Any
) -> Object:
    """A Job. ended: Complete or Failed; reason: of that condition. more: further conditions, as FailureTarget=T0."""
    conditions = (
        [{"type": ended, "status": "True", "reason": reason, "lastTransitionTime": wire_time(T0)}] if ended else []
    )
    conditions += [
        {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": wire_time(at)}
        for kind, at in more.items()
    ]
    made = resource(JOB, name, status={"conditions": conditions})
    return made if owner is None else controlled(made, owner)


def pod(
    of: Object,
    index: int = 0,
    *,
    phase: str = "Running",
    exit_code: int | None = None,
    message: str | Object | None = None,
    at: datetime = T0,
    container: str = CONTAINER,
    conditions: tuple[Object, ...] = (),
    **terminated: Any,
) -> Object:
    """A pod of a Job, its container running or, with an exit code, ended at that time.

    message: its last words; an object is written as JSON. terminated: more of its ended state, as reason=OOMKilled.
    """
    status: Object = {"phase": phase, "conditions": list(conditions)}
    if exit_code is not None:
        text = message if isinstance(message, str | None) else json.dumps(message)
        ended = {"exitCode": exit_code, "finishedAt": wire_time(at), **terminated}
        if text is not None:
            ended["message"] = text
        status["phase"] = "Failed" if exit_code else "Succeeded"
        status["containerStatuses"] = [{"name": container, "state": {"terminated": ended}}]
    elif phase == "Running":
        status["containerStatuses"] = [{"name": container, "ready": True, "state": {"running": {}}}]
    spec = of["spec"].get("template", {}).get("spec", {})
    made = controlled(resource(POD, pod_name(of, index), status=status, **spec), of)
    made["metadata"]["namespace"] = of["metadata"]["namespace"]
    made["metadata"]["labels"] = {
        **of["spec"].get("template", {}).get("metadata", {}).get("labels", {}),
        "batch.kubernetes.io/job-completion-index": str(index),
        "batch.kubernetes.io/job-name": of["metadata"]["name"],
        "batch.kubernetes.io/controller-uid": of["metadata"]["uid"],
    }
    return made


def pod_name(job: Object, index: int) -> str:
    """As the Job controller and the API server make it up."""
    indexed = job["spec"].get("completionMode", "Indexed") == "Indexed"
    return f"{name_prefix(job['metadata']['name'], index if indexed else None)}xxxx{index % 10}"


def artifact(name: str = "model", state: State = State.MODULE, *, folder: str = "made") -> Object:
    ref = ArtifactRef(uri=f"store:///{folder}/{name}", digest=DIGEST, state=state, size_bytes=1000)
    return ref.to_wire()


def succeeded(artifact: Object | None = None, metrics: dict[str, float] | None = None, **more: Any) -> Object:
    """The report of a pod that did its work."""
    report = {"outcome": "succeeded", "at": wire_time(T0), "artifact": artifact, "metrics": metrics, **more}
    return {name: value for name, value in report.items() if value is not None}


def failed(
    message: str = "boom", *, exception: str = "ValueError", rank: int | None = 0, at: datetime = T0, code: int = 1
) -> Object:
    """The report of a pod whose work raised."""
    error = {"exception": exception, "message": message, "exitCode": code}
    if rank is not None:
        error["rank"] = rank
    return {"outcome": "failed", "at": wire_time(at), "error": error}
