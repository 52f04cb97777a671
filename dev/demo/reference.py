"""What the packed file itself answers: computed by onnxruntime alone, in a pod or process away from Triton."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo.kubectl import Kubectl
from slipway.api.tasks import STORE_DIR

_PROGRAM = """
import json, pathlib, sys
import numpy as np, onnxruntime
from safetensors.numpy import load_file

store, model, data = map(pathlib.Path, sys.argv[1:])
model, data = store / model, store / data
graph = next(model.rglob("model.onnx"))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
manifest = json.loads((data / "manifest.json").read_text())
arrays = load_file(next(data.glob("*.safetensors")))
inputs = arrays["inputs"].astype(np.float32) * np.float32(1 / 255)
outputs = session.run(None, {session.get_inputs()[0].name: inputs})[0]
print(json.dumps({"targets": arrays["targets"].tolist(), "outputs": outputs.tolist()}))
"""


@dataclass(frozen=True, slots=True)
class Reference:
    """targets: [N] true classes; outputs: [N, classes] of the packed model, in the order of the data set."""

    targets: NDArray[np.int64]
    outputs: NDArray[np.float32]


def compute_reference(kubectl: Kubectl, *, repository: str, data: str, image: str, claim: str) -> Reference:
    """Run the packed model over a data set of the store.

    repository, data: paths in the store of the packed repository and of the data set.
    """
    name = "reference"
    kubectl.delete("pod", name)
    kubectl.apply(_pod(name, [_PROGRAM, STORE_DIR, repository, data], image, claim))
    kubectl.until("pod", name, lambda pod: pod["status"].get("phase") in ("Succeeded", "Failed"), timeout_seconds=120)
    said = kubectl("logs", name)
    kubectl.delete("pod", name)
    return _read(said)


def compute_reference_here(store: Path, *, repository: str, data: str) -> Reference:
    """The same in a process of this machine. store: the folder that the paths are in."""
    command = [sys.executable, "-c", _PROGRAM, str(store), repository, data]
    return _read(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)


def _read(said: str) -> Reference:
    raw = json.loads(said.splitlines()[-1])  # onnxruntime may warn before it
    return Reference(np.asarray(raw["targets"], np.int64), np.asarray(raw["outputs"], np.float32))


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
