"""`slipway status`: what people read, and the exit codes that scripts read."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
import yaml
from typer.testing import Result

from slipway.api.status import not_yet_observed
from slipway.cli.rendering.details import details, overview
from slipway.cli.rendering.summary import get_readiness, steps_of, summary
from slipway.cli.rendering.tables import Table, plain
from support import statuses
from support.builders import T0
from support.kubehttp import KubeHttp

NOW = T0 + timedelta(minutes=2, seconds=5)
Slipway = Callable[..., Result]


def text(tables: list[Table]) -> str:
    return "\n".join(plain(table) for table in tables)


@pytest.mark.parametrize(
    ("obj", "steps", "expected"),
    [
        (
            statuses.running_training(),
            [],
            ("Running", "attempt 1, pods 2/2", "AttemptRunning: attempt 1 runs on 2 pods"),
        ),
        (
            statuses.finished_training(),
            [],
            ("Succeeded", "accuracy 0.9704, loss 0.1000, 407 kB", ""),
        ),
        (
            statuses.failed_training(),
            [],
            (
                "Failed",
                "restarts 3/3",
                "RestartsSpent: rank 1: ValueError: bad batch; fix the script and create the TrainingJob again",
            ),
        ),
        (
            statuses.compressing_deployment(),
            statuses.compressing_steps(),
            ("Compressing", "steps 1/2, step-1-quantize-int8 running", "StepRunning: step-1-quantize-int8 runs"),
        ),
        (
            statuses.serving_deployment(),
            statuses.serving_steps(),
            ("Ready", "replicas 1/1, accuracy 0.9685, 6.8x smaller", ""),
        ),
    ],
    ids=lambda value: value["status"]["phase"] if isinstance(value, dict) else "",
)
def test_a_line_says_phase_progress_and_what_is_wrong(
    obj: dict, steps: list[dict], expected: tuple[str, str, str]
) -> None:
    assert summary(obj, steps_of(obj, steps)) == expected


@pytest.mark.parametrize("status", [{"observedGeneration": -1}, not_yet_observed()], ids=["an older CRD", "made now"])
def test_a_resource_that_no_operator_has_looked_at_says_so_and_is_not_settled(status: dict) -> None:
    fresh = statuses.aged({**statuses.running_training(), "status": status})
    phase, progress, message = summary(fresh)
    assert (phase, progress) == ("-", "-")
    assert (
        message
        == "NotObserved: no operator has processed this resource yet; check that one runs and watches this namespace"
    )
    assert get_readiness(fresh) is None


def test_a_verdict_on_an_older_spec_does_not_count() -> None:
    for obj, verdict in ((statuses.finished_training(), True), (statuses.failed_training(), False)):
        assert get_readiness(obj) is verdict
        obj["metadata"]["generation"] = 2
        assert get_readiness(obj) is None


def test_the_overview_has_a_line_for_each_resource_and_the_namespace_only_when_asked() -> None:
    objects = [statuses.failed_training(), statuses.serving_deployment()]
    assert plain(overview(objects, NOW)).splitlines()[0].split() == ["NAME", "PHASE", "PROGRESS", "AGE", "MESSAGE"]
    everywhere = plain(overview(objects, NOW, all_namespaces=True)).splitlines()
    assert [line.split()[:3] for line in everywhere] == [
        ["NAMESPACE", "NAME", "PHASE"],
        ["team", "trainingjob/digits", "Failed"],
        ["team", "modeldeployment/digits", "Ready"],
    ]
    assert "2m05s" in everywhere[1]


def test_the_details_of_a_failed_training_name_the_rank_the_exception_and_the_exit_code() -> None:
    shown = text(details(statuses.failed_training(), NOW))
    assert "rank 1: ValueError: bad batch (exit code 1)" in shown
    assert "gpu" in shown
    assert "2x1" in shown
    assert "1m00s" in shown  # from running at 15 s to its end at 75 s


def test_the_details_of_a_deployment_show_the_gate_with_its_figures() -> None:
    shown = text(details(statuses.serving_deployment(), NOW, statuses.serving_steps()))
    assert "passed: accuracy 0.9704 -> 0.9685, drop at most 0.0071 (95% bound), 0.02 allowed" in shown
    assert "n 540, lost 3, gained 2" in shown
    assert "serving, candidate" in shown
    assert "http://digits.team.svc:8000" in shown
    assert "408 kB -> 60 kB" in shown


def test_columns_are_aligned_and_nothing_is_cut_where_there_is_no_terminal() -> None:
    long = "x" * 300
    assert plain(Table(("A", "B"), (("1", long), ("22", "y")))) == f"A    B\n1    {long}\n22   y"


def test_a_name_that_two_kinds_have_shows_both(slipway: Slipway) -> None:
    result = slipway(KubeHttp([[statuses.running_training(), statuses.serving_deployment()]]), "status", "digits")
    assert result.exit_code == 0
    assert "TrainingJob team/digits" in result.stdout
    assert "ModelDeployment team/digits" in result.stdout


@pytest.mark.parametrize("name", ["tj/digits", "trainingjob/digits", "TrainingJobs.slipway.dev/digits"])
def test_json_of_one_kind_and_name_is_the_resource_as_the_cluster_has_it(slipway: Slipway, name: str) -> None:
    obj = statuses.running_training()
    result = slipway(KubeHttp([[obj, statuses.serving_deployment()]]), "status", name, "-o", "json")
    assert json.loads(result.stdout) == obj


def test_json_and_yaml_of_a_namespace_are_lists(slipway: Slipway) -> None:
    objects = [statuses.running_training(), statuses.serving_deployment()]
    server = KubeHttp([objects])
    assert json.loads(slipway(server, "status", "-o", "json").stdout)["items"] == objects
    assert yaml.safe_load(slipway(server, "status", "-o", "yaml").stdout)["items"] == objects


def test_watching_tells_each_transition_once_and_ends_with_0_when_ready(slipway: Slipway) -> None:
    states = [[statuses.running_training()]] * 3 + [[statuses.finished_training()]]
    result = slipway(KubeHttp(states), "status", "tj/digits", "--watch", "--timeout", "30")
    lines = [line.split(" ", 1)[1] for line in result.stdout.splitlines()]
    assert [line.split(":")[0] for line in lines] == ["trainingjob/digits Running", "trainingjob/digits Succeeded"]
    assert result.exit_code == 0


def test_watching_ends_with_1_when_stalled_although_another_of_the_name_still_waits(slipway: Slipway) -> None:
    objects = [statuses.failed_training(), statuses.deployment("Pending", statuses.under_way("WaitingForTraining"))]
    result = slipway(KubeHttp([objects]), "status", "digits", "--watch", "--timeout", "30")
    assert result.exit_code == 1
    assert "RestartsSpent" in result.stdout


def test_watching_with_json_writes_only_the_last_state_to_standard_output(slipway: Slipway) -> None:
    states = [[statuses.running_training()], [statuses.finished_training()]]
    result = slipway(KubeHttp(states), "status", "tj/digits", "-w", "-o", "json", "--timeout", "30")
    assert json.loads(result.stdout)["status"]["phase"] == "Succeeded"
    assert "Running" in result.stderr


def test_a_timeout_ends_the_watch_with_5_and_names_what_has_not_settled(slipway: Slipway) -> None:
    result = slipway(KubeHttp([[statuses.running_training()]]), "status", "tj/digits", "-w", "--timeout", "0.3")
    assert result.exit_code == 5
    assert result.stderr == "error: --timeout: not Ready after 0.3 s: trainingjob/digits (Running)\n"


def test_a_name_that_nothing_has_is_one_line_and_exit_code_3(slipway: Slipway) -> None:
    result = slipway(KubeHttp([[]]), "status", "nobody")
    assert result.exit_code == 3
    assert result.stderr == "error: no TrainingJob or ModelDeployment 'nobody' in namespace 'team'\n"


def test_an_empty_namespace_is_no_error(slipway: Slipway) -> None:
    result = slipway(KubeHttp([[]]), "status", "-n", "other")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "no TrainingJob or ModelDeployment in namespace 'other'\n"


@pytest.mark.parametrize("code", [403, 500])
def test_a_server_that_refuses_is_one_line_and_exit_code_4(slipway: Slipway, code: int) -> None:
    result = slipway(KubeHttp([[]], refuse=code), "status")
    assert result.exit_code == 4
    assert result.stderr.startswith(f"error: list trainingjobs in team: {code}")
    assert result.stderr.count("\n") == 1


def test_no_kubeconfig_is_one_line_that_names_the_cure(slipway: Slipway) -> None:
    result = slipway(None, "status")
    assert result.exit_code == 4
    assert "set KUBECONFIG" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [["status", "pod/x"], ["status", "x", "-A"], ["status", "--timeout", "3"], ["status", "-o", "xml"], ["frobnicate"]],
    ids=" ".join,
)
def test_a_wrong_command_line_is_exit_code_2(slipway: Slipway, words: list[str]) -> None:
    assert slipway(None, *words).exit_code == 2


def test_a_server_that_is_away_for_a_moment_is_waited_for_but_not_one_that_never_answered(slipway: Slipway) -> None:
    states = [[statuses.running_training()], [statuses.finished_training()]]
    moment = slipway(KubeHttp(states, away={2, 3}), "status", "tj/digits", "-w", "--timeout", "30")
    assert moment.exit_code == 0
    assert "Succeeded" in moment.stdout
    never = slipway(KubeHttp(states, refuse=503), "status", "tj/digits", "-w", "--timeout", "30")
    assert never.exit_code == 4
