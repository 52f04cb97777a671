"""Resources in states that people ask about, as the API server shows them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from slipway.api.kinds import MODEL_DEPLOYMENT, POD, SERVICE, STEP, Object
from support.builders import DIGEST, T0, resource, training_job, wire_time

JOB = "digits-a1b2c3-1"


def at(seconds: float) -> str:
    return wire_time(T0 + timedelta(seconds=seconds))


def condition(kind: str, status: str, reason: str, message: str = "") -> Object:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": 1,
        "lastTransitionTime": at(60),
    }


def under_way(reason: str, message: str = "") -> list[Object]:
    return [
        condition("Ready", "False", reason, message),
        condition("Reconciling", "True", reason, message),
        condition("Stalled", "False", reason),
    ]


def ready(reason: str = "Complete") -> list[Object]:
    return [condition("Ready", "True", reason), condition("Stalled", "False", reason)]


def stalled(reason: str, message: str) -> list[Object]:
    return [condition("Ready", "False", reason, message), condition("Stalled", "True", reason, message)]


def aged(obj: Object) -> Object:
    obj["metadata"]["creationTimestamp"] = at(0)
    return obj


def step(owner: Object, role: str, phase: str = "Succeeded", **run: Any) -> Object:
    """A Step of that resource."""
    ended = {"endedAt": at(40)} if phase in ("Succeeded", "Failed") else {}
    tried = {"tries": 1, "job": f"digits-s-{role}", "state": phase, "startedAt": at(10), **ended, **run}
    made = resource(
        STEP, f"digits-s-{role}", uid=f"uid-of-{role}", status={"phase": phase, "run": tried}, role=role, digest=DIGEST
    )
    meta = owner["metadata"]
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"]}
    made["metadata"]["ownerReferences"] = [{**reference, "controller": True}]
    return aged(made)


def artifact(state: str, size_bytes: int) -> Object:
    return {"uri": "store:///training/u/1/artifact", "digest": DIGEST, "state": state, "sizeBytes": size_bytes}


def attempt(number: int, outcome: str | None = None, **more: Any) -> Object:
    ended = {"outcome": outcome, "endedAt": at(75)} if outcome else {}
    return {
        "number": number,
        "job": JOB,
        "pool": "gpu",
        "nodes": 2,
        "processesPerNode": 1,
        "startedAt": at(10),
        "runningAt": at(15),
        **ended,
        **more,
    }


def training(phase: str, conditions: list[Object], **status: Any) -> Object:
    body = {"observedGeneration": 1, "phase": phase, "conditions": conditions, **status}
    return aged(training_job(nodes=2, restarts={"max": 3}, status=body))


def running_training() -> Object:
    return training(
        "Running",
        under_way("AttemptRunning", "attempt 1 runs on 2 pods"),
        workers="2/2",
        attempts=[attempt(1)],
    )


def finished_training() -> Object:
    return training(
        "Succeeded",
        ready(),
        attempts=[attempt(1, "Succeeded")],
        artifact=artifact("module", 407_082),
        metrics={"accuracy": 0.9704, "loss": 0.1, "seconds": 12.0},
    )


def failed_training() -> Object:
    failure = {
        "reason": "Error",
        "index": 1,
        "rank": 1,
        "exception": "ValueError",
        "message": "bad\nbatch",
        "exitCode": 1,
    }
    return training(
        "Failed",
        stalled("RestartsSpent", "rank 1: ValueError: bad batch; fix the script and create the TrainingJob again"),
        restarts=3,
        attempts=[attempt(4, "Failed", failure=failure)],
    )


def deployment(phase: str, conditions: list[Object], **status: Any) -> Object:
    spec = {
        "model": {"trainingJob": "digits"},
        "compression": {"steps": [{"plugin": "quantize-int8"}]},
        "evaluation": {"data": {"dataset": "digits", "split": "test"}},
    }
    body = {"observedGeneration": 1, "phase": phase, "conditions": conditions, **status}
    return aged(resource(MODEL_DEPLOYMENT, "digits", uid="uid-of-md", status=body, **spec))


def compressing_deployment() -> Object:
    return deployment(
        "Compressing",
        under_way("StepRunning", "step-1-quantize-int8 runs"),
    )


def compressing_steps() -> list[Object]:
    owner = compressing_deployment()
    return [step(owner, "step-0-export-onnx"), step(owner, "step-1-quantize-int8", "Running")]


def serving_deployment(url: str = "http://digits.team.svc:8000") -> Object:
    gate = {
        "passed": True,
        "accuracyBaseline": 0.9704,
        "accuracyCandidate": 0.9685,
        "maxDrop": 0.02,
        "dropBound": 0.0071,
        "confidence": 0.95,
        "data": DIGEST,
        "counts": {"n": 540, "baselineRight": 524, "lost": 3, "gained": 2},
    }
    revision = {
        "name": "digits-r1",
        "digest": DIGEST,
        "model": artifact("onnx", 60_000),
        "gate": gate,
        "createdAt": at(60),
        "servingSince": at(90),
    }
    return deployment(
        "Ready",
        ready("Serving"),
        sizes={"floatBytes": 408_000, "compressedBytes": 60_000},
        accuracy="0.9685",
        revisions=[revision],
        candidate="digits-r1",
        serving="digits-r1",
        readyReplicas=1,
        selector="slipway.dev/revision=digits-r1",
        url=url,
    )


def serving_steps() -> list[Object]:
    return [step(serving_deployment(), "compare", counts={"n": 540, "baselineRight": 524, "lost": 3, "gained": 2})]


def pod(name: str, labels: dict[str, str], *, started: float = 20, ready: bool = False, **spec: Any) -> Object:
    """A pod whose one container `main` has started."""
    obj = resource(POD, name, uid=f"uid-of-{name}", **spec)
    obj["metadata"]["labels"] = {"slipway.dev/training-job": "digits", **labels}
    obj["status"] = {
        "startTime": at(started),
        "containerStatuses": [{"name": "main", "restartCount": 0, "state": {"running": {}}}],
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
    }
    return obj


def rank_pod(index: int, attempt_number: int = 1, **more: Any) -> Object:
    labels = {"slipway.dev/attempt": str(attempt_number), "batch.kubernetes.io/job-completion-index": str(index)}
    return pod(f"digits-{attempt_number}-{index}", labels, **more)


def step_pod(role: str, **more: Any) -> Object:
    labels = {"slipway.dev/role": role, "batch.kubernetes.io/job-completion-index": "0"}
    return pod(f"digits-t-{role}", labels, **more)


def service(cluster_ip: str = "None", port: int = 8000) -> Object:
    ports = [{"name": "http", "port": port, "targetPort": "http"}, {"name": "grpc", "port": 8001}]
    return resource(SERVICE, "digits", clusterIP=cluster_ip, ports=ports, selector={"app": "digits"})
