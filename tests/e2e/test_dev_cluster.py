"""The development cluster itself: what the other tests of this folder take for granted."""

import json
import os
import secrets
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.release

REPOSITORY = Path(__file__).resolve().parents[2]
OBJECTS = Path(__file__).with_name("dev-cluster.yaml")

Kubectl = Callable[..., str]


def call(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    kubeconfig = os.environ.get("KUBECONFIG") or REPOSITORY / "build" / "cluster" / "kubeconfig"
    command = ["kubectl", f"--kubeconfig={kubeconfig}", *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=90)


def checked(*arguments: str, given: str | None = None) -> str:
    done = call(*arguments, given=given)
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def kubectl() -> Iterator[Kubectl]:
    """kubectl in a namespace that enforces the restricted profile and holds the objects, its pods ready."""
    name = f"dev-cluster-{secrets.token_hex(3)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    checked("create", "--filename=-", given=json.dumps(namespace))
    try:
        checked("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=30s")
        checked("apply", f"--namespace={name}", f"--filename={OBJECTS}")
        checked("wait", "--for=condition=Ready", "pod/web", "pod/triton", f"--namespace={name}", "--timeout=60s")
        yield lambda *arguments, **options: checked(f"--namespace={name}", *arguments, **options)
    finally:
        checked("delete", "namespace", name, "--wait=false")


def pod_running(image: str, *, init_image: str | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "main", "image": image}]}
    if init_image:
        spec["initContainers"] = [{"name": "init", "image": init_image}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": spec}


def admitted(pod: dict[str, Any]) -> dict[str, Any]:
    """What the API server would store."""
    answer = checked("create", "--dry-run=server", "--output=json", "--filename=-", given=json.dumps(pod))
    spec: dict[str, Any] = json.loads(answer)["spec"]
    return spec


def python(kubectl: Kubectl, code: str) -> str:
    return kubectl("exec", "web", "--container=web", "--", "python", "-c", code).strip()


def test_the_node_is_ready_and_shows_three_gpus() -> None:
    [node] = json.loads(checked("get", "nodes", "--selector=accelerator=fake", "--output=json"))["items"]
    conditions = {each["type"]: each["status"] for each in node["status"]["conditions"]}
    assert conditions["Ready"] == "True"
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "3"


def test_a_pod_that_asks_for_more_gpus_than_the_node_has_stays_pending(kubectl: Kubectl) -> None:
    kubectl("wait", "--for=condition=PodScheduled=False", "pod/too-many-gpus", "--timeout=30s")
    status = json.loads(kubectl("get", "pod", "too-many-gpus", "--output=json"))["status"]
    assert status["phase"] == "Pending"
    assert "Insufficient nvidia.com/gpu" in status["conditions"][0]["message"]


def test_python_in_a_pod_is_the_environments(kubectl: Kubectl) -> None:
    seen = python(kubectl, "import os, sys, slipway; print(os.getuid(), sys.prefix, slipway.__file__)")
    user, prefix, file = seen.split()
    assert user == "65532"
    assert prefix == "/opt/slipway/venv"
    assert file.startswith(prefix)


def test_a_pod_of_a_headless_service_is_found_by_its_name(kubectl: Kubectl) -> None:
    address = json.loads(kubectl("get", "pod", "web", "--output=json"))["status"]["podIP"]
    found = python(kubectl, "import socket; print(socket.gethostbyname('web-0.peers'))")
    assert found == address


def test_a_name_that_nobody_has_is_refused_at_once(kubectl: Kubectl) -> None:
    code = """
import socket
try:
    socket.gethostbyname("nobody.example")
except socket.gaierror as error:
    print(error.errno == socket.EAI_NONAME)
"""
    assert python(kubectl, code) == "True"


def test_a_service_is_reached_by_its_address_from_pods_and_from_the_host(kubectl: Kubectl) -> None:
    address = json.loads(kubectl("get", "service", "web", "--output=json"))["spec"]["clusterIP"]
    url = f"http://{address}/jobs/new/0/model/file"
    inside = python(kubectl, f"import urllib.request; print(urllib.request.urlopen('{url}', timeout=5).read())")
    with urllib.request.urlopen(url, timeout=5) as answer:
        outside = answer.read()
    assert outside == b"weights\n"
    assert inside == repr(outside)


def test_the_store_is_read_only_but_for_the_pods_own_new_folder(kubectl: Kubectl) -> None:
    code = """
import errno, pathlib
pathlib.Path("/output/second").write_text("mine")
print(pathlib.Path("/store/jobs/new/0/second").read_text())
try:
    pathlib.Path("/store/second").write_text("not mine")
except OSError as error:
    print(error.errno == errno.EROFS)
"""
    assert python(kubectl, code).split() == ["mine", "True"]


def test_files_of_the_store_belong_to_the_fs_group(kubectl: Kubectl) -> None:
    code = """
import pathlib
print({path.stat().st_gid for path in pathlib.Path("/store").rglob("*")})
"""
    assert python(kubectl, code) == "{65532}"


def test_triton_answers_an_inference_with_the_right_values(kubectl: Kubectl) -> None:
    address = json.loads(kubectl("get", "service", "triton", "--output=json"))["spec"]["clusterIP"]
    given = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, -4]}
    body = json.dumps({"inputs": [given]}).encode()
    with urllib.request.urlopen(f"http://{address}:8000/v2/models/double/infer", body, timeout=5) as answer:
        [output] = json.load(answer)["outputs"]
    assert output["data"] == [3, -8]


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(pod_running("slipway.local/operator:dev"), id="container"),
        pytest.param(pod_running("example.com/a:1", init_image="slipway.local/runtime:dev"), id="init container"),
    ],
)
def test_a_pod_of_an_empty_image_sees_the_hosts_programs_without_a_host_path(pod: dict[str, Any]) -> None:
    spec = admitted(pod)
    assert spec["runtimeClassName"] == "slipway-host-files"
    assert not [volume for volume in spec["volumes"] if "hostPath" in volume]


def test_a_pod_of_another_image_is_left_alone() -> None:
    assert "runtimeClassName" not in admitted(pod_running("example.com/a:1"))
