"""The Helm chart: what it renders is what Kubernetes takes, and what its values say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from slipway.cli.main import app
from slipway.controller.defaults import read_defaults
from support.apiserver import ROOT, ApiServer
from support.chart import CHART, NAMESPACE, granted, helm, kubeconform, of_kind, rendered, write_schemas
from support.places import Json

EVERYTHING: Json = {
    "image": {"pullSecrets": [{"name": "registry"}], "pullPolicy": "Always"},
    "replicas": 2,
    "namespaces": ["team-a", "team-b"],
    "log": {"format": "console", "level": "debug"},
    "crds": {"keep": False},
    "serviceAccount": {"name": "operator", "annotations": {"example.com/role": "one"}},
    "podLabels": {"team": "platform"},
    "podAnnotations": {"example.com/scrape": "true"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "system-cluster-critical",
}
ALONE: Json = {
    "leaderElection": {"enabled": False},
    "defaults": {"compressionPlugins": False},
    "rbac": {"aggregate": False},
}
VALUES = pytest.mark.parametrize("values", [{}, EVERYTHING, ALONE], ids=["defaults", "everything", "alone"])
STRICT = {"dryRun": "All", "fieldValidation": "Strict"}


@pytest.fixture(scope="module")
def cluster(apiserver: ApiServer) -> ApiServer:
    """The server with the namespaces that the tests use; pods there must keep the restricted profile."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    for name in (NAMESPACE, "notes", *EVERYTHING["namespaces"]):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        apiserver.must("POST", "/api/v1/namespaces", body)
    return apiserver


def test_helm_has_nothing_to_say_against_it():
    done = helm("lint", str(CHART), "--strict")
    assert done.returncode == 0, done.stdout


@VALUES
def test_the_server_takes_every_object(cluster: ApiServer, values: Json):
    for obj in rendered(values):
        applied(cluster, obj, namespace=obj["metadata"].get("namespace", NAMESPACE))


@VALUES
def test_kubeconform_finds_every_object_valid(apiserver: ApiServer, tmp_path: Path, values: Json):
    plugins = [yaml.safe_load(path.read_text()) for path in (CHART / "files" / "plugins").glob("*.yaml")]
    objects = [*rendered(values), *plugins]
    write_schemas(apiserver, tmp_path, {obj["kind"] for obj in objects})
    done = kubeconform(objects, tmp_path)
    assert done.returncode == 0, done.stdout
    assert f"Summary: {len(objects)} resources" in done.stdout
    for kind, field in (("CompressionPlugin", "consumes"), ("Deployment", "replica")):
        good = of_kind(objects, kind)[0]
        assert kubeconform([{**good, "spec": {**good["spec"], field: "spoilt"}}], tmp_path).returncode == 1


@VALUES
def test_its_pods_keep_the_restricted_profile(cluster: ApiServer, values: Json):
    objects = rendered({**values, "priorityClassName": ""})
    templates = [deployment["spec"]["template"] for deployment in of_kind(objects, "Deployment")]
    for template in [*templates, *of_kind(objects, "Pod")]:
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "checked"}, "spec": template["spec"]}
        cluster.must("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", pod, **STRICT)
        for container in template["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_the_crds_are_those_of_the_repository_and_stay_on_uninstall():
    crds = of_kind(rendered(), "CustomResourceDefinition")
    for crd in crds:
        assert crd["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        crd["metadata"].pop("labels")
    files = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
    assert sorted(crds, key=lambda crd: crd["metadata"]["name"]) == files


def test_the_crds_go_with_the_release_where_that_is_asked_for():
    crds = of_kind(rendered({"crds": {"keep": False}}), "CustomResourceDefinition")
    assert [crd["metadata"].get("annotations") for crd in crds] == [None] * 5
    assert of_kind(rendered({"crds": {"install": False}}), "CustomResourceDefinition") == []


def test_nobody_is_given_secrets_or_everything():
    for role in [obj for obj in rendered() if obj["kind"] in ("Role", "ClusterRole")]:
        for (group, resource), verbs in granted(role).items():
            assert "*" not in {group, resource, *verbs}
            assert resource != "secrets"


def test_without_defaults_the_operator_writes_no_plugin():
    rights = granted(of_kind(rendered(ALONE), "ClusterRole")[0])
    assert rights["slipway.dev", "compressionplugins"] == {"list", "watch"}
    assert of_kind(rendered(ALONE), "ConfigMap") == []


def test_in_namespaces_of_its_own_the_operator_may_touch_no_other():
    release = rendered({"namespaces": ["blue", "green"]})
    everywhere = {binding["roleRef"]["name"] for binding in of_kind(release, "ClusterRoleBinding")}
    (role,) = [one for one in of_kind(release, "ClusterRole") if one["metadata"]["name"] in everywhere]
    assert {resource for _, resource in granted(role)} == {"compressionplugins", "gpupools"}
    bound = {obj["metadata"]["namespace"]: obj["roleRef"]["name"] for obj in of_kind(release, "RoleBinding")}
    assert bound == {NAMESPACE: "slipway-leader-election", "blue": "slipway-namespaced", "green": "slipway-namespaced"}


def test_the_command_line_of_the_operator_is_one_that_it_has():
    command = typer.main.get_command(app).commands["operator"]  # type: ignore[attr-defined]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    variables = {parameter.envvar for parameter in command.params if parameter.envvar}
    for values in ({}, EVERYTHING, ALONE):
        container = of_kind(rendered(values), "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]
        assert container["command"] == ["slipway", "operator"]
        assert {argument.split("=")[0] for argument in container["args"]} <= options
        assert {entry["name"] for entry in container["env"]} == variables | {"POD_NAME", "POD_NAMESPACE"}


def test_the_shipped_plugins_are_what_the_operator_applies_at_its_start(cluster: ApiServer, tmp_path: Path):
    for name, text in of_kind(rendered(), "ConfigMap")[0]["data"].items():
        (tmp_path / name).write_text(text)
    plugins = read_defaults(tmp_path)
    assert {plugin["metadata"]["name"] for plugin in plugins} == {"export-onnx", "prune-structured", "quantize-int8"}
    for plugin in plugins:
        applied(cluster, plugin)


def test_the_manifests_of_the_notes_can_be_pasted(cluster: ApiServer):
    notes = (CHART / "templates" / "NOTES.txt").read_text()
    pasted = re.search(r"^kubectl apply -f - <<END\n(.*?)^END\n", notes, re.DOTALL | re.MULTILINE)
    assert pasted
    manifests = list(yaml.safe_load_all(pasted[1]))
    assert [obj["kind"] for obj in manifests] == ["PersistentVolumeClaim", "ArtifactStore", "TrainingJob"]
    for obj in manifests:
        applied(cluster, obj, namespace="notes")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replica": 2}, "replica"),
        ({"image": {"operator": ""}}, "image/operator"),
        ({"replicas": 2, "leaderElection": {"enabled": False}}, "replicas"),
        ({"log": {"level": "loud"}}, "log/level"),
        ({"namespaces": ["Team"]}, "namespaces/0"),
        ({"workers": 0}, "workers"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_name(values: Json, named: str):
    done = helm("template", "slipway", str(CHART), "--kube-version", "1.37.0", values=values)
    assert done.returncode != 0
    assert named in done.stderr


def applied(server: ApiServer, obj: Json, *, namespace: str = NAMESPACE) -> None:
    """A server-side apply, without effect, in which an unknown field is an error."""
    group, _, version = obj["apiVersion"].rpartition("/")
    api = f"/apis/{group}/{version}" if group else f"/api/{version}"
    listed: list[dict[str, Any]] = server.must("GET", api)["resources"]
    resource = next(item for item in listed if item["kind"] == obj["kind"] and "/" not in item["name"])
    scope = f"/namespaces/{namespace}" if resource["namespaced"] else ""
    path = f"{api}{scope}/{resource['name']}/{obj['metadata']['name']}"
    server.must(
        "PATCH", path, obj, content_type="application/apply-patch+yaml", fieldManager="test", force="true", **STRICT
    )
