"""The scenarios that every fault is tried on. A new feature is tried by adding one."""

from __future__ import annotations

from collections.abc import Mapping

from slipway.api.kinds import CONTROLLER_REVISION, DEPLOYMENT, MODEL_DEPLOYMENT, SERVICE, TRAINING_JOB, Object
from support.builders import PRUNE, QUANTIZE, claim, model_deployment, plugins, store, training_job
from support.faults.operations import (
    counting,
    fails,
    finds_a_model,
    loses_the_pod_that_waits,
    lost_with_its_node,
    one_waits,
    preempted,
    runs_on,
    vanishes,
    where,
    works,
)
from support.faults.scenario import (
    Scenario,
    Step,
    at_once,
    both,
    creates,
    deletes,
    deletes_children,
    deletes_jobs,
    edits,
    from_now_on,
    one_after_another,
    phase_is,
    pods_run,
)
from support.faults.world import Operation, World

DIGITS = "digits"
RESTARTS = {"max": 2, "backoff": "1s"}


def store_objects() -> tuple[Object, ...]:
    shared = claim()
    shared["spec"]["resources"] = {"requests": {"storage": "1Gi"}}
    return shared, store()


async def nothing_more(_world: World) -> None:
    """The step's condition is what matters."""


async def scaled_down(world: World) -> bool:
    found = await world.admin.list(DEPLOYMENT, world.namespace)
    return bool(found) and all(obj["spec"]["replicas"] == 0 for obj in found)


def job(**spec: object) -> Object:
    """Two pods, on stored data, with two restarts a second apart."""
    return training_job(**{"nodes": 2, "restarts": RESTARTS, **spec})


def training(name: str, *steps: Step, operations: Mapping[str, Operation] | None = None, **spec: object) -> Scenario:
    return Scenario(name, (*store_objects(), job(**spec)), steps, operations or {})


def update(name: str, *steps: Step, operations: Mapping[str, Operation] | None = None) -> Scenario:
    """Of a deployment that serves."""
    return Scenario(name, (), steps, operations or {}, after=DEPLOYS)


def first_revision(name: str, *steps: Step, operations: Mapping[str, Operation] | None = None) -> Scenario:
    """Of a model that is trained."""
    return Scenario(name, (*plugins(), model_deployment()), steps, operations or {}, after=TRAINED)


def compression(ratio: float) -> Object:
    """Another ratio makes another revision."""
    return {"steps": [{**PRUNE, "params": {"ratio": ratio}}, QUANTIZE]}


OTHER, THIRD = compression(0.25), compression(0.75)
LENIENT = {"data": {"dataset": "digits", "split": "test"}, "gate": {"maxDrop": 0.5}}
SERVES = phase_is(MODEL_DEPLOYMENT, DIGITS, "Ready")
RUNS = both(phase_is(TRAINING_JOB, DIGITS, "Running"), pods_run("train"))
REFUSED = phase_is(MODEL_DEPLOYMENT, DIGITS, "Degraded")
PRUNING = "step-0-prune-structured"
updated = edits(MODEL_DEPLOYMENT, DIGITS, compression=OTHER)

TRAINS = training("train and succeed", data=[{"name": "train", "dataset": "digits"}])
RESTARTS_ONCE = training("fail and restart to success", operations={"train/1": fails()})
TRAINED = training("train on stored data")
# In the order in which GitOps may apply them: what is named comes after what names it.
DEPLOYS = Scenario("deploy", (model_deployment(), *plugins(), job(), *store_objects()))

SCENARIOS = (
    TRAINS,
    RESTARTS_ONCE,
    training("restarts exhausted", operations={"train": fails()}, restarts={"max": 1, "backoff": "1s"}),
    training("preempted", operations={"train/1": preempted}),
    training(
        "a pod lost while it waits for room",
        operations={"train/1/start": one_waits, "train/1": loses_the_pod_that_waits},
    ),
    training("node lost", operations={"train/1": lost_with_its_node}),
    training("node lost when the work was done", operations={"train/1": lost_with_its_node, "recover": finds_a_model}),
    training(
        "deleted while running",
        Step("it is deleted while its pods run", RUNS, deletes(TRAINING_JOB, DIGITS)),
        operations={"train": runs_on},
    ),
    training(
        "a Job deleted by a user",
        Step("its Job is deleted while its pods run", RUNS, deletes_jobs("train")),
        operations={"train/1": runs_on},
    ),
    training(
        "suspend and resume",
        Step("it is suspended while its pods run", RUNS, edits(TRAINING_JOB, DIGITS, suspend=True)),
        Step("it is resumed", phase_is(TRAINING_JOB, DIGITS, "Suspended"), edits(TRAINING_JOB, DIGITS, suspend=False)),
        operations={"train/1": runs_on},
    ),
    training(
        "trained again under the same name",
        Step("it is deleted while its pods run", RUNS, deletes(TRAINING_JOB, DIGITS)),
        Step("it is made again", at_once, one_after_another(from_now_on("train", works), creates(job()))),
        Step("it is done", phase_is(TRAINING_JOB, DIGITS, "Succeeded"), nothing_more),
        operations={"train": runs_on},
    ),
    training("an image of the user's", image="mine:1", entrypoint={"script": {"path": "/train.py"}}),
    training("the deadline passes", operations={"train": runs_on}, activeDeadline="60s"),
    training("children go after the TTL", ttlAfterFinished="60s"),
    training(
        "preparation lost and tried again",
        data=[{"name": "train", "dataset": "digits"}],
        operations={"prepare-train/1": preempted},
    ),
    DEPLOYS,
    update(
        "gate refuses an update",
        Step(
            "an update comes that loses accuracy",
            SERVES,
            one_after_another(from_now_on("compare", counting(60)), updated),
        ),
        Step("it is refused", REFUSED, nothing_more),
    ),
    update(
        "a refused update is let pass",
        Step(
            "an update comes that loses accuracy",
            SERVES,
            one_after_another(from_now_on("compare", counting(60)), updated),
        ),
        Step("the gate is opened", REFUSED, edits(MODEL_DEPLOYMENT, DIGITS, evaluation=LENIENT)),
        Step("it serves", SERVES, nothing_more),
    ),
    update(
        "update while the update before is still compressing",
        Step("an update comes", SERVES, updated),
        Step(
            "another comes while its first step runs",
            pods_run(PRUNING),
            edits(MODEL_DEPLOYMENT, DIGITS, compression=THIRD),
        ),
        Step("that one serves", SERVES, nothing_more),
        operations={PRUNING: where("ratio", 0.25, runs_on)},
    ),
    update(
        "revert to the former spec",
        Step("an update comes", SERVES, updated),
        Step("it is reverted", SERVES, edits(MODEL_DEPLOYMENT, DIGITS, compression=compression(0.5))),
        Step("it serves again", SERVES, nothing_more),
    ),
    update(
        "revert while compressing",
        Step("an update comes", SERVES, updated),
        Step(
            "it is reverted while its first step runs",
            pods_run(PRUNING),
            edits(MODEL_DEPLOYMENT, DIGITS, compression=compression(0.5)),
        ),
        Step("it serves again", SERVES, nothing_more),
        operations={PRUNING: where("ratio", 0.25, runs_on)},
    ),
    update(
        "delete and re-create under the same name",
        Step("it is deleted", SERVES, deletes(MODEL_DEPLOYMENT, DIGITS)),
        Step("it is made again", at_once, creates(model_deployment())),
        Step("it serves", SERVES, nothing_more),
    ),
    first_revision(
        "a failing step is fixed",
        Step("the step fails for good, and the spec is fixed", phase_is(MODEL_DEPLOYMENT, DIGITS, "Failed"), updated),
        Step("it serves", SERVES, nothing_more),
        operations={PRUNING: where("ratio", 0.5, fails("a defect", "PluginError"))},
    ),
    first_revision(
        "steps preempted and lost",
        operations={f"{PRUNING}/1": preempted, "compare/1": lost_with_its_node, "package/1": vanishes},
    ),
    update(
        "children deleted by a user",
        Step("the Deployments go", SERVES, deletes_children(DEPLOYMENT)),
        Step("the Services go", SERVES, deletes_children(SERVICE)),
        Step("the records go", SERVES, deletes_children(CONTROLLER_REVISION)),
        Step("it serves as before", SERVES, nothing_more),
    ),
    update(
        "scaled to none and back",
        Step("no replicas are wanted", SERVES, edits(MODEL_DEPLOYMENT, DIGITS, serving={"replicas": 0})),
        Step("two are", scaled_down, edits(MODEL_DEPLOYMENT, DIGITS, serving={"replicas": 2})),
        Step("they serve", SERVES, nothing_more),
    ),
    update(
        "the trained model's job is deleted",
        Step("it is deleted", SERVES, deletes(TRAINING_JOB, DIGITS)),
        Step("an update comes", at_once, updated),
        Step("it serves", SERVES, nothing_more),
    ),
)
"""Every name is different: tests are called by it."""
