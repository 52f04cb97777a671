"""One plugin's run: what it gets, what it may leave, and what its failure is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.errors import PluginError
from slipway.api.tasks import CompressTask
from slipway.runtime.compress import compress, find_plugin
from slipway.sdk import Artifact, Content, Context
from slipway.sdk.artifact import read_artifact
from slipway.sdk.manifest import ONNX_FILE
from support.graphs import content_of, identity_graph
from support.plugins import Copying
from support.stores import pod_in, put


def model_in(store: Path) -> ArtifactRef:
    return put(store, "model", content_of((3,), 3), {ONNX_FILE: identity_graph()})


def run(store: Path, plugin: Any, **task: Any) -> Any:
    asked = {"entry_point": "copying", "version": "1.2.3", "model": model_in(store), **task}
    return compress(plugin, CompressTask.model_validate(asked), pod_in(store, "step"))


def test_a_step_records_its_parents_parameters_and_time_without_changing_the_digest(tmp_path: Path):
    report = run(tmp_path, Copying(), params={"share": 0.25}, seed=7)
    left = read_artifact(tmp_path / "step/artifact", report.artifact.digest)
    origin = left.manifest.provenance
    assert origin.parents == (model_in(tmp_path).digest,)
    assert origin.parameters == {"plugin": "copying", "params": {"share": 0.25}, "seed": 7}
    assert origin.versions["copying"] == "1.2.3"
    assert report.metrics["seconds"] >= 0
    assert left.digest == model_in(tmp_path).digest


def raises(_model: Artifact, _params: Any, _context: Context) -> Artifact:
    raise ZeroDivisionError("no channels")


@pytest.mark.parametrize(
    ("plugin", "task", "complaint"),
    [
        (Copying(raises), {}, r"plugin 'copying' 1\.2\.3: ZeroDivisionError: no channels"),
        (Copying(), {"params": {"share": 2}}, r"params\.share: Input should be less than 1"),
        (Copying(), {"params": {"shear": 0.5}}, r"params\.shear: Extra inputs are not permitted"),
        (Copying(), {"version": "2.0.0"}, r"1\.2\.3.*2\.0\.0|2\.0\.0.*1\.2\.3"),
        (Copying(lambda model, *_: model), {}, "did not return the artifact that its context wrote"),
        (Copying(lambda *_: None), {}, "did not return the artifact that its context wrote"),
        (Copying(lambda _m, _p, context: context.data()), {}, r"needs data; set spec\.compression\.data"),
        (Copying(lambda _m, _p, context: context.write(State.MODULE, {})), {}, "wrote state module, and declares onnx"),
    ],
    ids=["raises", "bound", "unknown", "version", "its input", "nothing", "no data", "other state"],
)
def test_a_plugin_that_fails_is_named_with_the_reason_and_leaves_nothing(
    tmp_path: Path, plugin: Any, task: dict[str, Any], complaint: str
):
    with pytest.raises(PluginError, match=complaint):
        run(tmp_path, plugin, **task)
    assert not (tmp_path / "step/artifact").exists()


def test_a_model_of_another_state_is_refused_before_the_plugin_runs(tmp_path: Path):
    data = put(tmp_path, "data", Content(state=State.PREDICTIONS), {"x": b""})
    with pytest.raises(PluginError, match="takes state onnx, and the model is predictions"):
        run(tmp_path, Copying(raises), model=data)


def test_an_image_without_the_plugin_names_those_it_has():
    with pytest.raises(PluginError, match=r"no plugin 'prune'; it has .*prune-structured"):
        find_plugin("prune")
