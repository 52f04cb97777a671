"""What an image was when it decided: recorded, told in the evidence, and held to one content a name."""

from __future__ import annotations

import pytest

from slipway.api.kinds import Object
from support.builders import SETTINGS, quantize_plugin
from support.deployments import DIGITS, served, with_ratio, world_with
from support.world import World, task_of

OLD, NEW = f"registry.example/slipway-runtime@sha256:{'a' * 64}", f"registry.example/slipway-runtime@sha256:{'b' * 64}"


def moving_at(task: str, **spec: object) -> World:
    """The runtime image's tag is moved just before the first pod of such a task."""
    world = world_with(**spec)
    moved: list[Object] = []
    before = world.behaviour

    def behaviour(wanted: Object, job: Object) -> Object | None:
        if task in (wanted["task"], job["metadata"]["labels"]["slipway.dev/role"]):
            moved.append(job)
        return before(wanted, job)

    world.behaviour = behaviour
    world.image_id = lambda image: NEW if moved and image == SETTINGS.runtime_image else OLD
    return world


def test_the_image_of_each_task_is_recorded_and_stands_in_the_evidence() -> None:
    world = world_with()
    world.image_id = lambda _: OLD
    world.run(DIGITS)
    status = world.status(DIGITS)
    assert status["phase"] == "Ready"
    assert {step["imageID"] for step in world.steps()} == {OLD}
    assert status["revisions"][0]["gate"]["imageID"] == OLD


@pytest.mark.parametrize("task", ["evaluate-candidate", "compare", "package"])
def test_two_contents_of_one_image_decide_nothing_together(task: str) -> None:
    world = moving_at(task)
    world.run(DIGITS)
    status, reason, message = world.condition(DIGITS, "Ready")
    assert (status, reason) == ("False", "ImageMoved")
    assert f"image {SETTINGS.runtime_image} was {OLD} for the " in message
    assert f"and {NEW} for the " in message
    assert "name it by digest (image.digests of the chart" in message
    assert world.status(DIGITS).get("serving") is None


def test_a_tag_that_is_moved_between_two_revisions_is_found_by_the_results_that_both_use() -> None:
    world = served(steps=({"plugin": "prune-structured", "params": {"ratio": 0.5}},))
    first = world.status(DIGITS)["serving"]
    world.image_id = lambda _: NEW
    world.edit(DIGITS, with_ratio(0.7))
    world.run(DIGITS)
    status, reason, _ = world.condition(DIGITS, "Ready")
    assert (status, reason) == ("False", "ImageMoved")
    assert world.status(DIGITS)["serving"] == first
    assert world.condition(DIGITS, "Available")[0] == "True"


def test_an_image_by_digest_makes_the_tasks_again_and_serves() -> None:
    world = moving_at("compare")
    world.run(DIGITS)
    assert world.condition(DIGITS, "Ready")[1] == "ImageMoved"
    world.settings = type(SETTINGS)(runtime_image=NEW, serving_image=SETTINGS.serving_image)
    world.image_id = lambda _: NEW
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready"


def test_images_of_different_plugins_are_different_images() -> None:
    world = world_with(quantize_plugin(image="third.example/party:1"))
    world.run(DIGITS)
    jobs = [obj for obj in world.objects.values() if obj["kind"] == "Job" and task_of(obj)["task"] == "compress"]
    assert len({job["spec"]["template"]["spec"]["containers"][0]["image"] for job in jobs}) == 2
    assert world.status(DIGITS)["phase"] == "Ready"
