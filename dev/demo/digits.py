"""One run of examples/digits on a cluster, and its figures."""

from __future__ import annotations

import copy
import json
import subprocess
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from demo.chart import ROOT
from demo.figures import figures, places
from demo.kubectl import Kubectl, Object
from demo.predictions import asked
from demo.reference import compute_reference
from demo.stages import Stages

EXAMPLE = ROOT / "examples/digits"


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
    with stages.stage("deploy", f"{run.name}: compress, evaluate, pack, roll out"):
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
    return asked([run.name, "--protocol", protocol, "--namespace", kubectl.namespace])


def ask(kubectl: Kubectl, run: Run, deployed: Object, image: str, claim: str, stages: Stages) -> dict[str, Any]:
    """Ask for all held-out samples by both protocols and hold the answers against the packed file's."""
    status = deployed["status"]
    steps = kubectl.list("steps", f"slipway.dev/model-deployment={run.name}")
    with stages.stage("reference", "the packed file's own answers, computed in another pod"):
        reference = compute_reference(kubectl, places(status, steps), image=image, claim=claim)
    with stages.stage("predict", f"{len(reference.targets)} samples by HTTP, and by gRPC"):
        answers = {protocol: predict(kubectl, run, protocol) for protocol in ("http", "grpc")}
    return figures(status, answers, reference)
