"""A plugin in an image of its own, as docs/how-to/plugin.md says, beside an operator that knows nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from demo import chart
from demo.kubectl import Kubectl, Object, is_true
from slipway.cli.main import app
from support.chain import Chain, runs_of
from support.examples import PLUGIN, example_plugin_installed

pytestmark = pytest.mark.images

IMAGE = "localhost/svd-linear:1.0.0"


def manifest() -> Object:
    with example_plugin_installed():
        done = CliRunner().invoke(app, ["plugin", "manifest", "svd-linear", "--image", IMAGE])
    assert done.exit_code == 0, done.output
    return dict(yaml.safe_load(done.stdout))


def operators_pods() -> list[tuple[str, int]]:
    pods = Kubectl(chart.NAMESPACE).list("pods", "app.kubernetes.io/name=slipway")
    return [(pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in pods]


def test_it_compresses_in_its_own_image_and_the_operator_stays_as_it_was(served: Chain):
    kubectl, before = served.kubectl, operators_pods()
    kubectl.apply(manifest())
    kubectl("apply", "-f", str(Path(PLUGIN) / "deployment.yaml"))
    deployed = kubectl.settled("modeldeployment", "digits-svd", timeout_seconds=420)
    assert is_true(deployed, "Ready"), deployed["status"]
    steps = runs_of(kubectl, "digits-svd")
    given = deployed["status"]["revisions"][-1]["baseline"]["digest"]
    assert steps["step-0-svd-linear"]["artifact"]["digest"] != given  # it has changed the graph
    job = kubectl.get("job", steps["step-0-svd-linear"]["job"]) or {}
    assert IMAGE in [container["image"] for container in job["spec"]["template"]["spec"]["containers"]]
    assert operators_pods() == before
