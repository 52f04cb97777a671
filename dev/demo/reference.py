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
import json, math, pathlib, sys
import numpy as np, onnx, onnxruntime
from safetensors.numpy import load_file

store, data, *models = map(pathlib.Path, sys.argv[1:])
data = store / data
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
arrays = load_file(next(data.glob("*.safetensors")))
inputs = arrays["inputs"].astype(np.float32) * np.float32(1 / 255)

def found(model):
    graph = next((store / model).rglob("model.onnx"))
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: inputs})[0].tolist()
    weights = [(one.data_type, math.prod(one.dims)) for one in onnx.load(graph).graph.initializer]
    int8 = sum(size for kind, size in weights if kind in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8))
    int8_share = int8 / sum(size for _, size in weights)
    return {"outputs": outputs, "bytes": graph.stat().st_size, "int8_share": int8_share}

print(json.dumps({"targets": arrays["targets"].tolist(), "models": [found(model) for model in models]}))
"""


class Places(NamedTuple):
    """Paths in the store: of the data set, of the repository that is served, and of the pruned model before int8."""

    data: str
    repository: str
    pruned: str


@dataclass(frozen=True, slots=True)
class Reference:
    """What the packed and the pruned model are. targets: [N] true classes; outputs, pruned: [N, classes].

    int8_share: of the numbers in the packed graph, those that are 8-bit integers. pruned_bytes: size of the ONNX file.
    """

    targets: NDArray[np.int64]
    outputs: NDArray[np.float32]
    pruned: NDArray[np.float32]
    int8_share: float
    pruned_bytes: int


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
    packed, pruned = raw["models"]
    outputs, before = (np.asarray(model["outputs"], np.float32) for model in (packed, pruned))
    return Reference(np.asarray(raw["targets"], np.int64), outputs, before, packed["int8_share"], pruned["bytes"])


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
