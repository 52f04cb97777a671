"""A model that a script saved is the same model wherever it is built again; what cannot be built becomes ONNX."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import slipway.runtime
from slipway.api.artifacts import ArtifactRef, State
from slipway.api.errors import ArtifactError
from slipway.api.tasks import SealTask
from slipway.runtime.codefiles import has_main_guard
from slipway.runtime.models import mlp
from slipway.runtime.modules import load_module, rebuild, resize
from slipway.sdk.artifact import Artifact, read_artifact
from slipway.sdk.manifest import ModuleSource
from support.stores import do, made

NETS = """
import torch
from torch import nn
import blocks

class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.body = blocks.Block(3, width)
        self.head = nn.Linear(width, 2)
    def forward(self, x):
        return self.head(self.body(x))

class Counted(Net):
    made = 0
    def __init__(self):
        Counted.made += 1
        super().__init__(width=Counted.made)
"""
BLOCKS = """
from torch import nn
class Block(nn.Sequential):
    def __init__(self, before, after):
        super().__init__(nn.Linear(before, after), nn.{activation}())
"""


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLIPWAY_OUTPUT_DIR", str(tmp_path / "job/output"))
    monkeypatch.delenv("RANK", raising=False)
    return tmp_path / "job/output"


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """The user's own module, with another one beside it."""
    (tmp_path / "user").mkdir()
    (tmp_path / "user/nets.py").write_text(NETS)
    (tmp_path / "user/blocks.py").write_text(BLOCKS.format(activation="Tanh"))
    (tmp_path / "user/unrelated.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(str(tmp_path / "user"))
    yield import_module("nets")
    for name in ("nets", "blocks"):
        sys.modules.pop(name, None)


def sealed(tmp_path: Path) -> Artifact:
    ref: ArtifactRef = made(do(tmp_path, "job", SealTask()))
    return read_artifact(tmp_path / "job/artifact", ref.digest)


def test_a_class_of_the_users_travels_with_its_code_and_what_it_imports(tmp_path, output, nets):
    model, inputs = nets.Net(width=6), torch.rand(3, 3)
    slipway.runtime.save(model, inputs, args={"width": 6}, metrics={"accuracy": torch.tensor(0.5)})
    assert sys.modules["nets"] is nets
    artifact = sealed(tmp_path)
    assert sorted(artifact.content.files) == ["code/blocks.py", "code/nets.py", "model.safetensors"]
    assert artifact.manifest.provenance.metrics == {"accuracy": 0.5}
    (tmp_path / "user/blocks.py").write_text(BLOCKS.format(activation="ReLU"))
    again = load_module(artifact)
    assert not again.training
    assert torch.equal(again(inputs), model.eval()(inputs))
    assert sys.modules["blocks"].__file__ == str(artifact.path / "code/blocks.py")
    assert read_artifact(artifact.path) == artifact  # importing left no bytecode behind


def test_code_is_found_from_within_its_own_folder(tmp_path, output, nets, monkeypatch):
    monkeypatch.chdir(tmp_path / "user")  # torch has modules whose __file__ is relative, and no file
    slipway.runtime.save(nets.Net(), torch.rand(2, 3))
    assert sorted(sealed(tmp_path).content.files) == ["code/blocks.py", "code/nets.py", "model.safetensors"]


def test_two_models_of_like_named_code_do_not_mix(tmp_path, output, nets):
    inputs = torch.rand(2, 3)
    slipway.runtime.save(nets.Net(), inputs)
    tanh = sealed(tmp_path).path.rename(tmp_path / "tanh")
    (output / "code/blocks.py").write_text(BLOCKS.format(activation="ReLU"))
    relu = sealed(tmp_path).path
    for path, kind in ((tanh, nn.Tanh), (relu, nn.ReLU), (tanh, nn.Tanh)):
        assert isinstance(load_module(read_artifact(path)).body[1], kind)


def test_a_factory_of_an_installed_package_needs_no_code(tmp_path, output):
    model = mlp([3, 4, 2])
    slipway.runtime.save(model, torch.rand(2, 3), factory="slipway.runtime.models:mlp", args={"layers": [3, 4, 2]})
    artifact = sealed(tmp_path)
    assert list(artifact.content.files) == ["model.safetensors"]
    assert [(s.name, s.shape) for s in (*artifact.content.inputs, *artifact.content.outputs)] == [
        ("input", (3,)),
        ("output", (2,)),
    ]


def test_a_compiled_model_is_saved_as_the_one_it_was_compiled_from(tmp_path, output, nets):
    model, inputs = nets.Net(), torch.rand(2, 3)
    slipway.runtime.save(torch.compile(model, backend="eager"), inputs)
    again = load_module(sealed(tmp_path))
    assert torch.equal(again(inputs), model.eval()(inputs))


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_sharded_model_is_refused_on_every_rank_before_it_hangs(output, monkeypatch, rank):
    monkeypatch.setenv("RANK", rank)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = fully_shard(mlp([3, 2]), mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(ArtifactError, match=r"sharded over the ranks; .*get_model_state_dict"):
            slipway.runtime.save(model, torch.rand(2, 3))
    finally:
        dist.destroy_process_group()
    assert not output.exists()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_model_that_is_not_float32_is_refused_with_the_cure(output, nets, dtype):
    model, inputs = nets.Net().to(dtype), torch.rand(2, 3).to(dtype)
    complaint = rf"body\.0\.weight is {dtype}: .* save model\.float\(\) with float32 example_inputs"
    with pytest.raises(ArtifactError, match=complaint):
        slipway.runtime.save(model, inputs)
    with pytest.raises(ArtifactError, match=rf"example_inputs is {dtype}: "):
        slipway.runtime.save(model.float(), inputs)
    assert not output.exists()


def test_weights_that_hold_nan_are_no_trained_model(output, nets):
    model = nets.Net()
    with torch.no_grad():
        model.head.weight[0, 0] = torch.nan
    with pytest.raises(ArtifactError, match=r"head\.weight has NaN or infinity: .*lower the learning rate"):
        slipway.runtime.save(model, torch.rand(2, 3))
    assert not output.exists()


@pytest.mark.parametrize("width", [float("nan"), torch.tensor(4), nn.ReLU])
def test_args_that_json_cannot_hold_are_refused(output, nets, width):
    with pytest.raises(ArtifactError, match="args: not JSON"):
        slipway.runtime.save(nets.Net(), torch.rand(2, 3), args={"width": width})


def test_only_rank_0_writes(output, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    slipway.runtime.save(mlp([3, 2]), torch.rand(2, 3))
    assert not output.exists()


@pytest.mark.filterwarnings("ignore::FutureWarning:copyreg", "ignore::DeprecationWarning")
def test_a_model_that_cannot_be_built_again_is_saved_as_onnx_and_the_log_has_the_reason(tmp_path, output, capsys):
    class Local(nn.Linear):
        pass

    slipway.runtime.save(Local(3, 2), torch.rand(2, 3))
    assert (
        "as ONNX, because it cannot be built again: Local is defined inside a function"
        in capsys.readouterr().out.replace(
            "test_a_model_that_cannot_be_built_again_is_saved_as_onnx_and_the_log_has_the_reason.<locals>.", ""
        )
    )
    artifact = sealed(tmp_path)
    assert artifact.state is State.ONNX
    assert [(s.name, s.shape) for s in (*artifact.content.inputs, *artifact.content.outputs)] == [
        ("input", (3,)),
        ("output", (2,)),
    ]


def test_args_that_do_not_build_the_model_are_refused(output, nets):
    with pytest.raises(ArtifactError, match=r"the given factory and args do not build the model: .*weights do not fit"):
        slipway.runtime.save(nets.Net(width=6), torch.rand(2, 3), args={"width": 5})
    with pytest.raises(ArtifactError, match="its arguments are: width"):
        slipway.runtime.save(nets.Net(), torch.rand(2, 3), args={"widht": 5})


@pytest.mark.parametrize("metrics", [{"loss": float("nan")}, {"x" * 49: 1.0}, {f"m{i}": 1.0 for i in range(13)}])
def test_metrics_that_a_report_cannot_carry_are_refused(output, metrics):
    with pytest.raises(ValueError, match="metrics"):
        slipway.runtime.save(mlp([3, 2]), torch.rand(2, 3), metrics=metrics)


def test_a_single_example_is_refused(output):
    with pytest.raises(ArtifactError, match="2 samples or more"):
        slipway.runtime.save(mlp([3, 2]), torch.rand(1, 3))


@pytest.mark.parametrize(
    ("script", "guarded"),
    [
        ("def main(): ...\nif __name__ == '__main__':\n    main()\n", True),
        ("import torch\nif torch.cuda.is_available():\n    train()\n", False),
        ("train()\n", False),
    ],
)
def test_a_script_that_would_train_when_it_is_imported_is_known(script: str, guarded: bool):
    assert has_main_guard(script) is guarded


class Depthwise(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.spread = nn.Conv2d(1, width, 3)
        self.depth = nn.Conv2d(width, width, 3, groups=width)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.depth(self.spread(x))).mean((2, 3)))


def test_a_pruned_module_is_built_by_the_widths_of_its_weights():
    small, inputs = Depthwise(width=3).eval(), torch.rand(2, 1, 8, 8)
    source = ModuleSource(factory=f"{__name__}:Depthwise", resized=True)
    sys.modules.setdefault(__name__, sys.modules[Depthwise.__module__])
    again = rebuild(source, small.state_dict(), Path())
    assert torch.equal(again(inputs), small(inputs))
    assert (again.depth.groups, again.norm.num_features, again.head.in_features) == (3, 3, 3)
    with pytest.raises(ArtifactError, match="weights do not fit"):
        rebuild(source.model_copy(update={"resized": False}), small.state_dict(), Path())


def test_a_layer_that_cannot_change_its_width_is_named():
    weights = {name: tensor[..., :4] for name, tensor in nn.Bilinear(8, 8, 2).state_dict().items()}
    with pytest.raises(ArtifactError, match="Bilinear"):
        resize(nn.Bilinear(8, 8, 2), weights)


def test_data_is_found_by_name_and_a_wrong_name_lists_the_right_ones(monkeypatch):
    monkeypatch.setenv("SLIPWAY_DATA", json.dumps({"train": "/a", "test": "/b"}))
    with pytest.raises(KeyError, match=r"no data source 'valid' in spec\.data; it has test, train"):
        slipway.runtime.data("valid")
    monkeypatch.delenv("SLIPWAY_DATA")
    with pytest.raises(KeyError, match="SLIPWAY_DATA is not set"):
        slipway.runtime.data()
