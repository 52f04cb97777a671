"""Real torchrun agents as processes of this machine, each started as the pod's process would be."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from slipway.api.artifacts import State
from slipway.api.tasks import PrepareTask
from slipway.sdk.artifact import read_artifact
from support.agents import Agents, recipe, trained, training_task
from support.stores import do, made

EXAMPLE = Path(__file__).parents[2] / "examples/digits/train.py"

# Ranks meet, rank 1 then ends as it is told; rank 0 goes on until it notices.
SCRIPT = """
import os, sys, time
import torch
import torch.distributed as dist

def deep(levels):
    if levels == 0:
        raise ValueError("sample 17 is " + "x" * 20000)
    deep(levels - 1)

how = sys.argv[1]
dist.init_process_group("gloo")
dist.all_reduce(torch.ones(1))
print("met", flush=True)
if dist.get_rank() == 1:
    if how == "raises late":
        try:
            deep(200)
        finally:
            dist.destroy_process_group()
            time.sleep(1)  # the other rank's failure is noted first
    if how == "killed":
        os.kill(os.getpid(), 9)
while True:
    dist.all_reduce(torch.ones(1))
    time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def data(store: Path) -> list[dict[str, Any]]:
    refs = []
    for split in ("train", "test"):
        task = PrepareTask.model_validate({"dataset": "digits", "split": split})
        refs.append({"name": split, "artifact": made(do(store, f"data-{split}", task)).to_wire()})
    return refs


@pytest.fixture
def launch(store: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    started: list[Agents] = []

    def start(entrypoint: dict[str, Any], data: list[dict[str, Any]], nodes: int = 2, processes: int = 1) -> Agents:
        task = training_task(entrypoint, data, nodes, processes)
        folder = f"job-{request.node.name.split('[')[0][:40]}-{task['rendezvous']['port']}"
        agents = Agents(store, folder, task, store / f"{folder}-logs")
        started.append(agents)
        return agents

    yield start
    for agents in started:
        agents.end()


def out(agents: Agents) -> Path:
    """The folder that the attempt had to itself."""
    assert isinstance(agents.store, Path)
    return agents.store / agents.folder


def weights(agents: Agents) -> dict[str, np.ndarray]:
    return load_file(out(agents) / "artifact/model.safetensors")


def test_two_agents_train_the_recipe_to_the_same_digest_twice(launch, data):
    first = launch(recipe(), data)
    artifact = trained(first)
    metrics = first.report(0).metrics
    assert metrics is not None
    assert metrics["accuracy"] >= 0.95
    assert artifact.state is State.MODULE
    assert artifact.size_bytes == (out(first) / "artifact/model.safetensors").stat().st_size
    assert sum(line.startswith("epoch ") for line in first.lines[0] + first.lines[1]) == 10
    assert trained(launch(recipe(), data)).digest == artifact.digest


def test_the_number_of_ranks_does_not_change_what_is_learned(launch, data):
    """Global batches of 32 over 3 ranks (11, 11, 10), the last of 9: equal to one rank up to rounding."""
    one, three = launch(recipe(epochs=2), data, nodes=1), launch(recipe(epochs=2), data, nodes=1, processes=3)
    trained(one)
    trained(three)
    alone, together = weights(one), weights(three)
    assert alone.keys() == together.keys()
    for name, values in alone.items():
        np.testing.assert_allclose(together[name], values, atol=2e-4)


def test_a_users_own_script_leaves_a_model_with_its_code(launch, data):
    agents = launch({"script": {"path": str(EXAMPLE), "args": ["--epochs", "10"]}}, data)
    ref = trained(agents)
    artifact = read_artifact(out(agents) / "artifact", ref.digest)
    assert artifact.file("code/train.py").read_bytes() == EXAMPLE.read_bytes()
    metrics = agents.report(0).metrics
    assert metrics is not None
    assert metrics["accuracy"] >= 0.95


@pytest.mark.parametrize(
    ("how", "exception", "message", "exit_code"),
    [
        ("raises late", "ValueError", "sample 17 is xxx", 1),
        ("killed", "SIGKILL", "memory limit", 137),
    ],
)
def test_the_rank_that_failed_first_is_reported_with_its_cause(launch, tmp_path, how, exception, message, exit_code):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    agents = launch({"script": {"path": str(script), "args": [how]}}, [])
    assert agents.ends() == [1, 1]
    errors = [agents.error(index) for index in (0, 1)]
    cause = min(errors, key=lambda error: error.exception == "PeerLost")
    assert (cause.exception, cause.rank, cause.exit_code) == (exception, 1, exit_code)
    assert message in cause.message
    assert {error.exception for error in errors} == {"PeerLost", exception}


def test_sigterm_ends_workers_and_agent_with_a_report(launch, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    agents = launch({"script": {"path": str(script), "args": ["goes on"]}}, [])
    for index in (0, 1):
        agents.wait_for(index, "met")
    agents.pods[1].send_signal(signal.SIGTERM)
    assert agents.pods[1].wait(timeout=40) == 143
    assert agents.error(1).exception == "SIGTERM"
    assert agents.pods[0].wait(timeout=60) == 1
    assert agents.error(0).exception == "PeerLost"
