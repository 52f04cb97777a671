"""A ModelDeployment whose first step is at work for long: time to look at its pod, or to let its node die."""

from __future__ import annotations

from demo.kubectl import Kubectl, Object
from support.manifests import digits_deployment

_EPOCHS = 5000


def long_deployment(name: str) -> Object:
    """It prunes the example's model; its step ends by itself long after any test."""
    step = {"plugin": "prune-structured", "params": {"ratio": 0.3, "recover": {"epochs": _EPOCHS}}}
    return digits_deployment(name, compression={"steps": [step], "resources": {"cpu": "250m", "memory": "2Gi"}})


def running_step(kubectl: Kubectl, name: str, *, node: str = "", timeout_seconds: float = 240) -> tuple[Object, Object]:
    """The record of the step and its pod, once that runs; node: on this one."""
    found: list[Object] = []

    def runs(_: Object) -> bool:
        found[:] = [
            pod
            for pod in kubectl.list("pod", f"slipway.dev/model-deployment={name}")
            if pod["metadata"]["labels"]["slipway.dev/role"].startswith("step-0")
            and pod["status"]["phase"] == "Running"
            and node in ("", pod["spec"]["nodeName"])
        ]
        return len(found) == 1 and bool(_run(kubectl, found[0]))

    kubectl.until("modeldeployment", name, runs, timeout_seconds=timeout_seconds)
    return _run(kubectl, found[0]), found[0]


def _run(kubectl: Kubectl, pod: Object) -> Object:
    """The record of its Step; empty before it is written."""
    step = kubectl.get("step", pod["metadata"]["labels"]["slipway.dev/step"]) or {}
    found: Object = step.get("status", {}).get("run", {})
    return found
