"""The Helm chart: rendered by helm, and validated by kubeconform against the schemas of a running API server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Container, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from slipway.controller.defaults import read_defaults
from support.apiserver import ROOT, ApiServer

CHART = ROOT / "helm" / "slipway"
NAMESPACE = "slipway-system"
KUBERNETES = "1.37.0"
PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator"
PROMETHEUS_OPERATOR_VERSION = "v0.85.0"

Json = dict[str, Any]

STRICT = {"dryRun": "All", "fieldValidation": "Strict"}
"""A write without effect, in which an unknown field is an error."""


@cache
def program(name: str) -> str:
    """The path of helm or kubeconform, as dev/cluster builds them."""
    built = subprocess.run(
        [ROOT / "dev" / "cluster" / "build", name], capture_output=True, text=True, check=True, timeout=600
    )
    return built.stdout.splitlines()[-1]


def helm(*arguments: str, values: Json | None = None) -> subprocess.CompletedProcess[str]:
    """helm, with these values where there are any. Its exit status is the caller's to look at."""
    command = [program("helm"), *arguments, *(("--values", "-") if values else ())]
    return subprocess.run(command, input=json.dumps(values), capture_output=True, text=True, check=False, timeout=60)


def rendered(
    values: Json | None = None, *arguments: str, name: str = "slipway", namespace: str = NAMESPACE
) -> list[Json]:
    """The objects of a release, hooks included. arguments: of `helm template`."""
    where = ("--namespace", namespace, "--kube-version", KUBERNETES)
    done = helm("template", name, str(CHART), *where, *arguments, values=values)
    assert done.returncode == 0, done.stderr
    return [obj for obj in yaml.safe_load_all(done.stdout) if obj]


def refusal(values: Json) -> str:
    """What helm says to values that it does not take."""
    done = helm("template", "slipway", str(CHART), "--kube-version", KUBERNETES, values=values)
    assert done.returncode != 0, done.stdout
    return done.stderr


def of_kind(objects: Iterable[Json], kind: str) -> list[Json]:
    return [obj for obj in objects if obj["kind"] == kind]


def roles_of_the_operator(objects: Sequence[Json]) -> list[Json]:
    """What its service account is bound to."""
    bound = {obj["roleRef"]["name"] for obj in objects if obj["kind"] in ("ClusterRoleBinding", "RoleBinding")}
    return [
        obj for kind in ("ClusterRole", "Role") for obj in of_kind(objects, kind) if obj["metadata"]["name"] in bound
    ]


def granted(role: Json) -> dict[tuple[str, str], set[str]]:
    """Verbs by API group and resource."""
    found: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                found.setdefault((group, resource), set()).update(rule["verbs"])
    return found


def defaults_of(release: list[Json], folder: Path) -> list[Json]:
    """What the operator reads of the release's ConfigMap."""
    for name, text in of_kind(release, "ConfigMap")[0]["data"].items():
        (folder / name).write_text(text)
    return read_defaults(folder)


def applied(server: ApiServer, obj: Json, *, namespace: str = NAMESPACE) -> None:
    """A server-side apply by the administrator, without effect, in which an unknown field is an error."""
    group, _, version = obj["apiVersion"].rpartition("/")
    api = f"/apis/{group}/{version}" if group else f"/api/{version}"
    listed: list[dict[str, Any]] = server.must("GET", api)["resources"]
    resource = next(item for item in listed if item["kind"] == obj["kind"] and "/" not in item["name"])
    scope = f"/namespaces/{namespace}" if resource["namespaced"] else ""
    path = f"{api}{scope}/{resource['name']}/{obj['metadata']['name']}"
    server.must(
        "PATCH", path, obj, content_type="application/apply-patch+yaml", fieldManager="test", force="true", **STRICT
    )


def kubeconform(objects: Sequence[Json], schemas: Path) -> subprocess.CompletedProcess[str]:
    """Strict, and by these schemas alone; a kind without one is an error."""
    location = f"{schemas}/{{{{ .ResourceKind }}}}-{{{{ .Group }}}}-{{{{ .ResourceAPIVersion }}}}.json"
    command = [program("kubeconform"), "-strict", "-summary", "-schema-location", location, "-"]
    text = "\n---\n".join(map(json.dumps, objects))  # PyYAML writes a plain n, which is a boolean to others
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)


@cache
def service_monitor_crd() -> Json:
    """As the Prometheus operator publishes it, in its Go module."""
    command = ["go", "mod", "download", "-json", f"{PROMETHEUS_OPERATOR}@{PROMETHEUS_OPERATOR_VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, cwd="/")
    folder = Path(json.loads(done.stdout)["Dir"]) / "example" / "prometheus-operator-crd"
    crd: Json = yaml.safe_load((folder / "monitoring.coreos.com_servicemonitors.yaml").read_text())
    return crd


def write_schemas(server: ApiServer, folder: Path, kinds: Container[str]) -> None:
    """JSON schemas of these built-in kinds, of ours and of ServiceMonitor. In them unknown fields are errors."""
    served = server.must("GET", "/openapi/v2")
    definitions = {name: _closed(schema) for name, schema in served["definitions"].items()}
    for name, schema in definitions.items():
        for gvk in schema.get("x-kubernetes-group-version-kind", ()):
            if gvk["kind"] in kinds and gvk["group"] != "slipway.dev":
                _write(folder, gvk, {"$ref": f"#/definitions/{name}", "definitions": definitions})
    for crd in (*(yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")), service_monitor_crd()):
        spec = crd["spec"]
        version = spec["versions"][0]
        gvk = {"group": spec["group"], "version": version["name"], "kind": spec["names"]["kind"]}
        _write(folder, gvk, _closed(version["schema"]["openAPIV3Schema"]))


def _write(folder: Path, gvk: Json, schema: Json) -> None:
    # kubeconform takes v1 for the core group's name too.
    name = f"{gvk['kind'].lower()}-{gvk['group'] or gvk['version']}-{gvk['version']}.json"
    (folder / name).write_text(json.dumps(schema))


def _closed(schema: Any) -> Any:
    """The schema with `additionalProperties: false` where fields are listed; OpenAPI's int-or-string spelt out."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "int-or-string":
        return {"type": ["string", "integer"]}
    closed = {key: _closed(value) for key, value in schema.items()}
    # A map of properties may itself have one that is called `properties`.
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        if "name" in schema["properties"] and set(schema["properties"]) == {"name"}:
            return {"type": "object"}  # metadata of a CRD
        closed.setdefault("additionalProperties", False)
    return closed
