"""What the pod of a Step has from the spec of its owner."""

from __future__ import annotations

from slipway.api.kinds import JOB, STEP, Object
from slipway.plan.tasks import SMALL
from support.builders import NAMESPACE
from support.deployments import served
from support.training import TrainingWorld
from support.world import World

TOLERATION = {"key": "slow", "operator": "Exists"}


def job_of(world: World, role: str) -> Object:
    (found,) = world.select(JOB, NAMESPACE, {"slipway.dev/role": role})
    return found


def resources_of(job: Object) -> Object:
    asked: Object = job["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    return asked


def test_a_steps_pod_has_the_settings_of_its_owner_alone() -> None:
    data = [{"name": "train", "dataset": "digits"}]
    world = TrainingWorld(data=data, podTemplate={"tolerations": [TOLERATION]}).plan()
    assert TOLERATION in job_of(world, "prepare-train")["spec"]["template"]["spec"]["tolerations"]
    (step,) = world.select(STEP, NAMESPACE, {})
    assert "tolerations" not in str(step)


def test_a_plugin_has_the_resources_of_compression_and_what_decides_has_not() -> None:
    asked = {"cpu": "3", "memory": "5Gi"}
    world = served(
        compression={"steps": [{"plugin": "prune-structured", "params": {"ratio": 0.5}}], "resources": asked}
    )
    assert resources_of(job_of(world, "step-0-prune-structured")) == asked
    assert resources_of(job_of(world, "evaluate-candidate"))["memory"] == str(SMALL.memory)
