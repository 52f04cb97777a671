"""The life of a release: installed, upgraded and uninstalled by helm on an API server of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from support.accounts import Account
from support.apiserver import ApiServer, running
from support.chart import CHART, NAMESPACE, defaults_of, helm, of_kind, rendered
from support.operator_process import OperatorProcess, running_operator
from support.places import Json

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/slipway"
JOBS = "/apis/slipway.dev/v1alpha1/namespaces/default/trainingjobs"
WITH_STORE: Json = {"namespaces": ["blue", "green"], "defaultStore": {"enabled": True, "claim": {"size": "1Gi"}}}
CLAIM = "/api/v1/namespaces/blue/persistentvolumeclaims/slipway-default"
SECONDS = 60


@pytest.fixture(scope="module")
def empty() -> Iterator[ApiServer]:
    """Without our CRDs: those of the shared server were not made by helm."""
    with running() as server:
        yield server


def release(
    server: ApiServer, verb: str, *arguments: str, values: Json | None = None, namespace: str = NAMESPACE
) -> None:
    done = asked_of_helm(server, verb, *arguments, values=values, namespace=namespace)
    assert done.returncode == 0, done.stderr


def asked_of_helm(
    server: ApiServer, verb: str, *arguments: str, values: Json | None = None, namespace: str = NAMESPACE
) -> subprocess.CompletedProcess[str]:
    where = ("--namespace", namespace, "--kubeconfig", str(server.kubeconfig))
    return helm(verb, "slipway", *arguments, *where, values=values)


def everything(server: ApiServer) -> set[str]:
    """The path of every object of every kind, but for Events, which end by themselves."""
    versions = [group["preferredVersion"]["groupVersion"] for group in server.must("GET", "/apis")["groups"]]
    found = set()
    for api in ("/api/v1", *(f"/apis/{version}" for version in versions)):
        for resource in server.must("GET", api)["resources"]:
            if "list" in resource["verbs"] and resource["kind"] != "Event":
                items = server.must("GET", f"{api}/{resource['name']}").get("items") or ()
                found |= {
                    f"{resource['name']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}"
                    for one in items
                }
    return found


def test_a_release_leaves_resources_alone_from_its_first_install_to_its_next(empty: ApiServer):
    release(empty, "install", str(CHART), "--create-namespace")
    job = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": "digits"},
        "spec": {"entrypoint": {"module": {"name": "team.train"}}},
    }
    uid = empty.must("POST", JOBS, job)["metadata"]["uid"]

    release(empty, "upgrade", str(CHART), values={"replicas": 2})
    assert empty.must("GET", DEPLOYMENT)["spec"]["replicas"] == 2

    release(empty, "uninstall")
    assert empty.request("GET", DEPLOYMENT)[0] == 404
    assert empty.must("GET", f"{JOBS}/digits")["metadata"]["uid"] == uid

    release(empty, "install", str(CHART))
    assert empty.must("GET", f"{JOBS}/digits")["metadata"]["uid"] == uid
    assert len(empty.must("GET", CRDS)["items"]) == 6


def test_a_release_makes_its_default_store_where_there_is_none_and_leaves_it_with_its_data(
    empty: ApiServer, tmp_path: Path
):
    install_with_store(empty)
    theirs = {"metadata": {"name": "default"}, "spec": {"persistentVolumeClaim": {"claimName": "mine"}}}
    empty.must("POST", stores("green"), {"apiVersion": "slipway.dev/v1alpha1", "kind": "ArtifactStore", **theirs})
    claim = empty.must("GET", CLAIM)["metadata"]["uid"]
    with operator_of_the_release(empty, tmp_path) as operator:
        asked = hook_asks(empty, tmp_path, operator, seconds=SECONDS)
        assert asked.returncode == 0, asked.stdout
        assert "ok   store blue/default is " in asked.stdout
        until(lambda: "kept a store that differs" in operator.log.read_text())
        made = empty.must("GET", f"{stores('blue')}/default")
        assert made["spec"]["persistentVolumeClaim"] == {"claimName": "slipway-default"}
        kept = empty.must("GET", f"{stores('green')}/default")
        assert kept["spec"]["persistentVolumeClaim"] == {"claimName": "mine"}

    release(empty, "uninstall")
    assert empty.must("GET", CLAIM)["metadata"]["uid"] == claim
    assert empty.must("GET", f"{stores('blue')}/default")["metadata"]["uid"] == made["metadata"]["uid"]
    release(empty, "install", str(CHART), values=WITH_STORE)
    assert empty.must("GET", CLAIM)["metadata"]["uid"] == claim


def test_helm_test_names_what_a_release_lacks(empty: ApiServer, tmp_path: Path):
    install_with_store(empty)
    with operator_of_the_release(empty, tmp_path) as operator:
        assert hook_asks(empty, tmp_path, operator, seconds=SECONDS).returncode == 0
        empty.must("DELETE", "/apis/slipway.dev/v1alpha1/compressionplugins/quantize-int8")
        asked = hook_asks(empty, tmp_path, operator, seconds=0)
        assert asked.returncode == 1
        (failed,) = [line for line in asked.stdout.splitlines() if line.startswith("FAIL")]
        assert failed == "FAIL plugin 404 Not Found: /apis/slipway.dev/v1alpha1/compressionplugins/quantize-int8"
    asked = hook_asks(empty, tmp_path, operator, seconds=0)
    assert asked.returncode == 1
    assert "FAIL operator <urlopen error [Errno 111] Connection refused>" in asked.stdout


def test_releases_of_one_name_serve_namespaces_of_their_own_and_each_leaves_alone(empty: ApiServer):
    for namespace in ("north", "south", "team-north", "team-south"):
        empty.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    release(empty, "upgrade", str(CHART), "--install", values={"namespaces": ["team-north"]})
    before = everything(empty)
    second = {"namespaces": ["team-south"], "crds": {"install": False}, "defaults": {"compressionPlugins": False}}
    release(empty, "install", str(CHART), values=second, namespace="south")
    together = everything(empty)
    assert before < together
    release(empty, "upgrade", str(CHART), values={**second, "replicas": 2}, namespace="south")

    taken = asked_of_helm(
        empty, "install", str(CHART), values={**second, "namespaces": ["team-north"]}, namespace="north"
    )
    assert taken.returncode != 0
    assert "team-north" in taken.stderr
    assert f'current value is "{NAMESPACE}"' in taken.stderr
    assert everything(empty) - together <= {
        "poddisruptionbudgets south/slipway",
        "secrets north/sh.helm.release.v1.slipway.v1",
        "secrets south/sh.helm.release.v1.slipway.v2",
    }

    release(empty, "uninstall", namespace="south")
    asked_of_helm(empty, "uninstall", namespace="north")
    assert everything(empty) == before


def test_a_release_that_keeps_no_crds_leaves_nothing(tmp_path: Path):
    values = {"crds": {"keep": False}, "admissionPolicy": {"enabled": True}}
    with running() as server:
        server.must("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        until(lambda: "services default/kubernetes" in everything(server))  # a new server makes it after it is ready
        before = everything(server)
        release(server, "install", str(CHART), values=values)
        with operator_of_the_release(server, tmp_path, values) as operator:
            assert hook_asks(server, tmp_path, operator, seconds=SECONDS, values=values).returncode == 0
        release(server, "uninstall")
        until(lambda: all(group["name"] != "slipway.dev" for group in server.must("GET", "/apis")["groups"]))
        assert everything(server) == before


def install_with_store(server: ApiServer) -> None:
    """Also where a test before this one has left its release."""
    for namespace in WITH_STORE["namespaces"]:
        server.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    release(server, "upgrade", str(CHART), "--install", "--create-namespace", values=WITH_STORE)


def stores(namespace: str) -> str:
    return f"/apis/slipway.dev/v1alpha1/namespaces/{namespace}/artifactstores"


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)  # between two questions; the wait is for the operator


@contextmanager
def operator_of_the_release(server: ApiServer, folder: Path, values: Json = WITH_STORE) -> Iterator[OperatorProcess]:
    """The process that the release's pod would be: with its arguments, its files and the rights of its account."""
    objects = rendered(values)
    defaults = folder / "defaults"
    defaults.mkdir()
    defaults_of(objects, defaults)
    (container,) = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"]
    arguments = [argument.replace("/etc/slipway/defaults", str(defaults)) for argument in container["args"]]
    kubeconfig = Account(NAMESPACE, "slipway").kubeconfig(server, folder / "kubeconfig")
    with running_operator(kubeconfig, folder / "log", "--lease-namespace", NAMESPACE, *arguments) as operator:
        operator.wait_until_ready()
        yield operator


def hook_asks(
    server: ApiServer, folder: Path, operator: OperatorProcess, *, seconds: int, values: Json = WITH_STORE
) -> subprocess.CompletedProcess[str]:
    """The hook's container, as a process of this machine."""
    (pod,) = of_kind(rendered(values), "Pod")
    (container,) = pod["spec"]["containers"]
    kubeconfig = yaml.safe_load((folder / "kubeconfig").read_text())
    (folder / "token").write_text(kubeconfig["users"][0]["user"]["token"])
    (folder / "ca.crt").write_text(server.authority())
    api = urlsplit(server.url)
    environment = {
        **os.environ,
        **{entry["name"]: entry["value"] for entry in container["env"]},
        "KUBERNETES_SERVICE_HOST": str(api.hostname),
        "KUBERNETES_SERVICE_PORT": str(api.port),
        "METRICS": f"http://127.0.0.1:{operator.metrics_port}/metrics",
        "ACCOUNT": str(folder),
        "SECONDS": str(seconds),
    }
    command = [sys.executable, "-c", *container["args"]]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=2 * SECONDS)
