"""The example repository for GitOps, and what Flux and Argo CD read out of objects: their own libraries, in Go."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

from slipway.api.kinds import Object
from support.apiserver import ROOT
from support.chart import program

REPOSITORY = ROOT / "examples" / "gitops"
KUBECTL = Path(sys.executable).with_name("kubectl")
HEALTH = "resource.customizations.health."


class Verdicts(NamedTuple):
    """flux: a status of kstatus. argo: a health status; None where Argo CD has no health check for the kind."""

    flux: str
    argo: str | None


@cache
def health_checks() -> dict[str, str]:
    """The scripts of the example's patch of argocd-cm, by group and kind as Argo CD names them."""
    data = yaml.safe_load((REPOSITORY / "argocd" / "argocd-cm.yaml").read_text())["data"]
    return {name.removeprefix(HEALTH): script for name, script in data.items()}


def verdicts(obj: Object) -> Verdicts:
    """Fails where a library refuses the object, or Argo CD would not take the script's answer."""
    group = obj["apiVersion"].rpartition("/")[0]
    question = {"object": obj, "health": health_checks().get(f"{group}_{obj['kind']}", "")}
    done = subprocess.run(
        [program("verdicts")], input=json.dumps(question), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    return Verdicts(answer["flux"]["status"], answer["argo"]["status"] if "argo" in answer else None)


def rendered(overlay: Path) -> list[Object]:
    """What Flux and Argo CD apply of an overlay: as kustomize builds it."""
    done = subprocess.run([KUBECTL, "kustomize", overlay], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))
