"""The example on a cluster of its own namespace, and what it made, by digest."""

from __future__ import annotations

from dataclasses import dataclass

from demo.digits import EXAMPLE
from demo.kubectl import Kubectl, Object, is_true


@dataclass(frozen=True, slots=True)
class Chain:
    """The example after a run: what was made on the way, by digest."""

    kubectl: Kubectl
    serving: str
    digests: dict[str, str]


def fresh_namespace(name: str) -> Kubectl:
    """A namespace under the restricted Pod Security Standard, with the store `default` and the pool `gpu`."""
    kubectl = Kubectl(name)
    kubectl("delete", "namespace", name, "--ignore-not-found", timeout_seconds=120)
    kubectl.ensure_namespace()
    kubectl("apply", "--server-side", "-f", str(EXAMPLE / "store.yaml"))
    return kubectl


def chain_of(kubectl: Kubectl) -> Chain:
    """What the example made. Fails where it does not serve."""
    job = kubectl.get("trainingjob", "digits") or {}
    deployment = kubectl.get("modeldeployment", "digits") or {}
    assert is_true(job, "Complete"), job.get("status")
    assert is_true(deployment, "Ready"), deployment.get("status")
    made = {role: run["artifact"]["digest"] for role, run in runs_of(kubectl, "digits").items() if run.get("artifact")}
    return Chain(kubectl, deployment["status"]["serving"], {"model": job["status"]["artifact"]["digest"], **made})


def runs_of(kubectl: Kubectl, deployment: str) -> dict[str, Object]:
    """The newest runs of the Steps of a ModelDeployment, by role."""
    steps = kubectl.list("step", f"slipway.dev/model-deployment={deployment}")
    return {step["spec"]["role"]: step.get("status", {}).get("run", {}) for step in steps}
