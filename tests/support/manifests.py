"""Manifests as users write them, small enough for a test machine. Defaults are valid; a test shows what it is about."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str, kind: str) -> Object:
    """The first object of that kind in an example file."""
    documents = yaml.safe_load_all((EXAMPLES / name).read_text())
    return next(document for document in documents if document["kind"] == kind)


def digits_training(name: str = "digits", **spec: Any) -> Object:
    """The TrainingJob of examples/digits under another name, with fields of its spec replaced."""
    return _renamed(example("digits/training.yaml", "TrainingJob"), name, spec)


def digits_deployment(name: str = "digits", training_job: str = "digits", **spec: Any) -> Object:
    """The ModelDeployment of examples/digits under another name, of another TrainingJob."""
    return _renamed(
        example("digits/deployment.yaml", "ModelDeployment"), name, {"model": {"trainingJob": training_job}, **spec}
    )


def script_training(name: str, source: str, *, nodes: int = 2, **spec: Any) -> tuple[Object, Object]:
    """A ConfigMap with a script and the TrainingJob that runs it under torchrun."""
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{name}-code"},
        "data": {"train.py": source},
    }
    job: Object = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": name},
        "spec": {
            "entrypoint": {"script": {"path": "/code/train.py"}},
            "nodes": nodes,
            "resources": {"cpu": "250m", "memory": "2Gi"},
            "restarts": {"max": 0},
            "podTemplate": {
                "volumes": [{"name": "code", "configMap": {"name": f"{name}-code"}}],
                "volumeMounts": [{"name": "code", "mountPath": "/code"}],
            },
            **spec,
        },
    }
    return config, job


def _renamed(obj: Object, name: str, spec: Object) -> Object:
    obj = copy.deepcopy(obj)
    obj["metadata"] = {"name": name}
    obj["spec"].update(spec)
    return obj
