"""`slipway run` with real torchrun and a real tritonserver: what it makes, what it leaves, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from support.local_runs import LocalRun, finished, objects, processes_of, started, written
from support.long_tasks import long_training, was_given
from support.manifests import EXAMPLES, digits_deployment, digits_training, script_training
from support.seaweed import ADMIN, BUCKET, seaweed

DIGITS = (EXAMPLES / "digits/training.yaml", EXAMPLES / "digits/deployment.yaml")

RAISES_ON_RANK_1 = """
import os, time
if os.environ["RANK"] == "1":
    raise ValueError("the loss is not finite")
time.sleep(60)
"""

SLEEPS = """
import os, time
print("rank", os.environ["RANK"], "runs", flush=True)
time.sleep(600)
"""


def the(kind: str, state: Path) -> dict[str, Any]:
    (found,) = objects(state, kind)
    return found


def slipway(*words: str) -> str:
    command = [sys.executable, "-m", "slipway.cli.main", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def predicted(*where: str) -> dict[str, Any]:
    words = ["--dataset", "digits", "--limit", "50", "--output", "json"]
    return json.loads(slipway("predict", *where, *words))  # type: ignore[no-any-return]


def address_of(run: LocalRun) -> str:
    """Where the model answers by HTTP, as the run says."""
    line = run.until(lambda: [line for line in run.said().splitlines() if "answers at" in line])[0]
    return str(line.partition("http ")[2].partition(",")[0])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of the digits, trained on two nodes, compressed, evaluated and served once."""
    state = tmp_path_factory.mktemp("digits") / "state"
    code, said = finished(state, DIGITS, "--cpu")
    assert code == 0, said
    return state


def test_two_nodes_train_the_digits_and_their_model_is_made_small_and_served(served: Path):
    job, deployment = the("TrainingJob", served), the("ModelDeployment", served)
    (attempt,) = job["status"]["attempts"]
    assert (attempt["outcome"], attempt["nodes"]) == ("Succeeded", 2)
    assert job["status"]["metrics"]["accuracy"] > 0.95
    assert deployment["status"]["phase"] == "Ready"
    sizes = deployment["status"]["sizes"]
    assert sizes["floatBytes"] > 6.5 * sizes["compressedBytes"]
    assert processes_of(served) == {}


def test_a_second_run_trains_nothing_and_answers_requests(served: Path):
    before = the("TrainingJob", served), objects(served, "Step")
    with started(served, DIGITS, "--cpu") as run:
        facts = predicted("--url", address_of(run), "--model", "digits")
        by_name = predicted("digits", f"--state={served}")
        shown = json.loads(slipway("status", "md/digits", f"--state={served}", "-o", "json"))["status"]["url"]
        with urllib.request.urlopen(f"{shown}/v2/health/ready", timeout=10) as answer:  # noqa: S310
            assert answer.status == 200
        assert run.end() == 0
    assert facts["accuracy"] == by_name["accuracy"] > 0.9
    assert (the("TrainingJob", served), objects(served, "Step")) == before
    assert processes_of(served) == {}


def test_a_triton_that_dies_is_told_with_its_log_and_serves_again(served: Path):
    with started(served, DIGITS, "--cpu") as run:
        address_of(run)
        assert "[serve/" in slipway("logs", "md/digits", f"--state={served}")
        commands = {number: command.split()[0] for number, command in processes_of(served).items()}
        (triton,) = [number for number, program in commands.items() if program.endswith("/bin/tritonserver")]
        before = run.said()
        os.kill(triton, signal.SIGKILL)
        since = lambda: run.said().removeprefix(before)  # noqa: E731
        run.until(lambda: "container triton ended with exit code 137; its log: " in since())
        run.until(lambda: "modeldeployment/digits Ready" in since().partition("replicas 0/1")[2])
        assert predicted("digits", f"--state={served}")["accuracy"] > 0.9
        assert run.end() == 0


def test_what_another_deployment_had_made_is_shared(served: Path, tmp_path: Path):
    file = written(tmp_path, digits_deployment("again"))
    code, said = finished(served, [file], "--cpu")
    assert code == 0, said
    steps = [step for step in objects(served, "Step") if step["metadata"]["name"].startswith("again-")]
    shared = {step["spec"]["role"] for step in steps if step["status"].get("sharedFrom")}
    assert {"prepare-evaluation", "convert-baseline", "step-0-prune-structured", "step-1-quantize-int8"} <= shared


@pytest.mark.release
def test_torchrun_workers_get_200_kb_of_arguments_to_the_letter(tmp_path: Path):
    code, said = finished(tmp_path / "state", [written(tmp_path, *long_training("long"))])
    assert code == 1
    assert was_given(the("TrainingJob", tmp_path / "state")), said


def test_a_rank_that_fails_is_named_with_its_exception_and_its_log(tmp_path: Path):
    file = written(tmp_path, *script_training("raises", RAISES_ON_RANK_1))
    code, said = finished(tmp_path / "state", [file])
    job = the("TrainingJob", tmp_path / "state")
    failure = job["status"]["attempts"][-1]["failure"]
    assert code == 1
    assert (failure["rank"], failure["exception"]) == (1, "ValueError")
    assert failure["message"].startswith("the loss is not finite")
    assert "rank 1: ValueError: the loss is not finite" in said
    assert "main.0.log" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_that_a_run_started_outlives_it_and_its_attempt_is_not_counted(number: signal.Signals, tmp_path: Path):
    file = written(tmp_path, *script_training("sleeps", SLEEPS))
    state = tmp_path / "state"
    with started(state, [file]) as run:
        run.until(lambda: sum("runs" in log.read_text() for log in (state / "logs").rglob("*.log")) == 2)
        assert processes_of(state)
        code = run.end(number)
        run.until(lambda: not processes_of(state), seconds=10)
    assert code == (130 if number == signal.SIGINT else -signal.SIGKILL)
    with started(state, [file]) as run:
        run.until(lambda: len(the("TrainingJob", state)["status"]["attempts"]) == 2)
        first, second = the("TrainingJob", state)["status"]["attempts"]
        assert first["outcome"] == "Preempted"
        assert the("TrainingJob", state)["status"]["restarts"] == 0
        assert second.get("outcome") is None


@pytest.mark.release
def test_a_script_of_ones_own_is_trained_and_sealed(tmp_path: Path):
    source = (EXAMPLES / "digits/train.py").read_text()
    config, job = script_training("own", source, data=digits_training()["spec"]["data"])
    code, said = finished(tmp_path / "state", [written(tmp_path, config, job)])
    assert code == 0, said
    assert the("TrainingJob", tmp_path / "state")["status"]["artifact"]["state"] == "module"


@pytest.mark.release
def test_a_training_keeps_what_it_makes_in_a_bucket(tmp_path: Path):
    with seaweed(tmp_path) as service:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}, "stringData": ADMIN}
        store = {"apiVersion": "slipway.dev/v1alpha1", "kind": "ArtifactStore", "metadata": {"name": "default"}}
        job = digits_training(nodes=1, pools=[])
        file = written(tmp_path, secret, {**store, "spec": {"s3": service.spec()}}, job)
        code, said = finished(tmp_path / "state", [file])
        assert code == 0, said
        uri = the("TrainingJob", tmp_path / "state")["status"]["artifact"]["uri"]
        assert service.files.exists(f"{BUCKET}/{uri.removeprefix('store:///')}/manifest.json")
    assert not (tmp_path / "state/volumes").exists()
