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
    answer = _asked(object=obj, health=health_checks().get(f"{group}_{obj['kind']}", ""))
    return Verdicts(answer["flux"]["status"], answer["argo"]["status"] if "argo" in answer else None)


def by_expressions(obj: Object) -> str:
    """What the example's healthCheckExprs, which stand for kstatus where they are given, make of an object."""
    kustomizations = yaml.safe_load_all((REPOSITORY / "flux" / "digits.yaml").read_text())
    given = [one for flux in kustomizations for one in flux["spec"].get("healthCheckExprs", ())]
    (expressions,) = [one for one in given if (one["apiVersion"], one["kind"]) == (obj["apiVersion"], obj["kind"])]
    return str(_asked(object=obj, expressions=expressions)["expressions"]["status"])


def _asked(**question: object) -> Object:
    command, text = [program("verdicts")], json.dumps(question)
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    answer: Object = json.loads(done.stdout)
    return answer


def rendered(overlay: Path) -> list[Object]:
    """What Flux and Argo CD apply of an overlay: as kustomize builds it."""
    done = subprocess.run([KUBECTL, "kustomize", overlay], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))
