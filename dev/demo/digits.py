"""One run of examples/digits on a cluster, and its figures."""

from __future__ import annotations

import copy
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from demo.chart import ROOT
from demo.kubectl import Kubectl, Object
from demo.reference import Reference, compute_reference
from demo.stages import Stages

EXAMPLE = ROOT / "examples/digits"
TOLERANCE = 1e-4
"""The largest difference allowed between a served output and the packed file's."""


@dataclass(frozen=True, slots=True)
class Run:
    """One seed. name: of the TrainingJob and the ModelDeployment."""

    seed: int
    name: str
    training: Object
    deployment: Object


def run_of(seed: int) -> Run:
    """The example as it stands for seed 0; for others under a name of their own."""
    (training,) = yaml.safe_load_all((EXAMPLE / "training.yaml").read_text())
    (deployment,) = yaml.safe_load_all((EXAMPLE / "deployment.yaml").read_text())
    name = training["metadata"]["name"]
    if seed:
        name = f"{name}-{seed}"
        training, deployment = copy.deepcopy((training, deployment))
        training["metadata"]["name"] = deployment["metadata"]["name"] = name
        training["spec"]["entrypoint"]["recipe"]["seed"] = seed
        deployment["spec"]["model"]["trainingJob"] = name
        deployment["spec"]["compression"]["seed"] = seed
    return Run(seed, name, training, deployment)


def train(kubectl: Kubectl, run: Run, stages: Stages) -> Object:
    with stages.stage("train", f"{run.name}: torchrun on {run.training['spec'].get('nodes', 1)} pods"):
        kubectl.apply(run.training)
        follow(kubectl, f"tj/{run.name}")
    return kubectl.get("trainingjob", run.name) or {}


def deploy(kubectl: Kubectl, run: Run, stages: Stages) -> Object:
    with stages.stage("deploy", f"{run.name}: compress, prove, pack, roll out"):
        kubectl.apply(run.deployment)
        follow(kubectl, f"md/{run.name}")
    return kubectl.get("modeldeployment", run.name) or {}


def make_room(kubectl: Kubectl, run: Run) -> None:
    """Scale what serves to zero, so that the next seed's pods find processors on a small node."""
    patch = json.dumps({"spec": {"serving": {"replicas": 0}}})
    kubectl("patch", "modeldeployment", run.name, "--type=merge", "--patch", patch)


def follow(kubectl: Kubectl, target: str) -> None:
    """Show progress until Ready. Raises CalledProcessError where it ends otherwise."""
    command = ["slipway", "status", target, "--watch", "--timeout", "600", "--namespace", kubectl.namespace]
    subprocess.run(command, check=True, timeout=660)


def predict(kubectl: Kubectl, run: Run, protocol: str) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """All held-out samples, one a request: what `slipway predict` says, and the raw outputs [N, classes]."""
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "outputs.npy"
        command = ["slipway", "predict", run.name, "--dataset", "digits", "--split", "test", "--protocol", protocol]
        options = ["--save", str(saved), "--output", "json", "--namespace", kubectl.namespace]
        done = subprocess.run([*command, *options], check=True, stdout=subprocess.PIPE, timeout=300)
        return json.loads(done.stdout), np.load(saved, allow_pickle=False)


def ask(kubectl: Kubectl, run: Run, deployed: Object, image: str, claim: str, stages: Stages) -> dict[str, Any]:
    """Ask for all held-out samples by both protocols and hold the answers against the packed file's."""
    status = deployed["status"]
    revision = next(r for r in status["revisions"] if r["name"] == status["serving"])
    data = next(t for t in status["tasks"] if t["name"].startswith("prepare-eval"))
    with stages.stage("reference", "the packed file's own answers, computed in another pod"):
        reference = compute_reference(
            kubectl,
            repository=_path(revision["repository"]),
            data=_path(data["artifact"]),
            image=image,
            claim=claim,
        )
    with stages.stage("predict", f"{len(reference.targets)} samples by HTTP, and by gRPC"):
        answers = {protocol: predict(kubectl, run, protocol) for protocol in ("http", "grpc")}
    mismatches = sum(_mismatches(outputs, reference) for _, outputs in answers.values())
    http, outputs = answers["http"]
    return {
        "accuracy_float": revision["gate"]["accuracyBaseline"],
        "accuracy_compressed": revision["gate"]["accuracyCandidate"],
        "accuracy_served": float((outputs.argmax(axis=1) == reference.targets).mean()),
        "drop_bound": revision["gate"]["dropBound"],
        "requests_http": http["requests"],
        "requests_grpc": answers["grpc"][0]["requests"],
        "mismatches": mismatches,
        "latency_ms": {protocol: facts["latency_ms"] for protocol, (facts, _) in answers.items()},
        "requests_per_second": {protocol: facts["requests_per_second"] for protocol, (facts, _) in answers.items()},
        **sizes(status),
    }


def sizes(status: Object) -> dict[str, int]:
    """Bytes of the ONNX files: uncompressed, pruned, served."""
    tasks = {task["name"]: task for task in status["tasks"]}
    return {
        "bytes_float": status["sizes"]["floatBytes"],
        "bytes_pruned": tasks["convert"]["artifact"]["sizeBytes"],  # inserted between pruning and quantization
        "bytes_compressed": status["sizes"]["compressedBytes"],
    }


def _mismatches(outputs: np.ndarray[Any, Any], reference: Reference) -> int:
    """Samples whose class or outputs are not the packed file's."""
    if outputs.shape != reference.outputs.shape:
        return max(len(outputs), len(reference.outputs))
    apart = np.abs(outputs - reference.outputs).max(axis=1) > TOLERANCE
    other = outputs.argmax(axis=1) != reference.outputs.argmax(axis=1)
    return int((apart | other).sum())


def _path(artifact: Object) -> str:
    return str(artifact["uri"]).removeprefix("store:///")
