"""The examples are what the API takes, to the letter."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.api.kinds import API_VERSION
from slipway.sdk.plugin import GROUP, load_plugins
from support.examples import example_plugin_installed, fenced, resource

EXAMPLES = Path(__file__).parents[2] / "examples"
README = Path(__file__).parents[2] / "README.md"


def documents() -> list[Any]:
    found = [
        pytest.param(document, id=f"{path.name}-{document['kind']}")
        for path in sorted(EXAMPLES.glob("*/*.yaml"))
        for document in yaml.safe_load_all(path.read_text())
        if document["apiVersion"] == API_VERSION
    ]
    assert len(found) >= 6, "the examples are not where this test looks for them"
    return found


@pytest.mark.parametrize("document", documents())
def test_an_example_has_no_field_that_the_api_does_not_know(document: dict[str, Any]) -> None:
    assert resource(document).spec is not None
    misspelt = {**document, "spec": {**document["spec"], "misspelt": 1}}
    with pytest.raises(ValueError, match="misspelt"):
        resource(misspelt)


def test_the_examples_name_plugins_that_are_shipped_and_parameters_that_they_take() -> None:
    from importlib.metadata import entry_points

    with example_plugin_installed():
        plugins, broken = load_plugins(list(entry_points(group=GROUP)))
    assert broken == []
    steps = [
        step
        for param in documents()
        if param.values[0]["kind"] == "ModelDeployment"
        for step in resource(param.values[0]).spec.compression.steps
    ]
    assert steps
    for step in steps:
        plugins[step.plugin].params.model_validate(dict(step.params))


def test_generated_files_hold_the_shipped_plugins_alone_whatever_else_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(EXAMPLES.parent / "dev")
    with example_plugin_installed():
        plugins = {Path(path).stem for path, _ in import_module("generate").files() if "/plugins/" in path}
    assert plugins == {"export-onnx", "prune-structured", "quantize-int8"}


def test_the_script_is_mounted_from_the_config_map_that_kustomize_makes() -> None:
    folder = EXAMPLES / "digits"
    generated = yaml.safe_load((folder / "kustomization.yaml").read_text())["configMapGenerator"][0]
    job = resource(next(yaml.safe_load_all((folder / "script.yaml").read_text())))
    (volume,), (mount,) = job.spec.pod_template.volumes, job.spec.pod_template.volume_mounts
    path = Path(job.spec.entrypoint.script.path)
    assert volume.config_map.name == generated["name"]
    assert (str(path.parent), [path.name]) == (mount.mount_path, generated["files"])
    assert (folder / path.name).exists()


def test_the_readme_shows_a_resource_that_the_api_takes() -> None:
    shown = [d for block in fenced(README.read_text(), "yaml") for d in yaml.safe_load_all(block)]
    assert {document["kind"] for document in shown} >= {"TrainingJob", "ModelDeployment"}
    for document in shown:
        assert resource(document).spec is not None
