"""Runs of a plugin on a small model: the findings on its result, and on its failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from slipway.api.artifacts import State
from slipway.runtime.modules import build, weights_of
from slipway.runtime.plugincheck import run_on_model
from slipway.runtime.resultcheck import result_findings
from slipway.sdk import Artifact, Context, PluginError
from slipway.sdk.artifact import write_artifact
from slipway.sdk.manifest import MODEL_FILE, ONNX_FILE, Content, ModuleSource, TensorSpec
from slipway.sdk.plugincheck import CheckOrder, CheckRun, ModelResult, run_findings
from support.graphs import content_of, identity_graph, mlp_graph
from support.plugins import Copying
from support.stores import put

WELL = {"run", "same seed", "graph", "tensors", "batches", "paths"}


class Plugin(Copying):
    """A plugin whose code, and so the place of its errors, is this file."""


def checked(store: Path, does: Callable[..., Any]) -> tuple[ModelResult, dict[str, tuple[str, str]]]:
    """Run it on a classifier of three inputs; return the result, and level and text of each finding by its check."""
    put(store, "model", content_of((3,), 3), {ONNX_FILE: identity_graph()})
    return checked_plugin(Plugin(does), store)


def checked_plugin(plugin: Any, store: Path) -> tuple[ModelResult, dict[str, tuple[str, str]]]:
    order = CheckOrder(plugin="copying", store=str(store), models=("model",))
    one = run_on_model(plugin, "model", order, store / "run")
    run = CheckRun({"model": ModelResult.model_validate_json(one.model_dump_json())})
    found = run_findings(plugin, ("model",), run, run)
    return one, {each.check.removeprefix("model: "): (each.level, each.what) for each in found}


def leaving(graph: bytes) -> Callable[..., Artifact]:
    return lambda _model, _params, context: context.write_onnx(graph)


def kept(context: Context, graph: bytes) -> Artifact:
    """Write the graph as it is, with its metadata."""
    content = content_of((3,), 3)
    return context.write(State.ONNX, {ONNX_FILE: graph}, inputs=content.inputs, outputs=content.outputs)


def altered(change: Callable[[onnx.ModelProto], Any]) -> bytes:
    model = onnx.load_model_from_string(identity_graph())
    change(model)
    return bytes(model.SerializeToString(deterministic=True))


def joined(first: str, *more: onnx.NodeProto) -> Callable[[onnx.ModelProto], Any]:
    """Nodes between the last one, whose output gets the name, and the graph's output."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.node[-1].output[0] = first
        model.graph.node.extend(more)

    return change


def renamed(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = "image"


def fixed(model: onnx.ModelProto) -> None:
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 8


def documented(model: onnx.ModelProto) -> None:
    model.graph.node[0].doc_string = "File /home/ada/models/train.py, line 3"


def noted(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key="made", value="today")


def larger(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ones(999, np.float32), "nobody-reads-it"))


def infinite(model: onnx.ModelProto) -> None:
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "b0")
    bias.CopyFrom(numpy_helper.from_array(np.array([0, np.inf, 0], np.float32), "b0"))


def test_a_copy_is_well_in_all_but_its_size(tmp_path: Path) -> None:
    one, found = checked(tmp_path, leaving(identity_graph()))
    assert {check for check, (level, _) in found.items() if level == "ok"} == WELL
    assert found["size"] == ("warn", f"{one.bytes_before:,} bytes before, {one.bytes_before:,} after: not smaller")


@pytest.mark.parametrize(
    ("graph", "check", "what"),
    [
        (altered(renamed), "tensors", "inputs are image float32 [3], and the model's are input float32 [3]"),
        (
            mlp_graph([(np.ones((3, 2), np.float32), np.zeros(2, np.float32))], (3,)),
            "tensors",
            "outputs are output float32 [2], and the model's are output float32 [3]",
        ),
        (altered(fixed), "graph", "input has the shape [8, 3], whose first dimension is fixed"),
        (
            altered(joined("raw", helper.make_node("Softmax", ["raw"], ["output"], axis=0))),
            "batches",
            "a batch of 3 gives other outputs than its samples alone",
        ),
        (altered(infinite), "batches", "output 0 has NaN or infinity"),
        (altered(joined("lost")), "graph", "Graph output 'output' is not an output of any node"),
    ],
    ids=["renamed", "classes", "fixed batch", "samples mixed", "infinite", "no graph"],
)
def test_a_graph_that_a_client_could_not_use_is_a_failure(tmp_path: Path, graph: bytes, check: str, what: str) -> None:
    _, found = checked(tmp_path, leaving(graph))
    assert {name for name, (level, _) in found.items() if level == "fail"} == {check}
    assert what in found[check][1]


def test_a_larger_model_is_a_warning_with_both_sizes(tmp_path: Path) -> None:
    one, found = checked(tmp_path, leaving(altered(larger)))
    assert one.bytes_after > one.bytes_before + 999
    assert found["size"] == ("warn", f"{one.bytes_before:,} bytes before, {one.bytes_after:,} after: not smaller")
    assert {level for check, (level, _) in found.items() if check != "size"} == {"ok"}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (documented, "the file contains the path /home/ada/models/train.py"),
        (noted, "the file has documentation strings or metadata"),
    ],
)
def test_what_is_stripped_from_graphs_must_not_be_in_one(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], what: str
) -> None:
    _, found = checked(tmp_path, lambda _m, _p, context: kept(context, altered(change)))
    assert found["paths"] == ("fail", what)


def test_a_path_of_the_machine_in_a_graph_is_named(tmp_path: Path) -> None:

    def scratch(_model: Artifact, _params: Any, context: Context) -> Artifact:
        return context.write_onnx(altered(lambda model: setattr(model.graph.node[0], "name", str(context.scratch))))

    _, found = checked(tmp_path / "other", scratch)
    assert found["paths"] == (
        "fail",
        f"the file contains the path {tmp_path / 'other'}; the file contains the path {tmp_path / 'other/run'}",
    )


def raises(error: BaseException) -> Callable[..., Artifact]:
    def does(*_: Any) -> Artifact:
        raise error

    return does


@pytest.mark.parametrize(
    ("does", "outcome", "reason"),
    [
        (raises(PluginError("copying: too small")), "refused", "copying: too small"),
        (raises(KeyError("w")), "failed", "plugin 'copying' 1.2.3: KeyError: 'w' (test_plugincheck.py, line "),
        (raises(SystemExit(3)), "failed", "SystemExit: 3 (test_plugincheck.py, line "),
        (
            lambda _m, _p, context: context.write(State.MODULE, {}),
            "failed",
            "plugin 'copying' wrote state module, and declares onnx",
        ),
        (
            lambda model, *_: model,
            "failed",
            "plugin 'copying' 1.2.3 did not return the artifact that its context wrote",
        ),
        (leaving(b"no graph"), "failed", "not an ONNX file"),
        (lambda _m, _p, context: context.data(), "refused", "plugin 'copying' needs data; set spec.compression.data"),
    ],
    ids=["refuses", "raises", "exits", "other state", "its input", "no graph", "undeclared data"],
)
def test_a_refusal_is_distinguished_from_a_broken_contract(
    tmp_path: Path, does: Callable[..., Any], outcome: str, reason: str
) -> None:
    one, found = checked(tmp_path, does)
    assert one.outcome == outcome
    assert one.reason.startswith(reason)
    assert {check: level for check, (level, _) in found.items()} == {"run": "fail"}


class ModulePlugin(Plugin):
    consumes = produces = State.MODULE


class Centred(torch.nn.Linear):
    """A module whose outputs depend on the batch, and which refuses batches of three with an AssertionError."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if len(inputs) == 3:
            raise AssertionError("three")
        scores = super().forward(inputs)
        return scores - scores.mean(dim=0)


def linear(factory: str = "torch.nn:Linear", dtype: str = "float32") -> tuple[Content, dict[str, bytes]]:
    source = ModuleSource(factory=factory, args={"in_features": 3, "out_features": 3})
    inputs, outputs = (TensorSpec(name=name, shape=(3,), dtype=dtype) for name in ("input", "output"))
    content = Content(state=State.MODULE, module=source, inputs=(inputs,), outputs=(outputs,))
    return content, {MODEL_FILE: weights_of(build(source.factory, source.args))}


def module_findings(
    store: Path, does: Callable[..., Any], factory: str = "torch.nn:Linear"
) -> dict[str, tuple[str, str]]:
    put(store, "model", *linear(factory))
    return checked_plugin(ModulePlugin(does), store)[1]


def saved(model: Artifact, _params: Any, context: Context) -> Artifact:
    return context.save_module(context.load_module(model), model)


def test_a_module_that_the_context_saved_passes_all_checks_but_that_of_its_size(tmp_path: Path) -> None:
    found = module_findings(tmp_path, saved)
    assert {check: level for check, (level, _) in found.items()} == {
        **dict.fromkeys(("run", "same seed", "rebuilt", "tensors", "batches"), "ok"),
        "size": "warn",
    }


def test_a_module_that_nothing_builds_again_is_a_failure(tmp_path: Path) -> None:
    found = module_findings(
        tmp_path, lambda model, _p, context: context.write(State.MODULE, {MODEL_FILE: model.file(MODEL_FILE)})
    )
    assert found["rebuilt"][0] == "fail"
    assert found["rebuilt"][1].endswith("has no factory for the module")


def test_a_module_whose_outputs_depend_on_the_batch_is_a_failure(tmp_path: Path) -> None:
    found = module_findings(tmp_path, saved, f"{__name__}:Centred")
    assert found["batches"][0] == "fail"
    assert found["batches"][1].startswith("a batch of 3 is refused: three; a batch of 8 gives other outputs")


def test_inputs_that_cannot_be_made_up_are_reported(tmp_path: Path) -> None:
    artifact = write_artifact(tmp_path / "half", *linear(dtype="bfloat16"))
    found = {one.check: one for one in result_findings(artifact, artifact, [])}
    assert (found["batches"].level, found["batches"].what) == (
        "warn",
        "not checked: there are no example inputs of type 'bfloat16'",
    )
