"""The default store of a release: what the chart makes of its values, what it refuses, and what becomes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.apiserver import ROOT, ApiServer
from support.chart import (
    CHART,
    NAMESPACE,
    applied,
    defaults_of,
    granted,
    of_kind,
    refusal,
    rendered,
    roles_of_the_operator,
)
from support.places import Json

BUCKET: Json = {
    "bucket": "models",
    "prefix": "team/a",
    "endpoint": "https://s3.example.com:8333",
    "region": "eu-central-1",
    "forcePathStyle": True,
    "secretRef": {"name": "s3"},
}


def with_store(**store: Any) -> Json:
    return {"defaultStore": {"enabled": True, "namespaces": ["team"], **store}}


def test_each_namespace_that_is_served_gets_a_claim_that_outlives_the_release_and_a_store_on_it(tmp_path: Path):
    claim = {"size": "10Gi", "storageClassName": "shared", "subPath": "models"}
    release = rendered({"namespaces": ["team-a", "team-b"], "defaultStore": {"enabled": True, "claim": claim}})
    claims = of_kind(release, "PersistentVolumeClaim")
    for made in claims:
        assert made["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        assert (made["spec"]["accessModes"], made["spec"]["storageClassName"]) == (["ReadWriteMany"], "shared")
    names = {(made["metadata"]["namespace"], made["metadata"]["name"]) for made in claims}
    stores = [one for one in defaults_of(release, tmp_path) if one["kind"] == "ArtifactStore"]
    named = {(one["metadata"]["namespace"], one["spec"]["persistentVolumeClaim"]["claimName"]) for one in stores}
    assert names == named == {("team-a", "slipway-default"), ("team-b", "slipway-default")}
    assert {one["spec"]["persistentVolumeClaim"]["subPath"] for one in stores} == {"models"}


@pytest.mark.parametrize(
    ("given", "spec"),
    [
        ({"claim": {"existing": "shared"}}, {"persistentVolumeClaim": {"claimName": "shared"}}),
        ({"s3": BUCKET}, {"s3": BUCKET}),
    ],
    ids=["claim", "bucket"],
)
def test_a_store_on_what_is_there_makes_no_claim(apiserver: ApiServer, tmp_path: Path, given: Json, spec: Json):
    release = rendered({"defaultStore": {"enabled": True, "namespaces": ["default"], "name": "shared", **given}})
    (store,) = [one for one in defaults_of(release, tmp_path) if one["kind"] == "ArtifactStore"]
    assert store["metadata"] == {"name": "shared", "namespace": "default"}
    assert store["spec"] == spec
    assert of_kind(release, "PersistentVolumeClaim") == []
    applied(apiserver, store, namespace="default")


def test_names_that_yaml_reads_as_numbers_and_booleans_stay_names(tmp_path: Path):
    claim = {"size": "1Gi", "storageClassName": "1e3", "subPath": "2026"}
    release = rendered({"namespaces": ["007", "no"], "defaultStore": {"enabled": True, "name": "yes", "claim": claim}})
    stores = [one for one in defaults_of(release, tmp_path) if one["kind"] == "ArtifactStore"]
    assert [one["metadata"] for one in stores] == [
        {"name": "yes", "namespace": "007"},
        {"name": "yes", "namespace": "no"},
    ]
    assert {one["spec"]["persistentVolumeClaim"]["subPath"] for one in stores} == {"2026"}
    assert {one["spec"]["storageClassName"] for one in of_kind(release, "PersistentVolumeClaim")} == {"1e3"}
    for kind in ("PersistentVolumeClaim", "Role", "RoleBinding"):
        assert {one["metadata"]["namespace"] for one in of_kind(release, kind)} - {NAMESPACE} == {"007", "no"}


def test_a_bucket_has_the_fields_of_the_crd():
    schema = json.loads((CHART / "values.schema.json").read_text())
    crd = yaml.safe_load((ROOT / "crds" / "artifactstores.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    given = schema["properties"]["defaultStore"]["properties"]["s3"]["properties"]
    assert set(given) == set(spec["properties"]["s3"]["properties"])


def test_a_default_store_can_be_made_where_it_is_wanted_and_not_changed_anywhere():
    release = rendered({"defaultStore": {"enabled": True, "namespaces": ["team-a"], "claim": {"existing": "shared"}}})
    writers = {
        (role["metadata"].get("namespace"), verb)
        for role in roles_of_the_operator(release)
        for verb in granted(role).get(("slipway.dev", "artifactstores"), set()) - {"get", "list", "watch"}
    }
    assert writers == {("team-a", "create")}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (with_store(claim={"size": "much"}), "defaultStore/claim/size"),
        (with_store(), "claim.existing, claim.size and s3.bucket"),
        (with_store(claim={"existing": "a", "size": "1Gi"}), "not claim.existing and claim.size"),
        (with_store(s3={"bucket": "models"}), "defaultStore.s3: give one of secretRef and serviceAccountName"),
        (with_store(s3={"bucked": "models"}), "bucked"),
        (
            with_store(claim={"existing": "models", "storageClassName": "fast"}),
            "defaultStore.claim.storageClassName is of a new claim: give claim.size",
        ),
        (
            with_store(claim={"subPath": "models"}, s3={"bucket": "models", "secretRef": {"name": "keys"}}),
            "defaultStore.claim.subPath is of a claim: take it out, or use s3.prefix",
        ),
        (
            with_store(claim={"size": "1Gi"}, s3={"prefix": "models"}),
            "defaultStore.s3.prefix is of a bucket: give s3.bucket",
        ),
        (with_store(claim={"size": "1Gi"}, namespaces=[]), "defaultStore.namespaces"),
        ({**with_store(claim={"size": "1Gi"}), "namespaces": ["other"]}, "defaultStore.namespaces: team is not served"),
    ],
    ids=str,
)
def test_a_store_that_cannot_be_made_is_refused_by_name(values: Json, named: str):
    assert named in refusal(values)
