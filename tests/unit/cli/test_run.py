"""`slipway run` refuses before it starts anything: each error on a line, with its place and a cure."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from slipway.cli.main import app
from slipway.local.state import open_state_folder
from support.local_runs import written
from support.manifests import digits_deployment, digits_training


def run(file: Path, state: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["run", f"--filename={file}", f"--state={state}", *options])


def errors(result: Result) -> list[str]:
    assert "Traceback" not in result.stderr
    return result.stderr.splitlines()


def test_all_that_needs_a_cluster_is_told_at_once_by_file_line_and_field(tmp_path: Path):
    job = digits_training(podTemplate={"nodeSelector": {"a": "b"}})
    file = written(tmp_path, job, digits_deployment(training_job="other"))
    result = run(file, tmp_path / "state")
    assert result.exit_code == 2
    pool, selector, model = errors(result)
    line = next(number for number, text in enumerate(file.read_text().splitlines(), 1) if "nodeSelector" in text)
    assert selector.startswith(f"error: {file}:{line}:")
    assert "TrainingJob digits: spec.podTemplate.nodeSelector: " in selector
    assert "spec.pools[0]" in pool
    assert pool.endswith("or use --cpu")
    assert "spec.model.trainingJob" in model


def test_what_may_not_change_is_refused_by_its_field_once_it_was_made(tmp_path: Path):
    state, other = tmp_path / "state", tmp_path / "other"
    other.mkdir()
    suspended = digits_training(suspend=True)
    first = run(written(tmp_path, suspended), state, "--cpu", "--timeout=0.1")
    assert first.exit_code == 5, first.output
    longer = digits_training(suspend=True, resources={"cpu": 1, "memory": "1Gi"})
    result = run(written(other, longer), state, "--cpu")
    assert result.exit_code == 2
    (line,) = errors(result)
    assert "spec.resources: is immutable" in line
    assert run(written(other, longer), state, "--cpu", "--replace", "--timeout=0.1").exit_code == 5


def test_a_state_folder_in_use_is_named(tmp_path: Path):
    with open_state_folder(tmp_path / "state"):
        result = run(written(tmp_path, digits_training()), tmp_path / "state", "--cpu")
    assert result.exit_code == 1
    assert "is in use by another run" in errors(result)[0]


def test_a_state_that_cannot_be_read_is_named_with_its_cure(tmp_path: Path):
    state = tmp_path / "state"
    state.mkdir()
    (state / "objects.json").write_text("{")
    result = run(written(tmp_path, digits_training()), state, "--cpu")
    assert result.exit_code == 1
    assert "objects.json cannot be read" in errors(result)[0]


def test_without_tritonserver_a_deployment_is_refused_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("slipway.local.images.distribution", missing)
    file = written(tmp_path, digits_training(), digits_deployment())
    result = run(file, tmp_path / "state", "--cpu")
    assert result.exit_code == 1
    assert "pip install 'slipway-operator[local]'" in errors(result)[0]
