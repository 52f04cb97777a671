"""What came of running a plugin on trial models, twice, and what that says of it. No torch: runs are elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from slipway.api.artifacts import State
from slipway.api.base import Model, Open
from slipway.api.errors import Finding
from slipway.sdk.manifest import ModuleSource
from slipway.sdk.plugin import Compression

SEED = 1
"""Of all trial runs."""
MODELS: Mapping[str, ModuleSource] = {
    "mlp": ModuleSource(factory="slipway.runtime.models:mlp", args={"layers": [784, 128, 10]}),
    "convnet": ModuleSource(factory="slipway.runtime.models:convnet", args={"widths": [16, 32]}),
}
"""The models that are made for trials, by name: those of the recipes, for digits."""
DATA = "data"
"""Folder of the data set in a store of trials; `artifact` lies in it."""


class TrialOrder(Model):
    """What one process is to run: one plugin on each of the models, one after the other."""

    plugin: str
    params: Open = Field(default_factory=dict)
    store: str
    """Folder that holds `<model>/artifact` of each, and data/artifact."""
    models: tuple[str, ...]
    data: bool = False
    """The plugin is given the data set."""


class Trial(Model):
    """What one run on one model came to.

    left: the plugin gave a result. refused: it raised PluginError. broken: whatever else.
    """

    model: str
    outcome: Literal["left", "refused", "broken"]
    reason: str = ""
    state: State | None = None
    digest: str = ""
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each file of the result."""
    bytes_before: int = 0
    bytes_after: int = 0
    findings: tuple[Finding, ...] = ()
    """Of the result by itself."""


@dataclass(frozen=True, slots=True)
class Run:
    """One process. trials: by model; ended: why there are not more, empty where it ended well."""

    trials: Mapping[str, Trial]
    ended: str = ""

    def missing(self, name: str, models: Sequence[str]) -> str:
        """Why there is no trial of this one of the models, which are run in order."""
        if any(model not in self.trials for model in models[: models.index(name)]):
            return "not tried: the process had ended before"
        return self.ended or "the process ended in the midst of it, without an error"


def trial_findings(plugin: Compression[Any], models: Sequence[str], first: Run, second: Run) -> list[Finding]:
    """What the two runs say of the plugin, model by model. A refusal of one model is a failure where it takes none."""
    takes_some = any(trial.outcome == "left" for run in (first, second) for trial in run.trials.values())
    return [
        one._replace(check=f"{name}: {one.check}")
        for name in models
        for one in _of_model(plugin, name, models, (first, second), takes_some)
    ]


def _of_model(
    plugin: Compression[Any], name: str, models: Sequence[str], runs: tuple[Run, Run], takes_some: bool
) -> list[Finding]:
    one, other = (run.trials.get(name) for run in runs)
    if one is None or other is None:
        what = runs[one is not None].missing(name, models)
        return [Finding("run", "fail", what, "see what run waits for, and what ends it")]
    if one.outcome != other.outcome:
        what = f"one run {_said(one)}, the other {_said(other)}"
        return [Finding("same seed", "fail", what, _CHANCE)]
    if one.outcome == "broken":
        return [Finding("run", "fail", one.reason, "mend run: for a model that it cannot handle it raises PluginError")]
    if one.outcome == "refused":
        cure = "" if takes_some else "give it a model that it takes by --model, or other parameters by --param"
        return [Finding("run", "warn" if takes_some else "fail", f"refused: {one.reason}", cure)]
    return [Finding("run", "ok", f"left {one.state}"), _repeated(one, other), *one.findings, _size(plugin, one)]


def _said(trial: Trial) -> str:
    return f"left {trial.digest}" if trial.outcome == "left" else f"{trial.outcome}: {trial.reason}"


def _repeated(one: Trial, other: Trial) -> Finding:
    if one.digest == other.digest:
        return Finding("same seed", "ok", f"two processes left {one.digest[:19]}")
    names = sorted(one.files.keys() | other.files.keys())
    differ = [name for name in names if one.files.get(name) != other.files.get(name)] or ["the manifest"]
    return Finding("same seed", "fail", f"the same seed gave another result: {', '.join(differ)} differs", _CHANCE)


_CHANCE = "draw from context.seed, sort what comes from sets and folders, and write no time and no path"


def _size(plugin: Compression[Any], trial: Trial) -> Finding:
    before, after = trial.bytes_before, trial.bytes_after
    what = f"{before:,} bytes before, {after:,} after"
    if plugin.conversion:
        return Finding("size", "ok", what)
    if after < before:
        return Finding("size", "ok", f"{what}: {1 - after / before:.0%} smaller")
    return Finding("size", "warn", f"{what}: not smaller", "refuse by PluginError what does not get smaller")
