"""Valid objects of every kind that together set every field of the schemas.

What two fields exclude from one object stands in two of them. Integers and lengths are well inside their bounds.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

NAMESPACE = "refusals"
DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha256:" + "b" * 64
LONG_NAME = "a" * 63
NOW = "2026-01-01T00:00:00Z"


def full_objects() -> dict[str, list[Json]]:
    """By kind. The status is part of them, although the API server takes it by its own path only."""
    return {
        "TrainingJob": training_jobs(),
        "ModelDeployment": model_deployments(),
        "Step": steps(),
        "ArtifactStore": [
            _object(
                "ArtifactStore",
                {"persistentVolumeClaim": {"claimName": "models", "subPath": "team/one"}, "heldOut": True},
                {"observedGeneration": 1, "phase": "Ready", "conditions": [_condition()], "check": _task()},
            ),
            *(
                _object("ArtifactStore", {"s3": {**_bucket(), **identity}, "networks": ["10.4.0.0/16"]})
                for identity in _IDENTITIES
            ),
        ],
        "GPUPool": [
            _object(
                "GPUPool",
                {
                    "nodeSelector": {"slipway.dev/pool": "a100"},
                    "tolerations": [_toleration()],
                    "resource": {"name": "nvidia.com/gpu", "perPod": 2},
                },
            )
        ],
        "CompressionPlugin": [
            _object(
                "CompressionPlugin",
                {
                    "version": "1.0.0",
                    "description": "Removes channels.",
                    "entryPoint": "prune-structured",
                    "image": "registry.example/plugins@" + DIGEST,
                    "consumes": "module",
                    "produces": "module",
                    "conversion": False,
                    "needs": {"data": True},
                    "parameters": {"type": "object", "properties": {"ratio": {"type": "number"}}},
                },
            )
        ],
    }


def _step_pods() -> Json:
    resources = {"cpu": "2", "memory": "4Gi"}
    return {"resources": resources, "pool": "l40s", "podTemplate": pod_settings(), "deadline": "1h"}


def training_jobs() -> list[Json]:
    recipe = {
        "model": {"factory": "slipway.runtime.models:mlp", "args": {"layers": [784, 128, 10]}},
        "optimizer": {"name": "adam", "args": {"lr": 0.001}},
        "loss": "cross_entropy",
        "epochs": 10,
        "batchSize": 32,
        "seed": 1,
    }
    common = {
        "nodes": 2,
        "processesPerNode": 2,
        "pools": ["a100"],
        "resources": {"cpu": "2", "memory": "4Gi"},
        "data": [
            {"name": "train", "dataset": "digits", "split": "train"},
            {"name": "other", "stored": {"uri": "store:///data/other", "digest": DIGEST}},
        ],
        "store": "default",
        "restarts": {
            "max": 5,
            "backoff": "10s",
            "ignorePreemption": True,
            "maxDisruptions": 100,
            "resetAfter": "10m",
            "pendingTimeout": "7d",
            "never": {"exitCodes": [42], "exceptions": ["ConfigError"]},
        },
        "suspend": False,
        "activeDeadline": "12h",
        "ttlAfterFinished": "7d",
        "egress": "restricted",
        "podTemplate": pod_template(),
        "steps": _step_pods(),
    }
    script = {"path": "/app/train.py", "args": ["--epochs", "3"]}
    module = {"name": "team.train", "args": ["--epochs", "3"]}
    status = {
        "observedGeneration": 1,
        "phase": "Running",
        "conditions": [_condition()],
        "startedAt": NOW,
        "finishedAt": NOW,
        "restarts": 1,
        "disruptions": 1,
        "pendingSince": NOW,
        "workers": "1/2",
        "data": [{"name": "train", "artifact": _artifact()}],
        "attempts": [
            {
                "number": 1,
                "job": "digits-1",
                "jobUID": "11111111-2222-3333-4444-555555555555",
                "pool": "a100",
                "nodes": 2,
                "processesPerNode": 2,
                "recoveries": 0,
                "startedAt": NOW,
                "runningAt": NOW,
                "endedAt": NOW,
                "pendingReason": "1 of 2 pods run",
                "pendingObservedAt": NOW,
                "replacements": [
                    {
                        "index": 1,
                        "number": 2,
                        "job": "digits-1-i1-2",
                        "jobUID": "11111111-2222-3333-4444-666666666666",
                        "startsAt": NOW,
                        "failure": _failure(),
                    }
                ],
                "outcome": "Failed",
                "imageID": "registry.example/runtime@sha256:one",
                "failure": _failure(),
            }
        ],
        "artifact": _artifact(),
        "metrics": {"accuracy": 0.97},
    }
    return [
        _object("TrainingJob", {**common, "entrypoint": {"recipe": recipe}}, status),
        _object("TrainingJob", {**common, "image": "team/train:1", "entrypoint": {"script": script}}, status),
        _object("TrainingJob", {**common, "image": "team/train:1", "entrypoint": {"module": module}}, status),
    ]


def model_deployments() -> list[Json]:
    stored_data = {"stored": {"uri": "store:///data/held-out", "digest": DIGEST}}
    train, test = {"dataset": "digits", "split": "train"}, {"dataset": "digits", "split": "test"}
    spec = {
        "model": {"trainingJob": "digits"},
        "store": "default",
        "compression": {
            "conversion": "export-onnx",
            "steps": [{"plugin": "prune-structured", "params": {"ratio": 0.5}}],
            "data": train,
            "seed": 1,
            **_step_pods(),
        },
        "evaluation": {
            "data": test,
            "store": "held-out",
            "gate": {"metric": "accuracy", "maxDrop": 0.02, "confidence": 0.95},
            **_step_pods(),
        },
        "serving": {
            "maxBatchSize": 64,
            "replicas": 2,
            "resources": {"cpu": "2", "memory": "4Gi"},
            "podTemplate": pod_settings(),
        },
    }
    status = {
        "observedGeneration": 1,
        "phase": "Ready",
        "conditions": [_condition()],
        "model": _artifact(),
        "modelFrom": "trainingJob/digits",
        "trainData": {"dataset": "digits", "split": "train"},
        "sizes": {"floatBytes": 4000, "compressedBytes": 1000},
        "accuracy": "0.9704",
        "revisions": [
            {
                "name": "digits-abc",
                "digest": DIGEST,
                "baseline": _artifact(),
                "model": _artifact(),
                "repository": _artifact(),
                "steps": ["0123456789ab"],
                "gate": {
                    "passed": True,
                    "accuracyBaseline": 0.97,
                    "accuracyCandidate": 0.96,
                    "maxDrop": 0.02,
                    "dropBound": 0.015,
                    "confidence": 0.95,
                    "counts": _counts(),
                    "imageID": "registry.example/runtime@sha256:one",
                    "sameModel": False,
                    "data": DIGEST,
                    "saturation": 0.1,
                    "heldOutReadable": True,
                },
                "createdAt": NOW,
                "servingSince": NOW,
                "retiredAt": NOW,
            }
        ],
        "candidate": "digits-abc",
        "serving": "digits-abc",
        "readyReplicas": 2,
        "selector": "slipway.dev/revision=digits-abc",
        "url": "http://digits.team:8000",
    }
    stored = {
        "model": {"stored": {"uri": "store:///models/one", "digest": DIGEST, "state": "onnx"}},
        "compression": {**spec["compression"], "data": stored_data},  # type: ignore[dict-item]
        "evaluation": {"data": {"stored": {"uri": "store:///data/other", "digest": OTHER_DIGEST}}},
    }
    other_status = {**status, "modelFrom": "stored", "trainData": stored_data}
    return [_object("ModelDeployment", spec, status), _object("ModelDeployment", {**spec, **stored}, other_status)]


def steps() -> list[Json]:
    spec = {
        "role": "prepare-train",
        "task": {"task": "prepare", "dataset": "digits", "split": "train"},
        "digest": DIGEST,
        "image": "registry.example/runtime:1",
        "store": "default",
        "heldOut": "held-out",
        "folder": "steps/one",
        "runs": 2,
        "retry": "again-1",
    }
    status = {
        "observedGeneration": 1,
        "phase": "Failed",
        "conditions": [_condition()],
        "runs": 1,
        "retry": "again-0",
        "run": _task(),
        "sharedFrom": "other-012345-s-0123456789ab",
    }
    return [_object("Step", spec, status)]


def pod_settings() -> Json:
    """That of pods that serve."""
    template = pod_template()
    fields = ("labels", "nodeSelector", "tolerations", "serviceAccountName", "imagePullSecrets", "priorityClassName")
    return {**{field: template[field] for field in fields}, "annotations": {"prometheus.io/scrape": "true"}}


def pod_template() -> Json:
    key = {"name": "settings", "key": "token", "optional": True}
    return {
        "labels": {"team": "vision"},
        "annotations": {"example.com/note": "any text"},
        "env": [
            {"name": "MODE", "value": "fast"},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": key}},
            {"name": "LEVEL", "valueFrom": {"configMapKeyRef": key}},
        ],
        "envFrom": [{"secretRef": {"name": "secrets"}}, {"configMapRef": {"name": "settings"}}],
        "volumes": [
            {"name": "settings", "configMap": {"name": "settings"}},
            {"name": "secrets", "secret": {"secretName": "secrets"}},
            {"name": LONG_NAME, "persistentVolumeClaim": {"claimName": "data", "readOnly": True}},
            {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        ],
        "volumeMounts": [{"name": LONG_NAME, "mountPath": "/data", "subPath": "one/two", "readOnly": True}],
        "nodeSelector": {"example.com/zone": "b"},
        "tolerations": [_toleration()],
        "serviceAccountName": "trainer",
        "imagePullSecrets": [{"name": "registry"}],
        "priorityClassName": "batch",
    }


def _object(kind: str, spec: Json, status: Json | None = None) -> Json:
    metadata: Json = {"name": "full"}
    if kind not in ("GPUPool", "CompressionPlugin"):
        metadata["namespace"] = NAMESPACE
    full = {"apiVersion": "slipway.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
    return full if status is None else {**full, "status": status}


_IDENTITIES: list[Json] = [{"secretRef": {"name": "store"}}, {"serviceAccountName": "trainer"}]


def _bucket() -> Json:
    return {
        "bucket": "models",
        "prefix": "team/one",
        "endpoint": "https://s3.example.com:8333",
        "region": "eu-central-1",
        "forcePathStyle": True,
    }


def _toleration() -> Json:
    return {
        "key": "example.com/gpu",
        "operator": "Equal",
        "value": "yes",
        "effect": "NoExecute",
        "tolerationSeconds": 60,
    }


def _condition() -> Json:
    return {
        "type": "Ready",
        "status": "False",
        "reason": "Running",
        "message": "2 of 2 pods run",
        "observedGeneration": 1,
        "lastTransitionTime": NOW,
    }


def _artifact() -> Json:
    return {"uri": "store:///jobs/one/artifact", "digest": DIGEST, "state": "module", "sizeBytes": 4000}


def _failure() -> Json:
    return {
        "reason": "Error",
        "index": 1,
        "rank": 1,
        "exception": "ValueError",
        "message": "no such layer",
        "exitCode": 1,
        "missing": DIGEST,
    }


def _counts() -> Json:
    return {
        "n": 540,
        "baselineRight": 520,
        "lost": 8,
        "gained": 4,
        "slices": [{"name": "class 3", "n": 50, "lost": 3, "gained": 1}],
    }


def _task() -> Json:
    return {
        "tries": 1,
        "recoveries": 0,
        "disruptions": 1,
        "remade": 1,
        "job": "digits-prepare",
        "jobUID": "11111111-2222-3333-4444-555555555555",
        "memory": "2Gi",
        "state": "Failed",
        "startedAt": NOW,
        "endedAt": NOW,
        "artifact": _artifact(),
        "metrics": {"accuracy": 0.97},
        "counts": _counts(),
        "imageID": "registry.example/runtime@sha256:one",
        "failure": _failure(),
    }
