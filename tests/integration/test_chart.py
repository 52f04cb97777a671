"""The Helm chart: what it renders is what Kubernetes takes, and what its values say."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import typer
import yaml

from slipway.cli.main import app
from support.apiserver import ROOT, ApiServer, make_crds
from support.chart import (
    CHART,
    KUBERNETES,
    NAMESPACE,
    STRICT,
    applied,
    defaults_of,
    granted,
    helm,
    kubeconform,
    of_kind,
    refusal,
    rendered,
    service_monitor_crd,
    write_schemas,
)
from support.places import Json

EVERYTHING: Json = {
    "image": {
        "pullSecrets": [{"name": "registry"}],
        "pullPolicy": "Always",
        "digests": {"operator": f"sha256:{'a' * 64}", "runtime": f"sha256:{'b' * 64}"},
        "mirrors": ["mirror.example/cache"],
    },
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
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "defaultStore": {"enabled": True, "claim": {"size": "10Gi", "storageClassName": "shared", "subPath": "models"}},
    "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "30s"}},
    "priorityClassName": "system-cluster-critical",
    "admissionPolicy": {"enabled": True, "users": ["system:serviceaccount:kueue-system:kueue"]},
}
CRD = "CustomResourceDefinition"
ALONE: Json = {
    "leaderElection": {"enabled": False},
    "defaults": {"compressionPlugins": False},
    "rbac": {"create": False},
    "serviceAccount": {"create": False, "name": "theirs"},
}
VALUES = pytest.mark.parametrize("values", [{}, EVERYTHING, ALONE], ids=["defaults", "everything", "alone"])


@pytest.fixture(scope="module")
def cluster(apiserver: ApiServer) -> ApiServer:
    """The server with the namespaces that the tests use; pods there must keep the restricted profile."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    for name in (NAMESPACE, "notes", "team-c", *EVERYTHING["namespaces"]):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        # Another file may have made it on the same server.
        path, how = f"/api/v1/namespaces/{name}", {"fieldManager": "tests", "force": "true"}
        apiserver.must("PATCH", path, body, content_type="application/apply-patch+yaml", **how)
    make_crds(apiserver, service_monitor_crd())
    return apiserver


def test_helm_has_nothing_to_say_against_it():
    done = helm("lint", str(CHART), "--strict")
    assert done.returncode == 0, done.stdout


@VALUES
def test_the_server_takes_every_object(cluster: ApiServer, values: Json):
    for obj in rendered(values):
        applied(cluster, obj, namespace=obj["metadata"].get("namespace", NAMESPACE))


@pytest.mark.parametrize(("name", "version"), [("true", "0.1.0"), ("slipway", "0.1.0+1a2b3c4d")])
def test_the_server_takes_every_object_of_any_release_and_version(
    cluster: ApiServer, tmp_path: Path, name: str, version: str
):
    """Flux appends a commit to the version of a chart that it takes from git."""
    folder = shutil.copytree(CHART, tmp_path / "slipway")
    meta = folder / "Chart.yaml"
    meta.write_text(meta.read_text().replace("\nversion: 0.1.0\n", f"\nversion: {version}\n"))
    done = helm("template", name, str(folder), "--namespace", NAMESPACE, "--kube-version", KUBERNETES)
    assert done.returncode == 0, done.stderr
    objects = [obj for obj in yaml.safe_load_all(done.stdout) if obj]
    for obj in objects:
        applied(cluster, obj, namespace=obj["metadata"].get("namespace", NAMESPACE))
    (deployment,) = of_kind(objects, "Deployment")
    assert deployment["metadata"]["labels"]["helm.sh/chart"] == f"slipway-{version.replace('+', '_')}"


@VALUES
def test_kubeconform_finds_every_object_valid(apiserver: ApiServer, tmp_path: Path, values: Json):
    plugins = [yaml.safe_load(path.read_text()) for path in (CHART / "files" / "plugins").glob("*.yaml")]
    objects = [*rendered(values), *plugins]
    write_schemas(apiserver, tmp_path, {obj["kind"] for obj in objects})
    done = kubeconform(objects, tmp_path)
    assert done.returncode == 0, done.stdout
    assert f"Summary: {len(objects)} resources" in done.stdout
    for kind, field in (("CompressionPlugin", "consumes"), ("Deployment", "replica"), ("ServiceMonitor", "endpoints")):
        good = next(iter(of_kind(objects, kind)), None)
        if good is None:  # a ServiceMonitor is made where it is asked for
            continue
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


def test_who_may_write_a_resource_may_read_it():
    """kubectl scale --current-replicas reads the scale before it writes it."""
    view, edit = (
        next(granted(role) for role in of_kind(rendered(), "ClusterRole") if role["metadata"]["name"] == name)
        for name in (f"slipway:{NAMESPACE}:view", f"slipway:{NAMESPACE}:edit")
    )
    assert ("slipway.dev", "modeldeployments/scale") in edit
    assert {resource for resource in edit if "get" not in view.get(resource, ())} == set()


def test_the_crds_are_those_of_the_repository_and_stay_on_uninstall():
    crds = of_kind(rendered(), "CustomResourceDefinition")
    for crd in crds:
        assert crd["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        crd["metadata"].pop("labels")
    files = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "crds").glob("*.yaml"))]
    assert sorted(crds, key=lambda crd: crd["metadata"]["name"]) == files


def test_the_crds_go_with_the_release_where_that_is_asked_for():
    crds = of_kind(rendered({"crds": {"keep": False}}), "CustomResourceDefinition")
    assert [crd["metadata"].get("annotations") for crd in crds] == [None] * 6
    assert of_kind(rendered({"crds": {"install": False}}), "CustomResourceDefinition") == []


def test_who_may_make_no_roles_installs_beside_those_that_an_administrator_made():
    alone = rendered({"rbac": {"create": False}})
    printed = rendered({}, "--show-only", "templates/rbac.yaml")
    kinds = {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
    assert {obj["kind"] for obj in alone} & kinds == set()
    assert {obj["kind"] for obj in printed} == kinds
    operators = [obj for obj in rendered({"rbac": {"aggregate": False}}) if obj["kind"] in kinds]
    assert printed == operators


def test_the_operator_runs_under_an_account_that_is_there():
    release = rendered(ALONE)
    assert of_kind(release, "ServiceAccount") == []
    (deployment,) = of_kind(release, "Deployment")
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == "theirs"


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True)])
def test_an_upgrade_may_turn_the_election_off_and_on(cluster: ApiServer, before: bool, after: bool):
    """Helm 4 applies on the server, which refuses Recreate beside the defaults that it gave a RollingUpdate."""
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/slipway"
    how = {"content_type": "application/apply-patch+yaml", "fieldManager": "helm"}
    for elects in (before, after):
        (deployment,) = of_kind(rendered({"leaderElection": {"enabled": elects}}), "Deployment")
        cluster.must("PATCH", path, deployment, **how)
    cluster.must("DELETE", path)


def test_of_two_operators_one_is_kept_while_nodes_are_drained():
    assert of_kind(rendered({"replicas": 1}), "PodDisruptionBudget") == []
    release = rendered({"replicas": 2, "podLabels": {"team": "platform"}})
    (budget,) = of_kind(release, "PodDisruptionBudget")
    (deployment,) = of_kind(release, "Deployment")
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["selector"] == deployment["spec"]["selector"]


def test_the_pod_of_helm_test_goes_however_it_ends_and_shows_why_it_failed():
    (pod,) = of_kind(rendered(), "Pod")
    annotations = pod["metadata"]["annotations"]
    assert set(annotations["helm.sh/hook-delete-policy"].split(",")) == {
        "before-hook-creation",
        "hook-succeeded",
        "hook-failed",
    }
    assert annotations["helm.sh/hook-output-log-policy"] == "hook-failed"


def test_long_names_of_two_releases_stay_two_names_and_fit_a_service():
    names = [f"{'team-' * 9}{number}" for number in (1, 2)]
    objects = [
        {(obj["kind"], obj["metadata"]["name"]) for obj in rendered(None, name=name) if obj["kind"] != CRD}
        for name in names
    ]
    assert objects[0] & objects[1] == set()
    assert all(len(name) <= 63 for kind, name in objects[0] | objects[1] if kind == "Service")


@VALUES
def test_releases_of_one_name_share_no_object_but_the_crds(values: Json):
    first, second = (
        {
            (obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"])
            for obj in rendered(
                {**values, "admissionPolicy": {"enabled": True}, "namespaces": [f"served-by-{namespace}"]},
                namespace=namespace,
            )
            if obj["kind"] != CRD
        }
        for namespace in ("one", "two")
    )
    assert first & second == set()
    assert len(first) == len(second) >= 3


def test_prometheus_finds_the_metrics_if_the_values_say_so():
    assert of_kind(rendered(), "ServiceMonitor") == []
    release = rendered(EVERYTHING)
    (monitor,) = of_kind(release, "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["endpoints"] == [{"port": "metrics", "interval": "30s"}]
    selected = monitor["spec"]["selector"]["matchLabels"].items()
    (service,) = [obj for obj in of_kind(release, "Service") if selected <= obj["metadata"]["labels"].items()]
    assert [port["name"] for port in service["spec"]["ports"]] == ["metrics"]


def test_nobody_is_given_secrets_or_everything():
    for role in [obj for obj in rendered() if obj["kind"] in ("Role", "ClusterRole")]:
        for (group, resource), verbs in granted(role).items():
            assert "*" not in {group, resource, *verbs}
            assert resource != "secrets"


def test_without_defaults_the_operator_writes_no_plugin():
    release = rendered({"defaults": {"compressionPlugins": False}})
    rights = granted(of_kind(release, "ClusterRole")[0])
    assert rights["slipway.dev", "compressionplugins"] == {"list", "watch"}
    assert of_kind(release, "ConfigMap") == []


def test_of_the_plugins_the_operator_may_write_those_that_it_ships(tmp_path: Path):
    release = rendered()
    shipped = {one["metadata"]["name"] for one in defaults_of(release, tmp_path)}
    for rule in of_kind(release, "ClusterRole")[0]["rules"]:
        if set(rule["verbs"]) - {"list", "watch"}:
            assert set(rule["resourceNames"]) == shipped


def test_in_namespaces_of_its_own_the_operator_may_touch_no_other():
    release = rendered({"namespaces": ["blue", "green"]})
    everywhere = {binding["roleRef"]["name"] for binding in of_kind(release, "ClusterRoleBinding")}
    (role,) = [one for one in of_kind(release, "ClusterRole") if one["metadata"]["name"] in everywhere]
    assert {resource for _, resource in granted(role)} == {"compressionplugins", "gpupools"}
    bound = {obj["metadata"]["namespace"]: obj["roleRef"]["name"] for obj in of_kind(release, "RoleBinding")}
    namespaced = f"slipway:{NAMESPACE}:namespaced"
    assert bound == {NAMESPACE: "slipway-leader-election", "blue": namespaced, "green": namespaced}


def test_the_command_line_of_the_operator_is_one_that_it_has():
    command = typer.main.get_command(app).commands["operator"]  # type: ignore[attr-defined]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    variables = {parameter.envvar for parameter in command.params if parameter.envvar}
    for values in ({}, EVERYTHING, ALONE):
        container = of_kind(rendered(values), "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]
        assert container["command"] == ["slipway", "operator"]
        assert {argument.split("=")[0] for argument in container["args"]} <= options
        given = {entry["name"] for entry in values.get("extraEnv", ())}
        unset = set() if values.get("image", {}).get("mirrors") else {"SLIPWAY_IMAGE_MIRRORS"}
        wanted = variables - unset | {"POD_NAME", "POD_NAMESPACE"} | given
        assert {entry["name"] for entry in container["env"]} == wanted


def test_the_shipped_plugins_are_what_the_operator_applies_at_its_start(cluster: ApiServer, tmp_path: Path):
    plugins = defaults_of(rendered(), tmp_path)
    assert {plugin["metadata"]["name"] for plugin in plugins} == {"export-onnx", "prune-structured", "quantize-int8"}
    for plugin in plugins:
        applied(cluster, plugin)


def test_the_values_of_the_how_to_are_taken(cluster: ApiServer):
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/how-to/helm.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 7
    for values in map(yaml.safe_load, blocks):
        for obj in rendered(values):
            applied(cluster, obj, namespace=obj["metadata"].get("namespace", NAMESPACE))


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ({}, ["PersistentVolumeClaim", "ArtifactStore", "TrainingJob"]),
        ({"defaultStore": {"enabled": True, "namespaces": ["notes"], "claim": {"size": "1Gi"}}}, ["TrainingJob"]),
    ],
    ids=["no store", "default store"],
)
def test_the_manifests_of_the_notes_can_be_pasted(cluster: ApiServer, values: Json, kinds: list[str]):
    done = helm("install", "slipway", str(CHART), "--namespace", NAMESPACE, "--dry-run=client", values=values)
    assert done.returncode == 0, done.stderr
    pasted = re.search(r"^kubectl .*apply -f - <<END\n(.*?)^END\n", done.stdout, re.DOTALL | re.MULTILINE)
    assert pasted
    manifests = list(yaml.safe_load_all(pasted[1]))
    assert [obj["kind"] for obj in manifests] == kinds
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
        ({"serviceAccount": {"create": False}}, "serviceAccount.name"),
        ({"metrics": {"serviceMonitor": {"interval": "often"}}}, "metrics/serviceMonitor/interval"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_name(values: Json, named: str):
    assert named in refusal(values)


DIGEST_A, DIGEST_B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@pytest.mark.parametrize(
    ("image", "digest", "said"),
    [
        ("slipway/runtime:1.2", "", "slipway/runtime:1.2"),
        ("slipway/runtime:1.2", DIGEST_A, f"slipway/runtime@{DIGEST_A}"),
        ("slipway/runtime", DIGEST_A, f"slipway/runtime@{DIGEST_A}"),
        ("registry.example:5000/slipway/runtime:1.2", DIGEST_A, f"registry.example:5000/slipway/runtime@{DIGEST_A}"),
        ("registry.example:5000/slipway/runtime", DIGEST_A, f"registry.example:5000/slipway/runtime@{DIGEST_A}"),
        (f"slipway/runtime:1.2@{DIGEST_B}", DIGEST_A, f"slipway/runtime@{DIGEST_A}"),
        (f"slipway/runtime@{DIGEST_B}", "", f"slipway/runtime@{DIGEST_B}"),
    ],
)
def test_a_digest_takes_the_place_of_the_tag(image: str, digest: str, said: str) -> None:
    names = ("operator", "runtime", "serving")
    values = {"image": {**dict.fromkeys(names, image), "digests": dict.fromkeys(names, digest)}}
    (deployment,) = of_kind(rendered(values), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert {container["image"], env["SLIPWAY_RUNTIME_IMAGE"], env["SLIPWAY_SERVING_IMAGE"]} == {said}


def test_mirrors_of_images_are_handed_to_the_operator() -> None:
    for mirrors in ([], ["mirror.example/a", "mirror.example/b"]):
        (deployment,) = of_kind(rendered({"image": {"mirrors": mirrors}}), "Deployment")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        env = {one["name"]: one.get("value") for one in container["env"]}
        assert env.get("SLIPWAY_IMAGE_MIRRORS", "").split() == mirrors
