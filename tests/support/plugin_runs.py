"""Runs every plugin on models that it can and cannot handle: `python -m support.plugin_runs STORE RESULT`, as JSON.

A process of its own, so that a test can run it twice and see whether both left the same, and needs no torch itself.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slipway.api.artifacts import ArtifactRef, State, store_path
from slipway.api.errors import PluginError
from slipway.api.tasks import CompressTask, DataRef, PrepareTask
from slipway.runtime import modules
from slipway.runtime.compress import find_plugin
from slipway.runtime.datasets import read_arrays
from slipway.runtime.resultcheck import result_findings
from slipway.sdk.artifact import read_artifact
from slipway.sdk.manifest import MODEL_FILE, ONNX_FILE, Content, ModuleSource, TensorSpec
from support.graphs import content_of, random_features
from support.stores import do, made, put

PRUNE = {"ratio": 0.5, "recover": {"epochs": 1}}


class Branching(nn.Module):
    """Takes another way for other values, which no graph can say."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(784, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.layer(images.flatten(1))
        return scores if scores.sum() > 0 else -scores


class Mixed(nn.Module):
    """Layers that must lose the same channels: a sum, a depthwise and a grouped convolution, two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.deep, self.wide = nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 24, 1)
        self.grouped = nn.Conv2d(24, 24, 3, groups=4, padding=1)
        self.hidden, self.scale = nn.Linear(24 * 49, 32), nn.LayerNorm(32)
        self.head, self.other = nn.Linear(32, 10), nn.Linear(32, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.first(images.unsqueeze(1)).relu()
        x = self.wide(self.deep(x + self.norm(self.second(x)))).relu()
        x = nn.functional.max_pool2d(self.grouped(x).relu(), 4)
        x = self.scale(self.hidden(x.flatten(1))).relu()
        return (self.head(x) + self.other(x)).log_softmax(1)


def module_in(store: Path, folder: str, factory: str, **args: Any) -> ArtifactRef:
    """An untrained module that takes images of 28x28."""
    torch.manual_seed(0)
    source = ModuleSource(factory=factory, args=args)
    content = Content(
        state=State.MODULE,
        module=source,
        inputs=(TensorSpec(name="image", shape=(28, 28)),),
        outputs=(TensorSpec(name="scores", shape=(10,)),),
    )
    return put(store, folder, content, {MODEL_FILE: modules.weights_of(modules.build(factory, args))})


def main(store: Path) -> dict[str, Any]:
    """Results of each run, their problems, and the reasons of refusals."""
    train = made(do(store, "train", PrepareTask(dataset="digits", split="train")))
    data = DataRef(name="train", artifact=train)
    wrong = {}

    def run(folder: str, plugin: str, model: ArtifactRef, **params: Any) -> ArtifactRef:
        version = find_plugin(plugin).version
        task = CompressTask(entry_point=plugin, version=version, params=params, model=model, data=data, seed=3)
        left = made(do(store, folder, task))
        before, after = (read_artifact(store / store_path(ref.uri)) for ref in (model, left))
        found = result_findings(before, after, [store])
        assert len(found) >= 3
        wrong[folder] = [one for one in found if one.level != "ok"]
        return left

    mlp = module_in(store, "mlp", "slipway.runtime.models:mlp", layers=[784, 128, 10])
    shallow = module_in(store, "shallow", "slipway.runtime.models:mlp", layers=[784, 10])
    convnet = module_in(store, "convnet", "slipway.runtime.models:convnet", widths=[16, 32])
    mixed = module_in(store, "mixed", "support.plugin_runs:Mixed")
    branching = module_in(store, "branching", "support.plugin_runs:Branching")
    features = random_features(read_arrays(store / "train/artifact"), 64)
    graph = put(store, "graph", content_of((28, 28), 10), {ONNX_FILE: features})
    left = {
        "mlp-onnx": run("mlp-onnx", "export-onnx", mlp),
        "mlp-pruned": run("mlp-pruned", "prune-structured", mlp, **PRUNE),
        "mlp-taught": run("mlp-taught", "prune-structured", mlp, ratio=0.5, recover={"epochs": 1, "teacher": True}),
        "mixed-pruned": run("mixed-pruned", "prune-structured", mixed, ratio=0.5, recover={"epochs": 0}),
        "convnet-pruned": run("convnet-pruned", "prune-structured", convnet, **PRUNE),
    }
    left |= {
        "mlp-pruned-onnx": run("mlp-pruned-onnx", "export-onnx", left["mlp-pruned"]),
        "convnet-pruned-onnx": run("convnet-pruned-onnx", "export-onnx", left["convnet-pruned"]),
        "graph-int8": run("graph-int8", "quantize-int8", graph),
    }
    left["mlp-pruned-int8"] = run("mlp-pruned-int8", "quantize-int8", left["mlp-pruned-onnx"], reduce_range=False)
    left["convnet-pruned-int8"] = run(
        "convnet-pruned-int8", "quantize-int8", left["convnet-pruned-onnx"], activation_type="uint8", reduce_range=True
    )
    refusals = {
        "prune-structured": lambda: run("no-1", "prune-structured", shallow, **PRUNE),
        "export-onnx": lambda: run("no-2", "export-onnx", branching),
        "quantize-int8": lambda: run("no-3", "quantize-int8", left["graph-int8"]),
    }
    refused = {}
    for name, attempt in refusals.items():
        try:
            refused[name] = f"left {attempt().digest}"
        except PluginError as error:
            refused[name] = f"PluginError: {error}"
    return {"digests": {name: ref.digest for name, ref in left.items()}, "refused": refused, "wrong": wrong}


if __name__ == "__main__":
    sys.modules["support.plugin_runs"] = sys.modules["__main__"]  # its factory is this very module
    Path(sys.argv[2]).write_text(json.dumps(main(Path(sys.argv[1]))))
