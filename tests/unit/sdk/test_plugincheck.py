"""Findings on a plugin after two runs on small models."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from slipway.api.artifacts import State
from slipway.api.errors import Finding
from slipway.sdk.plugincheck import CheckRun, ModelResult, run_findings

ONE, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64
OK = {"mlp: run": "ok", "mlp: same seed": "ok", "mlp: size": "ok"}


def succeeded(model: str = "mlp", digest: str = ONE, **more: Any) -> ModelResult:
    given = {"bytes_before": 400, "bytes_after": 100, "files": {"model.onnx": digest, "notes": "0"}, **more}
    return ModelResult(model=model, outcome="succeeded", state=State.ONNX, digest=digest, **given)


def refused() -> ModelResult:
    return ModelResult(model="mlp", outcome="refused", reason="too small")


def failed() -> ModelResult:
    return ModelResult(model="mlp", outcome="failed", reason="KeyError: 'w' (plugin.py, line 7)")


def run(*results: ModelResult, error: str = "") -> CheckRun:
    return CheckRun({result.model: result for result in results}, error)


def findings(
    first: CheckRun, second: CheckRun, models: tuple[str, ...] = ("mlp",), *, conversion: bool = False
) -> dict[str, Finding]:
    plugin: Any = SimpleNamespace(conversion=conversion)
    return {one.check: one for one in run_findings(plugin, models, first, second)}


def test_equal_results_that_are_smaller_pass_and_their_own_findings_are_reported() -> None:
    own = Finding("graph", "fail", "it has no nodes", "add some")
    found = findings(run(succeeded(findings=(own,))), run(succeeded()))
    assert {check: one.level for check, one in found.items()} == {**OK, "mlp: graph": "fail"}
    assert found["mlp: size"].what == "400 bytes before, 100 after: 75% smaller"


def test_other_results_of_the_same_seed_fail_and_name_the_files_that_differ() -> None:
    found = findings(run(succeeded()), run(succeeded(digest=OTHER)))["mlp: same seed"]
    assert (found.level, found.what) == ("fail", "the same seed gave another result: model.onnx differs")
    assert "context.seed" in found.cure


def test_a_result_in_one_run_and_a_refusal_in_the_other_fail() -> None:
    found = findings(run(succeeded()), run(refused()))
    assert {check: one.level for check, one in found.items()} == {"mlp: same seed": "fail"}
    assert found["mlp: same seed"].what == f"one run wrote {ONE}, the other refused: too small"


@pytest.mark.parametrize(
    ("after", "conversion", "level"), [(400, False, "warn"), (500, False, "warn"), (500, True, "ok")]
)
def test_a_model_that_did_not_get_smaller_is_a_warning_except_for_a_conversion(
    after: int, conversion: bool, level: str
) -> None:
    found = findings(run(succeeded(bytes_after=after)), run(succeeded()), conversion=conversion)
    assert found["mlp: size"].level == level


def test_a_refusal_is_a_warning_if_another_model_was_accepted_and_a_failure_if_none_was() -> None:
    taken = run(refused(), succeeded("convnet"))
    some = findings(taken, taken, ("mlp", "convnet"))["mlp: run"]
    assert (some.level, some.what) == ("warn", "refused: too small")
    none = findings(run(refused()), run(refused()))["mlp: run"]
    assert none.level == "fail"
    assert "--model" in none.cure


def test_any_other_error_of_a_run_is_a_failure_with_its_place() -> None:
    found = findings(run(failed()), run(failed()))["mlp: run"]
    assert (found.level, found.what) == ("fail", "KeyError: 'w' (plugin.py, line 7)")


@pytest.mark.parametrize("cut_first", [True, False])
def test_a_process_that_ended_early_is_reported_with_its_end(cut_first: bool) -> None:
    whole, cut = run(succeeded(), succeeded("convnet")), run(succeeded(), error="it did not end within 5 s")
    first, second = (cut, whole) if cut_first else (whole, cut)
    found = findings(first, second, ("mlp", "convnet"))
    assert {check: one.level for check, one in found.items()} == {**OK, "convnet: run": "fail"}
    assert found["convnet: run"].what == "it did not end within 5 s"


def test_models_after_the_one_that_ended_the_process_were_not_run() -> None:
    found = findings(run(), run(), ("mlp", "convnet"))
    assert {check: one.level for check, one in found.items()} == {"mlp: run": "fail", "convnet: run": "fail"}
    assert found["mlp: run"].what == "the process ended during the run, without an error"
    assert found["convnet: run"].what == "not run: the process had ended before"
