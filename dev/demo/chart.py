"""The Helm chart of this checkout, installed as a user would."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from demo.kubectl import Kubectl

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "slipway-system"


@dataclass(frozen=True, slots=True)
class Images:
    """The images that the chart is told to use."""

    operator: str
    runtime: str
    serving: str


def images() -> Images:
    """Those of the development cluster, or, on a user's own, what SLIPWAY_{OPERATOR,RUNTIME,SERVING}_IMAGE say.

    On the development cluster BUILT_IMAGES names those that were built and imported (dev/with-cluster).
    """
    names = ("operator", "runtime", "serving")
    if os.environ.get("SLIPWAY_DEV_CLUSTER"):
        built = os.environ.get("BUILT_IMAGES", "").split()
        return Images(
            *(f"localhost/slipway-{name}:dev" if name in built else f"slipway.local/{name}:dev" for name in names)
        )
    given = [os.environ.get(f"SLIPWAY_{name.upper()}_IMAGE") for name in names]
    if not all(given):
        raise SystemExit(
            "on your own cluster, set SLIPWAY_OPERATOR_IMAGE, SLIPWAY_RUNTIME_IMAGE, SLIPWAY_SERVING_IMAGE"
        )
    return Images(*(str(image) for image in given))


def helm_program() -> str:
    """The path of helm: the user's, or the one built for the development cluster."""
    if os.environ.get("SLIPWAY_DEV_CLUSTER"):
        built = subprocess.run([ROOT / "dev/cluster/build", "helm"], capture_output=True, text=True, check=True)
        return built.stdout.strip().splitlines()[-1]
    return "helm"


def install(chosen: Images) -> None:
    """`helm upgrade --install` into a restricted namespace, and the wait until the operator is ready.

    Raises CalledProcessError.
    """
    Kubectl(NAMESPACE).ensure_namespace()
    values = [
        f"--set=image.operator={chosen.operator}",
        f"--set=image.runtime={chosen.runtime}",
        f"--set=image.serving={chosen.serving}",
    ]
    command = [helm_program(), "upgrade", "--install", "slipway", str(ROOT / "helm/slipway")]
    where = [f"--namespace={NAMESPACE}", "--wait", "--timeout=3m"]
    subprocess.run([*command, *where, *values], check=True, stdout=subprocess.DEVNULL, timeout=240)


def restart() -> None:
    """Pods of the development cluster see new code only when they start anew."""
    deployments = ["kubectl", f"--namespace={NAMESPACE}", "rollout"]
    subprocess.run([*deployments, "restart", "deployment", "-l", "app.kubernetes.io/name=slipway"], check=True)
    subprocess.run(
        [*deployments, "status", "deployment", "-l", "app.kubernetes.io/name=slipway", "--timeout=120s"], check=True
    )
