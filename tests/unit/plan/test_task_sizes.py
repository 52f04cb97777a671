"""What no pod could be given is refused by its field before any pod is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.api.kinds import JOB, Object
from slipway.api.tasks import TrainTask
from slipway.plan.taskinput import MAX_INPUT_BYTES, TASK_ANNOTATION, json_bytes
from slipway.runtime.pod import read_task
from support.deployments import DIGITS, with_params
from support.kubelet import handed_over
from support.training import TrainingWorld
from support.world import World, task_of

LONG = {"prompts": "x" * 200_000}


def jobs(world: World) -> list[Object]:
    return [obj for key, obj in world.objects.items() if key.kind == JOB]


def says(world: World) -> str:
    (ready,) = [one for one in world.status(DIGITS)["conditions"] if one["type"] == "Stalled"]
    return f"{ready['status']} {ready['reason']}: {ready['message']}"


def test_parameters_that_no_pod_could_be_given_are_refused_by_their_field_before_any_pod_is_made() -> None:
    world = with_params({"ratio": 0.5}, {"prompts": "x" * 1_000_000})
    assert says(world) == (
        "True InvalidParams: spec.compression.steps[1].params: is 1000014 bytes of JSON; the maximum is 229376;"
        " put large values into a file of the store"
    )
    assert jobs(world) == []


def test_parameters_that_no_status_would_have_room_beside_are_refused() -> None:
    world = with_params(LONG, LONG, LONG)
    assert says(world) == (
        "True InvalidParams: spec.compression.steps: all parameters together are 600042 bytes of JSON; the maximum"
        " is 458752; put large values into a file of the store"
    )
    assert jobs(world) == []


TOO_LARGE: dict[str, tuple[dict[str, Any], str]] = {
    "arguments of a script": (
        {"entrypoint": {"script": {"path": "/a.py", "args": ["\U0001f600" * 1024] * 20}}},
        "spec.entrypoint.script.args: the entry point is ",
    ),
    "arguments of a module": (
        {"entrypoint": {"module": {"name": "a", "args": ["\U0001f600" * 1024] * 20}}},
        "spec.entrypoint.module.args: the entry point is ",
    ),
    "arguments of a factory": (
        {"entrypoint": {"recipe": {"model": {"factory": "a:b", "args": {"c": "x" * 1_000_000}}}}},
        "spec.entrypoint.recipe.model.args: the entry point is ",
    ),
    "arguments of an optimizer": (
        {"entrypoint": {"recipe": {"model": {"factory": "a:b"}, "optimizer": {"args": {"c": "x" * 1_000_000}}}}},
        "spec.entrypoint.recipe.optimizer.args: the entry point is ",
    ),
    "annotations beside them": (
        {
            "entrypoint": {"recipe": {"model": {"factory": "a:b", "args": {"c": "x" * 200_000}}}},
            "podTemplate": {"annotations": {f"note-{number}": "x" * 4096 for number in range(12)}},
        },
        "spec.podTemplate.annotations: are 49226 bytes with an entry point of ",
    ),
}


@pytest.mark.parametrize(("spec", "said"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_training_that_no_pod_could_be_given_is_refused_by_its_field(spec: dict[str, Any], said: str) -> None:
    world = TrainingWorld(**spec).plan()
    assert world.says("Stalled").startswith(f"True InvalidSpec: {said}")
    assert jobs(world) == []


def test_the_largest_training_has_a_pod_that_starts(tmp_path: Path) -> None:
    def recipe(size: int) -> Object:
        return {"recipe": {"model": {"factory": "a:b", "args": {"c": "x" * size}}, "seed": 1}}

    bare = TrainingWorld(entrypoint=recipe(1)).plan().job()
    rest = json_bytes(task_of(bare)["entrypoint"]) - 1
    notes = {f"n{number}": "x" * 4090 for number in range(4)}  # up to the bound of both, but for a few bytes
    world = TrainingWorld(nodes=2, entrypoint=recipe(MAX_INPUT_BYTES - rest), podTemplate={"annotations": notes}).plan()
    template = world.job()["spec"]["template"]
    assert template["metadata"]["annotations"].keys() == {*notes, TASK_ANNOTATION}
    assert isinstance(read_task(handed_over(template, tmp_path)[1]), TrainTask)
