"""What a user writes reaches the pod's process as it was written, whatever it holds and however long it is."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slipway.api.artifacts import ArtifactRef
from slipway.api.artifactstore import ArtifactStore
from slipway.api.kinds import JOB, Object
from slipway.api.tasks import CompressTask, TrainTask
from slipway.plan.pods import container, pod_template, task_env
from slipway.plan.storemount import StoreMount
from slipway.plan.taskinput import MAX_INPUT_BYTES, MAX_VARIABLE_BYTES, TASK_ANNOTATION, TaskInput, json_bytes
from slipway.runtime.pod import read_task
from support.builders import DIGEST, store
from support.deployments import DIGITS, with_params
from support.kubelet import handed_over
from support.restricted import breaches
from support.training import TrainingWorld
from support.world import task_of

MOUNT = StoreMount(ArtifactStore.model_validate(store()).spec, "steps/a")
MODEL = ArtifactRef(uri="store:///models/one", digest=DIGEST)
SPECIAL = (
    "$",
    "$$",
    "$(HOME)",
    "$$(HOME)",
    "$(SLIPWAY_TASK)",
    "\\$",
    "${HOME}",
    '"',
    "'",
    "\\u0024",
    "\0",
    "\U0001f600",
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(SPECIAL)
VALUES = st.recursive(
    TEXTS | st.integers(-(2**53), 2**53) | st.booleans() | st.none(),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(TEXTS, inside, max_size=4),
    max_leaves=10,
)


def template_of(task: CompressTask) -> Object:
    given = TaskInput.of(task)
    main = container(
        "image:1", ["work"], pull_policy="Never", env=task_env(given, MOUNT), mounts=[*MOUNT.mounts, *given.mounts]
    )
    return pod_template([main], labels={}, store=MOUNT, task=given)


def compression(**params: Any) -> CompressTask:
    return CompressTask(entry_point="p", version="1", params=params, model=MODEL)


def padded(params: dict[str, Any], length: int) -> CompressTask:
    """A task of these parameters whose text is as long as that, where it is not longer anyway."""
    rest = length - len(TaskInput.of(compression(**params, padding="")).text)
    return compression(**params, padding="x" * max(0, rest))


@settings(deadline=None)
@given(
    params=st.dictionaries(TEXTS, VALUES, max_size=4),
    length=st.sampled_from([0, MAX_VARIABLE_BYTES]),
    more=st.integers(-3, 3),
)
@example(params={"home": "$(HOME) $$ $(SLIPWAY_JOB_UID)"}, length=0, more=0)
@example(params={"home": "$(HOME) $$ $(SLIPWAY_JOB_UID)"}, length=MAX_VARIABLE_BYTES, more=1)
def test_a_process_reads_the_very_task_that_was_planned(params: dict[str, Any], length: int, more: int) -> None:
    task = padded({name: value for name, value in params.items() if name != "padding"}, length + more)
    with tempfile.TemporaryDirectory() as folder:
        _, environment = handed_over(template_of(task), Path(folder))
        assert read_task(environment) == task


@pytest.mark.parametrize(("length", "in_file"), [(MAX_VARIABLE_BYTES, False), (MAX_VARIABLE_BYTES + 1, True)])
def test_a_task_above_the_bound_of_a_variable_lies_in_an_annotation(length: int, in_file: bool) -> None:
    task = padded({}, length)
    template = template_of(task)
    (main,) = template["spec"]["containers"]
    value = next(one["value"] for one in main["env"] if one["name"] == "SLIPWAY_TASK")
    text = template["metadata"].get("annotations", {}).get(TASK_ANNOTATION)
    assert json.loads(text if in_file else value) == task.to_wire()
    assert (text is not None, value.startswith("sha256:")) == (in_file, in_file)
    assert [mount["readOnly"] for mount in main["volumeMounts"] if mount["mountPath"] == "/var/lib/slipway/task"] == (
        [True] if in_file else []
    )
    assert breaches(template["spec"]) == []


def test_a_short_task_is_handed_over_as_it_always_was() -> None:
    (main,) = template_of(compression(ratio=0.5))["spec"]["containers"]
    (value,) = [one["value"] for one in main["env"] if one["name"] == "SLIPWAY_TASK"]
    assert value == json.dumps(compression(ratio=0.5).to_wire(), sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize("size", [100, 200_000, MAX_INPUT_BYTES - json_bytes({"prompts": ""})])
def test_the_pod_of_a_step_gets_parameters_of_any_allowed_size(size: int, tmp_path: Path) -> None:
    world = with_params({"prompts": "x" * size})
    jobs = [obj for key, obj in world.objects.items() if key.kind == JOB]
    (job,) = [job for job in jobs if task_of(job).get("entryPoint") == "prune-structured"]
    _, environment = handed_over(job["spec"]["template"], tmp_path)
    task = read_task(environment)
    assert isinstance(task, CompressTask)
    assert task.params == {"prompts": "x" * size}
    assert world.status(DIGITS)["phase"] == "Ready"


ENTRY_POINTS: dict[str, Callable[[list[str]], Object]] = {
    "script": lambda words: {"script": {"path": "/code/$(A).py", "args": words}},
    "module": lambda words: {"module": {"name": "mine.train", "args": words}},
}
WORDS = ["--home=$(HOME)", "$$", "$$(HOME)", "a$", '"', "\U0001f600" * 1000]


@pytest.mark.parametrize("words", [WORDS, WORDS * 4], ids=["short", "long"])
@pytest.mark.parametrize("kind", ENTRY_POINTS)
@pytest.mark.parametrize("image", [{}, {"image": "mine:1"}], ids=["runtime image", "own image"])
def test_a_training_gets_its_arguments_as_they_are_written(
    image: Object, kind: str, words: list[str], tmp_path: Path
) -> None:
    job = TrainingWorld(nodes=2, data=[], entrypoint=ENTRY_POINTS[kind](words), **image).plan().job()
    command, environment = handed_over(job["spec"]["template"], tmp_path)
    if image:
        assert command[-len(words) :] == words
        assert "SLIPWAY_TASK" not in environment
        assert kind == "module" or "/code/$(A).py" in command
    else:
        task = read_task(environment)
        assert isinstance(task, TrainTask)
        assert task.entrypoint.to_wire() == {kind: ENTRY_POINTS[kind](words)[kind]}


def test_a_variable_of_a_pod_template_is_expanded_as_in_any_pod(tmp_path: Path) -> None:
    given = [{"name": "ROOT", "value": "/data"}, {"name": "TRAIN", "value": "$(ROOT)/train"}]
    job = TrainingWorld(podTemplate={"env": given}).plan().job()
    assert handed_over(job["spec"]["template"], tmp_path)[1]["TRAIN"] == "/data/train"
