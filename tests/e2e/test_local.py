"""The examples end on this machine as they end on the cluster: the same artifacts, the same conditions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from demo.kubectl import Kubectl, Object
from slipway.plan.observation import controller_uid
from support.chain import Chain
from support.local_runs import finished, objects
from support.manifests import EXAMPLES

pytestmark = pytest.mark.release

KINDS = ("TrainingJob", "ModelDeployment")
FILES = {
    "digits": [EXAMPLES / "digits/training.yaml", EXAMPLES / "digits/deployment.yaml"],
    "digits-script": [EXAMPLES / "digits"],  # the kustomization, which makes the ConfigMap
}


@pytest.fixture(scope="module")
def both(served: Chain) -> Iterator[Kubectl]:
    """The namespace in which both examples serve."""
    kubectl = served.kubectl
    kubectl("apply", "--server-side", "-k", str(EXAMPLES / "digits"))
    kubectl.settled("modeldeployment", "digits-script", timeout_seconds=420)
    yield kubectl
    for kind in reversed(KINDS):
        kubectl.delete(kind, "digits-script")  # its server takes half a processor from the tests that follow


@pytest.mark.parametrize("name", FILES)
def test_an_example_ends_as_it_does_on_the_cluster(name: str, both: Kubectl, tmp_path: Path):
    state = tmp_path / "state"
    code, said = finished(state, FILES[name], "--cpu")
    assert code == 0, said
    for kind in KINDS:
        (here,) = objects(state, kind)
        there = both.get(kind, name) or {}
        assert made(here, objects(state, "Step")) == made(there, both.list("steps"))
        assert conditions(here) == conditions(there)


def made(obj: Object, steps: Iterable[Object]) -> dict[str, str]:
    """Digests of all artifacts of a resource by the role of the Step that made them."""
    uid, status = obj["metadata"]["uid"], obj["status"]
    runs = {step["spec"]["role"]: step["status"]["run"] for step in steps if controller_uid(step) == uid}
    found = {role: run["artifact"]["digest"] for role, run in runs.items() if run.get("artifact")}
    assert found
    return found | ({"model": status["artifact"]["digest"]} if "artifact" in status else {})


def conditions(obj: Object) -> set[tuple[str, str, str]]:
    return {(one["type"], one["status"], one["reason"]) for one in obj["status"]["conditions"]}
