"""Manifests of examples and pages, as the API's models."""

from __future__ import annotations

import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from slipway.api.artifactstore import ArtifactStore
from slipway.api.base import Model
from slipway.api.modeldeployment import ModelDeployment
from slipway.api.scheduling import GPUPool
from slipway.api.trainingjob import TrainingJob

PLUGIN = Path(__file__).parents[2] / "examples/plugin"
MODELS: dict[str, type[Model]] = {
    "TrainingJob": TrainingJob,
    "ModelDeployment": ModelDeployment,
    "ArtifactStore": ArtifactStore,
    "GPUPool": GPUPool,
}


def fenced(text: str, language: str) -> list[str]:
    """The blocks of a page in that language."""
    return [part.partition("```")[0] for part in text.split(f"```{language}\n")[1:]]


def resource(document: dict[str, Any]) -> Any:
    """Raises pydantic.ValidationError for a field that the API does not know."""
    body = {field: value for field, value in document.items() if field not in ("apiVersion", "kind", "metadata")}
    return MODELS[document["kind"]].model_validate(body, extra="forbid")


@contextmanager
def example_plugin_installed() -> Iterator[Path]:
    """As `pip install --target` of examples/plugin on the path would have it; gives the folder, for PYTHONPATH."""
    with TemporaryDirectory() as folder:
        place_plugin(Path(folder))
        sys.path.insert(0, folder)
        try:
            yield Path(folder)
        finally:
            sys.path.remove(folder)
            sys.modules.pop("svd_linear", None)


def place_plugin(folder: Path) -> None:
    """What a wheel of the package unpacks to."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())
    about, built = project["project"], project["tool"]["hatch"]["build"]["targets"]["wheel"]
    for name in built["only-include"]:
        shutil.copy(PLUGIN / name, folder)
    describe(folder, about["name"], about["version"], about["entry-points"])


def describe(folder: Path, name: str, version: str, groups: Mapping[str, Mapping[str, str]]) -> None:
    """What makes a folder on the path an installed distribution with these entry points."""
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [
        line for group, points in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
