"""The objects that come with the operator."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from slipway.api.errors import NotFound
from slipway.api.kinds import ARTIFACT_STORE, COMPRESSION_PLUGIN, Key, Object
from slipway.cluster.twin import Twin
from slipway.controller.defaults import apply_default, keep_applied, read_defaults
from support.calls import Interfered, fail

PLUGIN = """
apiVersion: slipway.dev/v1alpha1
kind: CompressionPlugin
metadata: {name: quantize}
spec: {version: "1", entryPoint: quantize, consumes: onnx, produces: onnx}
"""
KEY = Key(COMPRESSION_PLUGIN, "", "quantize")
STORE = """
apiVersion: slipway.dev/v1alpha1
kind: ArtifactStore
metadata: {name: default, namespace: team}
spec: {persistentVolumeClaim: {claimName: slipway-store}}
"""
STORE_KEY = Key(ARTIFACT_STORE, "team", "default")


@pytest.fixture
def calls() -> Interfered:
    return Interfered(Twin(lambda: datetime(2026, 1, 2, tzinfo=UTC)))


@pytest.fixture
def manifests(tmp_path: Path) -> list[Object]:
    (tmp_path / "plugins.yaml").write_text(f"{PLUGIN}---\n")
    (tmp_path / "notes.txt").write_text("not a manifest")
    return read_defaults(tmp_path)


async def test_defaults_are_made_once(calls: Interfered, manifests: list[Object]) -> None:
    await apply_default(*manifests, calls)
    assert (await calls.get(KEY))["spec"]["version"] == "1"
    await apply_default(*manifests, calls)
    assert len(calls.writes) == 1


async def test_a_new_release_brings_its_own_defaults(calls: Interfered, manifests: list[Object]) -> None:
    await apply_default(*manifests, calls)
    manifests[0]["spec"]["version"] = "2"
    await apply_default(*manifests, calls)
    assert (await calls.get(KEY))["spec"]["version"] == "2"


@pytest.fixture
def store(tmp_path: Path) -> Object:
    (tmp_path / "stores.yaml").write_text(STORE)
    (manifest,) = read_defaults(tmp_path)
    return manifest


async def test_a_store_is_made_where_there_is_none_of_its_name(calls: Interfered, store: Object) -> None:
    await apply_default(store, calls)
    assert (await calls.get(STORE_KEY))["spec"] == store["spec"]
    await apply_default(store, calls)
    assert [write.verb for write in calls.writes] == ["create"]


async def test_a_store_of_a_users_own_is_left_as_it_is(calls: Interfered, store: Object) -> None:
    theirs = {**store, "spec": {"persistentVolumeClaim": {"claimName": "mine"}}}
    await calls.create(theirs)
    with capture_logs() as told:
        await apply_default(store, calls)
    assert (await calls.get(STORE_KEY))["spec"] == theirs["spec"]
    assert [(line["log_level"], line["object"]) for line in told] == [("warning", "ArtifactStore team/default")]


async def test_a_default_is_tried_again_until_the_api_server_takes_it(calls: Interfered, store: Object) -> None:
    calls.interfere = fail(1, NotFound("namespaces team not found"))
    with capture_logs() as told:
        await keep_applied(store, calls, retry_seconds=0)
    assert (await calls.get(STORE_KEY))["spec"] == store["spec"]
    assert told[0]["error"] == "namespaces team not found"


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        ("{apiVersion: v1, kind: Secret, metadata: {name: a}}", "Secret"),
        ("{apiVersion: slipway.dev/v1alpha1, kind: ArtifactStore, metadata: {name: a}}", r"a: metadata\.namespace"),
    ],
)
def test_what_cannot_be_a_default_is_refused_by_name(tmp_path: Path, manifest: str, told: str) -> None:
    (tmp_path / "a.yaml").write_text(manifest)
    with pytest.raises(ValueError, match=rf"a\.yaml: .*{told}"):
        read_defaults(tmp_path)
