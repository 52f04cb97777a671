"""The objects that come with the operator."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from slipway.api.kinds import COMPRESSION_PLUGIN, Key, Object
from slipway.cluster.twin import Twin
from slipway.controller.defaults import apply_defaults, read_defaults
from support.calls import Interfered

PLUGIN = """
apiVersion: slipway.dev/v1alpha1
kind: CompressionPlugin
metadata: {name: quantize}
spec: {version: "1", entryPoint: quantize, consumes: onnx, produces: onnx}
"""
KEY = Key(COMPRESSION_PLUGIN, "", "quantize")


@pytest.fixture
def calls() -> Interfered:
    return Interfered(Twin(lambda: datetime(2026, 1, 2, tzinfo=UTC)))


@pytest.fixture
def manifests(tmp_path: Path) -> list[Object]:
    (tmp_path / "plugins.yaml").write_text(f"{PLUGIN}---\n")
    (tmp_path / "notes.txt").write_text("not a manifest")
    return read_defaults(tmp_path)


async def test_defaults_are_made_once(calls: Interfered, manifests: list[Object]) -> None:
    await apply_defaults(manifests, calls)
    assert (await calls.get(KEY))["spec"]["version"] == "1"
    await apply_defaults(manifests, calls)
    assert len(calls.writes) == 1


async def test_a_new_release_brings_its_own_defaults(calls: Interfered, manifests: list[Object]) -> None:
    await apply_defaults(manifests, calls)
    manifests[0]["spec"]["version"] = "2"
    await apply_defaults(manifests, calls)
    assert (await calls.get(KEY))["spec"]["version"] == "2"


def test_other_kinds_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("{apiVersion: v1, kind: Secret, metadata: {name: a}}")
    with pytest.raises(ValueError, match=r"a\.yaml: Secret"):
        read_defaults(tmp_path)
