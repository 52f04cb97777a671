"""Plugins are loaded each by itself, and one that breaks the contract is kept with the reason."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest
from pydantic import BaseModel

from slipway.sdk import Artifact, Context, PluginError, State, load_plugins
from slipway.sdk.plugin import GROUP, validate_plugin


class Params(BaseModel):
    ratio: float = 0.5


class Good:
    name = "good"
    version = "1.0.0"
    description = "Does nothing."
    consumes = State.MODULE
    produces = State.ONNX
    conversion = True
    needs_data = False
    params = Params

    def run(self, model: Artifact, params: Params, context: Context) -> Artifact:
        raise NotImplementedError


class Explodes(Good):
    def __init__(self) -> None:
        raise RuntimeError("no licence")


def point(name: str, thing: str = "Good") -> EntryPoint:
    return EntryPoint(name, f"{__name__}:{thing}", GROUP)


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Good.__module__])


def test_a_broken_plugin_does_not_hide_the_others():
    missing = EntryPoint("missing", "no_such_package:Plugin", GROUP)
    loaded, broken = load_plugins([point("good"), missing, point("explodes", "Explodes")])
    assert list(loaded) == ["good"]
    assert {b.name: b.error for b in broken} == {
        "missing": "ModuleNotFoundError: No module named 'no_such_package'",
        "explodes": "RuntimeError: no licence",
    }


def test_of_two_plugins_of_one_name_none_is_loaded():
    loaded, broken = load_plugins([point("good"), point("good", "Explodes")])
    assert loaded == {}
    assert [b.error for b in broken] == ["PluginError: 2 plugins are named 'good'; none is loaded"] * 2


@pytest.mark.parametrize(
    ("attribute", "value", "complaint"),
    [
        ("version", None, "version is NoneType, not str"),
        ("consumes", "module", "consumes is str, not State"),
        ("produces", State.DATASET, "produces is neither module nor onnx"),
        ("params", dict, "params is not a pydantic model"),
        ("run", None, "run is not a method"),
        ("name", "other", "its name is 'other', not the entry point's"),
    ],
)
def test_what_breaks_the_contract_is_named(attribute: str, value: object, complaint: str):
    broken = type("Broken", (Good,), {attribute: value})
    with pytest.raises(PluginError, match=f"plugin 'good' breaks the contract: .*{complaint}"):
        validate_plugin("good", broken)


def test_the_contract_costs_neither_torch_nor_numpy():
    code = "import sys, slipway.sdk; assert not {'torch', 'numpy', 'onnx'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
