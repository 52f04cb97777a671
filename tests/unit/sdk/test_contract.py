"""Findings on a plugin's class before it runs."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from slipway.sdk import State
from slipway.sdk.contract import class_findings, import_finding


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Kind(StrEnum):
    PLAIN = "plain"


class Inner(Strict):
    epochs: int = Field(default=1, ge=0, le=9, description="Passes.")


class Sound(Strict):
    ratio: float | None = Field(default=0.5, gt=0, lt=1, description="Share.")
    kind: Kind = Field(default=Kind.PLAIN, description="How.")
    level: int = Field(default=3, json_schema_extra={"enum": [3, 5]}, description="Of some.")
    inner: Inner = Field(default_factory=Inner, description="What follows.")


class Bare(Strict):
    ratio: float | None = Field(default=0.5, description="Share.")
    steps: int = Field(default=1, ge=1, description="Steps.")
    sizes: list[int] = Field(default=[1], description="Sizes.")


class Silent(Strict):
    ratio: float = Field(default=0.5, gt=0, lt=1)


class WithoutDefault(Strict):
    ratio: float = Field(gt=0, lt=1, description="Share.")


class OutOfBounds(Strict):
    inner: Inner = Field(default=Inner.model_construct(epochs=70), description="What follows.")


class Open(BaseModel):
    inner: Inner = Field(default_factory=Inner, description="What follows.")


class Loose(BaseModel):
    epochs: int = Field(default=1, ge=0, le=9, description="Passes.")


class OpenInside(Strict):
    inner: Loose = Field(default_factory=Loose, description="What follows.")


class NoJson(Strict):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    ratio: memoryview = Field(default=memoryview(b""), description="Share.")


class Plugin:
    name, version, description = "tried", "1.0.0", "Does a thing."
    consumes = produces = State.ONNX
    conversion = needs_data = False
    params: type[BaseModel] = Sound

    def run(self, model: Any, params: Any, context: Any) -> Any:
        raise NotImplementedError


def wrong(params: type[BaseModel] = Sound, **attributes: Any) -> dict[str, tuple[str, str]]:
    found = class_findings(type("Tried", (Plugin,), {"params": params, **attributes})())
    assert all(one.cure for one in found if one.level != "ok")
    return {one.check: (one.level, one.what) for one in found if one.level != "ok"}


def test_a_class_that_keeps_everything_is_well() -> None:
    found = class_findings(Plugin())
    assert {one.check: one.level for one in found} == dict.fromkeys(
        ("manifest", "descriptions", "bounds", "defaults", "unknown parameters"), "ok"
    )


@pytest.mark.parametrize(
    ("params", "check", "what"),
    [
        (
            Bare,
            "bounds",
            "ratio has no lower bound; ratio has no upper bound; steps has no upper bound;"
            " sizes has no lower bound; sizes has no upper bound",
        ),
        (Silent, "descriptions", "ratio has no description"),
        (WithoutDefault, "defaults", "ratio: Field required"),
        (OutOfBounds, "defaults", "inner.epochs: Input should be less than or equal to 9"),
        (Open, "unknown parameters", "Open takes them"),
        (OpenInside, "unknown parameters", "Loose takes them"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_wrong_parameters_are_reported_by_their_names(params: type[BaseModel], check: str, what: str) -> None:
    assert wrong(params) == {check: ("fail", what)}


def test_parameters_that_json_cannot_say_are_refused() -> None:
    ((check, (level, what)),) = wrong(NoJson).items()
    assert (check, level) == ("parameters", "fail")
    assert what.startswith("they have no JSON Schema: ")


@pytest.mark.parametrize(
    ("attributes", "level", "what"),
    [
        ({"version": "one two"}, "fail", "version: String should match pattern"),
        ({"name": "Tried_1"}, "fail", "entryPoint: String should match pattern"),
        ({"description": " "}, "warn", "description is empty"),
    ],
    ids=["version", "name", "description"],
)
def test_a_manifest_that_no_cluster_accepts_is_reported(attributes: dict[str, Any], level: str, what: str) -> None:
    found = wrong(**attributes)
    assert found["manifest"][0] == level
    assert found["manifest"][1].startswith(what)


def test_what_importing_a_plugin_brings_in_is_named() -> None:
    assert import_finding([]).level == "ok"
    found = import_finding(["torch", "numpy"])
    assert (found.level, found.what) == (
        "fail",
        "importing its module imports torch; importing its module imports numpy",
    )
