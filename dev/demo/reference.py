"""What the files in the store answer themselves: computed by onnxruntime, in a pod or process away from Triton."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from demo.kubectl import Kubectl
from slipway.api.tasks import STORE_DIR

_PROGRAM = """
import json, pathlib, sys
import numpy as np, onnxruntime
from safetensors.numpy import load_file

store, data, *models = map(pathlib.Path, sys.argv[1:])
data = store / data
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
arrays = load_file(next(data.glob("*.safetensors")))
inputs = arrays["inputs"].astype(np.float32) * np.float32(1 / 255)

def answers(model):
    graph = next((store / model).rglob("model.onnx"))
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: inputs})[0].tolist()

print(json.dumps({"targets": arrays["targets"].tolist(), "outputs": [answers(model) for model in models]}))
"""


class Places(NamedTuple):
    """Paths in the store: of the data set, of the repository that is served, and of the pruned model before int8."""

    data: str
    repository: str
    pruned: str


@dataclass(frozen=True, slots=True)
class Reference:
    """targets: [N] true classes; outputs, pruned: [N, classes] of the packed and of the pruned model, in that order."""

    targets: NDArray[np.int64]
    outputs: NDArray[np.float32]
    pruned: NDArray[np.float32]


def compute_reference(kubectl: Kubectl, places: Places, *, image: str, claim: str) -> Reference:
    """Run the models of the store over the data set of the store."""
    name = "reference"
    kubectl.delete("pod", name)
    kubectl.apply(_pod(name, [_PROGRAM, STORE_DIR, *places], image, claim))
    kubectl.until("pod", name, lambda pod: pod["status"].get("phase") in ("Succeeded", "Failed"), timeout_seconds=120)
    said = kubectl("logs", name)
    kubectl.delete("pod", name)
    return _read(said)


def compute_reference_here(store: Path, places: Places) -> Reference:
    """The same in a process of this machine. store: the folder that the paths are in."""
    command = [sys.executable, "-c", _PROGRAM, str(store), *places]
    return _read(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)


def _read(said: str) -> Reference:
    raw = json.loads(said.splitlines()[-1])  # onnxruntime may warn before it
    packed, pruned = (np.asarray(outputs, np.float32) for outputs in raw["outputs"])
    return Reference(np.asarray(raw["targets"], np.int64), packed, pruned)


def _pod(name: str, args: list[str], image: str, claim: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "command": ["python", "-c", *args],
                    "volumeMounts": [{"name": "store", "mountPath": STORE_DIR, "readOnly": True}],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
            "volumes": [{"name": "store", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}],
        },
    }
