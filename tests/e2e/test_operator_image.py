"""The operator runs here as in production: from its image, unprivileged, on a root that nobody writes."""

from __future__ import annotations

import os

import pytest

from demo import chart
from demo.kubectl import Kubectl, KubectlError, Object

SYSTEM = Kubectl(chart.NAMESPACE)


@pytest.fixture
def pod(operator: chart.Images) -> Object:
    pods = SYSTEM.list("pods", "app.kubernetes.io/name=slipway")
    (running,) = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    assert running["spec"]["containers"][0]["image"] == operator.operator
    return running


def python(pod: Object, code: str) -> str:
    return SYSTEM("exec", pod["metadata"]["name"], "--", "python", "-c", code).strip()


def test_the_operators_pod_sees_nothing_of_the_nodes_files(pod: Object):
    assert "runtimeClassName" not in pod["spec"]
    assert not [volume for volume in pod["spec"]["volumes"] if "hostPath" in volume]
    if os.environ.get("SLIPWAY_DEV_CLUSTER"):
        assert pod["spec"]["containers"][0]["image"] == "localhost/slipway-operator:dev"


def test_its_namespace_enforces_the_restricted_profile(pod: Object):
    namespace = SYSTEM.get("namespace", chart.NAMESPACE) or {}
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert pod["status"]["phase"] == "Running"


def test_it_runs_as_a_user_of_its_own_without_capabilities(pod: Object):
    code = "import os; print(os.getuid(), [l.split()[1] for l in open('/proc/1/status') if l.startswith('CapEff')][0])"
    assert python(pod, code).split() == ["65532", "0" * 16]


def test_it_can_write_nowhere_but_in_its_scratch(pod: Object):
    code = """
import errno, os, pathlib, slipway
def may_write(folder):
    try:
        pathlib.Path(folder, "probe").write_text("")
    except OSError as error:
        return os.strerror(error.errno)
    return True
print([may_write(folder) for folder in ("/", os.path.dirname(slipway.__file__), "/etc", "/tmp")])
"""
    assert python(pod, code) == str(["Read-only file system"] * 3 + [True])


def test_it_carries_no_torch_and_the_commands_that_users_know(pod: Object):
    with pytest.raises(KubectlError, match="No module named 'torch'"):
        python(pod, "import torch")
    assert SYSTEM("exec", pod["metadata"]["name"], "--", "slipway", "version").startswith("slipway ")
