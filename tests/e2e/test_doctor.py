"""`slipway doctor --deep` and `slipway plan --live` on a cluster where pods run."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from demo import chart
from slipway.cli.main import app
from support.chain import fresh_namespace

EXAMPLES = Path(__file__).parents[2] / "examples" / "digits"


def test_a_pod_writes_to_the_store_and_looks_a_name_up_and_nothing_is_left(operator: chart.Images) -> None:
    kubectl = fresh_namespace("e2e-doctor")
    result = CliRunner().invoke(app, ["doctor", "-n", kubectl.namespace, "--deep", "-o", "json"])
    found = [(one["check"], one["level"]) for one in json.loads(result.stdout)]
    assert result.exit_code == 0, result.stdout
    assert "a pod has written to it, read it again and removed it" in result.stdout
    assert "a pod has looked up kubernetes.default.svc" in result.stdout
    assert ("leader", "ok") in found
    assert json.loads(kubectl("get", "jobs", "-o", "json"))["items"] == []


def test_a_plan_from_the_cluster_knows_the_operators_images_and_makes_nothing(operator: chart.Images) -> None:
    kubectl = fresh_namespace("e2e-plan")
    files = [word for name in ("training", "deployment") for word in ("-f", str(EXAMPLES / f"{name}.yaml"))]
    result = CliRunner().invoke(app, ["plan", "-n", kubectl.namespace, "--live", "-o", "yaml", *files])
    assert result.exit_code == 0, result.stderr
    assert f"image: {operator.runtime}" in result.stdout
    assert f"image: {operator.serving}" in result.stdout
    assert json.loads(kubectl("get", "trainingjobs,modeldeployments", "-o", "json"))["items"] == []
