"""Results of two runs of a plugin on small models, and the findings that follow. No torch: the runs are elsewhere."""

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
"""Seed of all runs."""
MODELS: Mapping[str, ModuleSource] = {
    "mlp": ModuleSource(factory="slipway.runtime.models:mlp", args={"layers": [784, 128, 10]}),
    "convnet": ModuleSource(factory="slipway.runtime.models:convnet", args={"widths": [16, 32]}),
}
"""Models that are made for the check, by name: those of the recipes, for digits."""
DATA = "data"
"""Folder of the data set in the store of a check, with a folder `artifact`."""


class CheckOrder(Model):
    """The runs of one process: one plugin on each of the models, one after the other."""

    plugin: str
    params: Open = Field(default_factory=dict)
    store: str
    """Folder that has `<model>/artifact` of each model, and data/artifact."""
    models: tuple[str, ...]
    data: bool = False
    """True if the plugin gets the data set."""


class ModelResult(Model):
    """Result of one run on one model.

    succeeded: the plugin wrote a result. refused: it raised PluginError. failed: any other end.
    """

    model: str
    outcome: Literal["succeeded", "refused", "failed"]
    reason: str = ""
    state: State | None = None
    digest: str = ""
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of each file of the result."""
    bytes_before: int = 0
    bytes_after: int = 0
    findings: tuple[Finding, ...] = ()
    """Findings on the result itself."""


@dataclass(frozen=True, slots=True)
class CheckRun:
    """One process. results: by model; error: why there are no more, empty if the process succeeded."""

    results: Mapping[str, ModelResult]
    error: str = ""

    def missing(self, name: str, models: Sequence[str]) -> str:
        """Return why this model has no result. models: in the order of the runs."""
        if any(model not in self.results for model in models[: models.index(name)]):
            return "not run: the process had ended before"
        return self.error or "the process ended during the run, without an error"


def run_findings(plugin: Compression[Any], models: Sequence[str], first: CheckRun, second: CheckRun) -> list[Finding]:
    """Return the findings on the plugin, model by model. A refused model is a failure if the plugin takes none."""
    takes_some = any(result.outcome == "succeeded" for run in (first, second) for result in run.results.values())
    return [
        one._replace(check=f"{name}: {one.check}")
        for name in models
        for one in _model_findings(plugin, name, models, (first, second), takes_some)
    ]


def _model_findings(
    plugin: Compression[Any], name: str, models: Sequence[str], runs: tuple[CheckRun, CheckRun], takes_some: bool
) -> list[Finding]:
    one, other = (run.results.get(name) for run in runs)
    if one is None or other is None:
        what = runs[one is not None].missing(name, models)
        return [Finding("run", "fail", what, "find out what `run` waits for, and what ends it")]
    if one.outcome != other.outcome:
        what = f"one run {_describe(one)}, the other {_describe(other)}"
        return [Finding("same seed", "fail", what, _REPEATABLE)]
    if one.outcome == "failed":
        return [Finding("run", "fail", one.reason, "fix `run`; for a model that it cannot handle, raise PluginError")]
    if one.outcome == "refused":
        cure = "" if takes_some else "give it a model that it takes by --model, or other parameters by --param"
        return [Finding("run", "warn" if takes_some else "fail", f"refused: {one.reason}", cure)]
    return [Finding("run", "ok", f"wrote {one.state}"), _repeated(one, other), *one.findings, _size(plugin, one)]


def _describe(result: ModelResult) -> str:
    return f"wrote {result.digest}" if result.outcome == "succeeded" else f"{result.outcome}: {result.reason}"


def _repeated(one: ModelResult, other: ModelResult) -> Finding:
    if one.digest == other.digest:
        return Finding("same seed", "ok", f"two processes wrote {one.digest[:19]}")
    names = sorted(one.files.keys() | other.files.keys())
    differ = [name for name in names if one.files.get(name) != other.files.get(name)] or ["the manifest"]
    return Finding("same seed", "fail", f"the same seed gave another result: {', '.join(differ)} differs", _REPEATABLE)


_REPEATABLE = "use context.seed for random numbers, sort items of sets and folders, and write no time and no path"


def _size(plugin: Compression[Any], result: ModelResult) -> Finding:
    before, after = result.bytes_before, result.bytes_after
    what = f"{before:,} bytes before, {after:,} after"
    if plugin.conversion:
        return Finding("size", "ok", what)
    if after < before:
        return Finding("size", "ok", f"{what}: {1 - after / before:.0%} smaller")
    return Finding("size", "warn", f"{what}: not smaller", "raise PluginError for a model that does not get smaller")
