"""ModelDeployments in a small world: what tests of their planner share."""

from __future__ import annotations

from slipway.api.kinds import DEPLOYMENT, JOB, MODEL_DEPLOYMENT, SERVICE, Key, Object
from slipway.plan.deployment import plan_deployment
from slipway.plan.deployment.manifests import selected_revision
from support.builders import NAMESPACE, failed, model_deployment, plugin, plugins, store, trained
from support.world import Behaviour, World, does_its_work

DIGITS = Key(MODEL_DEPLOYMENT, NAMESPACE, "digits")


def world_with(*objects: Object, without: tuple[str, ...] = (), **spec: object) -> World:
    """A world with a ModelDeployment of a trained model, its store and its plugins, or the given objects instead.

    without: names of default objects to leave out. spec: of the ModelDeployment.
    """
    default = [model_deployment(**spec), trained(), store(), *plugins()]
    given = {(obj["kind"], obj["metadata"]["name"]) for obj in objects}
    kept = [
        obj
        for obj in default
        if (obj["kind"], obj["metadata"]["name"]) not in given
        and (obj["metadata"]["name"] not in without or obj["kind"] == "ModelDeployment")
        and obj["kind"] not in without
    ]
    return World(plan_deployment, *kept, *objects)


def served(**spec: object) -> World:
    """The same, run until the first revision serves."""
    world = world_with(**spec)
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready", world.status(DIGITS)
    return world


def with_params(*params: Object) -> World:
    """The same with one step for each of these parameters, of a plugin that takes any, run until nothing is left to do.

    The plugin has the name and the place of prune-structured.
    """
    steps = tuple({"plugin": "prune-structured", "params": one} for one in params)
    world = world_with(plugin("prune-structured", "module", "module", parameters={"type": "object"}), steps=steps)
    world.run(DIGITS)
    return world


def with_ratio(ratio: float):
    """An edit that makes another revision."""

    def change(spec: Object) -> None:
        spec["compression"] = {"steps": [{"plugin": "prune-structured", "params": {"ratio": ratio}}]}

    return change


def until(task: str, then: Object | None = None) -> Behaviour:
    """Pods work, but those of tasks of that kind run on for ever, or report `then`."""

    def behaviour(wanted: Object, job: Object) -> Object | None:
        named = (wanted["task"], wanted.get("entryPoint"), job["metadata"]["labels"]["slipway.dev/role"])
        return then if task in named else does_its_work(wanted, job)

    return behaviour


def counting(lost: int, gained: int = 0, n: int = 540) -> Behaviour:
    """Comparisons count `lost` and `gained` samples."""
    counts = {"n": n, "baselineRight": n - 16, "lost": lost, "gained": gained}

    def behaviour(wanted: Object, job: Object) -> Object | None:
        report = does_its_work(wanted, job)
        return {**report, "counts": counts} if wanted["task"] == "compare" else report

    return behaviour


def raising(task: str, message: str = "boom", exception: str = "PluginError") -> Behaviour:
    return until(task, failed(message, exception=exception, rank=None))


def service_target(world: World) -> str | None:
    """The revision that the stable Service sends traffic to."""
    return selected_revision(world.get(SERVICE, NAMESPACE, "digits"))


def replicas(world: World) -> dict[str, int]:
    """Wanted replicas of every Deployment that exists."""
    return {
        obj["metadata"]["name"]: obj["spec"]["replicas"] for key, obj in world.objects.items() if key[0] == DEPLOYMENT
    }


def live_jobs(world: World) -> set[str]:
    """Roles of the Jobs that exist."""
    return {obj["metadata"]["labels"]["slipway.dev/role"] for key, obj in world.objects.items() if key[0] == JOB}
