"""Input of users, read as the API server reads it; tests/integration/test_agreement.py compares with the server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from slipway.api.base import MAX_DEPTH
from slipway.api.modeldeployment import ModelDeployment
from slipway.api.reading import read_written
from slipway.api.trainingjob import TrainingJob
from support.mutants import nested

MODULE = {"module": {"name": "team.train"}}


def job(**spec: Any) -> str:
    return json.dumps({"spec": {"entrypoint": MODULE, **spec}})


def with_params(params: Any) -> str:
    steps = [{"plugin": "prune", "params": params}]
    evaluation = {"data": {"dataset": "digits", "split": "test"}}
    spec = {"model": {"trainingJob": "one"}, "compression": {"steps": steps}, "evaluation": evaluation}
    return json.dumps({"spec": spec})


@pytest.mark.parametrize(
    "spec",
    [{"nodes": None}, {"podTemplate": None}, {"podTemplate": {"labels": {"team": None}}}, {"restarts": {"max": None}}],
)
def test_a_null_where_none_is_known_counts_as_absent(spec: Any) -> None:
    read = read_written(TrainingJob, job(**spec))
    assert (read.spec.nodes, read.spec.restarts.max, read.spec.pod_template.labels or {}) == (1, 3, {})


def test_a_null_inside_of_what_a_plugin_defines_stays() -> None:
    read = read_written(ModelDeployment, with_params({"recover": None}))
    assert read.spec.compression.steps[0].params == {"recover": None}


def test_an_item_of_a_list_may_not_be_null() -> None:
    with pytest.raises(ValidationError, match=r"spec.data.0"):
        read_written(TrainingJob, job(data=[None]))


@pytest.mark.parametrize("text", ["2.0", "2e0", "20E-1"])
def test_a_whole_number_is_one_however_it_is_written(text: str) -> None:
    assert read_written(TrainingJob, job(nodes=7).replace(": 7", f": {text}")).spec.nodes == 2


@pytest.mark.parametrize("text", ["2.5", "NaN", "1e999", "9223372036854775808", "9" * 5000, '2, "nodes": 2'])
def test_no_number_of_nodes(text: str) -> None:
    with pytest.raises(ValueError, match=r"nodes|number"):
        read_written(TrainingJob, job(nodes=7).replace(": 7", f": {text}"))


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999"])
def test_what_a_plugin_defines_holds_finite_numbers_only(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        read_written(ModelDeployment, with_params({"ratio": 7}).replace(": 7", f": {text}"))


def test_open_values_have_a_limit_of_depth() -> None:
    read_written(ModelDeployment, with_params(nested(MAX_DEPTH)))
    with pytest.raises(ValidationError, match=r"(?s)steps.0.params.*nested more than 32 levels deep"):
        read_written(ModelDeployment, with_params(nested(MAX_DEPTH + 1)))


def test_a_text_that_python_itself_cannot_nest_is_an_error_like_others() -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        read_written(TrainingJob, "[" * 100_000)


@pytest.mark.parametrize(
    "never",
    [{"exitCodes": [0]}, {"exitCodes": [256]}, {"exceptions": ["torch.cuda.OutOfMemoryError"]}, {"exceptions": [""]}],
)
def test_what_deserves_no_retry_is_named_by_exit_codes_and_class_names(never: Any) -> None:
    read_written(TrainingJob, job(restarts={"never": {"exitCodes": [1, 255], "exceptions": ["OutOfMemoryError"]}}))
    with pytest.raises(ValidationError, match=f"restarts.never.{next(iter(never))}"):
        read_written(TrainingJob, job(restarts={"never": never}))
