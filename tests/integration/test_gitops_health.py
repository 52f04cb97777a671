"""What Flux and Argo CD think of every state that the planners tell of."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import yaml

from slipway.api.artifactstore import ArtifactStoreStatus
from slipway.api.kinds import ARTIFACT_STORE, Key, Object
from slipway.api.modeldeployment import ModelDeploymentStatus
from slipway.api.trainingjob import TrainingJobStatus
from slipway.plan.store import plan_store
from support.apiserver import ROOT
from support.builders import (
    NAMESPACE,
    bucket_store,
    claim,
    failed,
    model_deployment,
    plugins,
    pool,
    store,
    stored_data,
    succeeded,
    training_job,
)
from support.deployments import DIGITS, counting, raising, served, until, with_ratio, world_with
from support.gitops import Verdicts, by_expressions, health_checks, verdicts
from support.training import TrainingWorld
from support.world import Behaviour, World

UNDER_WAY = Verdicts("InProgress", "Progressing")
DONE = Verdicts("Current", "Healthy")
STUCK = Verdicts("Failed", "Degraded")
AT_REST = Verdicts("InProgress", "Suspended")
NO_STATUS = Verdicts("Current", None)

State = Callable[[], Object]


def job(world: TrainingWorld) -> Object:
    return world.objects[world.key]


def started(**spec: object) -> TrainingWorld:
    return TrainingWorld(**spec).plan()


def unseen(world: TrainingWorld) -> TrainingWorld:
    """An edit that the operator has not seen yet."""
    world.operator_runs = False
    return world.edits(suspend=True)


TRAINING: dict[str, tuple[str | None, Verdicts, State]] = {
    "just made": (None, UNDER_WAY, training_job),
    "waits for its store": ("Pending", UNDER_WAY, lambda: job(TrainingWorld(store(ready=False)).plan())),
    "waits for its pool": ("Pending", UNDER_WAY, lambda: job(started(pools=["h100"]))),
    "prepares data": ("Pending", UNDER_WAY, lambda: job(started(data=[{"name": "train", "dataset": "digits"}]))),
    "starts": ("Pending", UNDER_WAY, lambda: job(TrainingWorld(pool(), pools=["h100"]).plan())),
    "runs": ("Running", UNDER_WAY, lambda: job(started().pods_run())),
    "edited while it runs": ("Running", UNDER_WAY, lambda: job(unseen(started().pods_run()))),
    "between attempts": ("Restarting", UNDER_WAY, lambda: job(started().pods_run().fails())),
    "suspended": ("Suspended", AT_REST, lambda: job(started().pods_run().edits(suspend=True))),
    "resumed": ("Pending", UNDER_WAY, lambda: job(started().pods_run().edits(suspend=True).edits(suspend=False))),
    "done": ("Succeeded", DONE, lambda: job(started().pods_run().succeeds())),
    "edited when it is done": ("Succeeded", UNDER_WAY, lambda: job(unseen(started().pods_run().succeeds()))),
    "restarts spent": ("Failed", STUCK, lambda: job(started(restarts={"max": 0}).pods_run().fails())),
    "past its deadline": ("Failed", STUCK, lambda: job(started(activeDeadline="1h").pods_run().passes(hours=1))),
    "a spec that cannot work": ("Failed", STUCK, lambda: job(started(data=[stored_data("train"), {"name": "test"}]))),
}


def deployment(world: World, behaviour: Behaviour | None = None, ratio: float | None = None) -> Object:
    """After all that its pods do by themselves, and an edit to that ratio where one is given."""
    if behaviour is not None:
        world.behaviour = behaviour
    if ratio is not None:
        world.edit(DIGITS, with_ratio(ratio))
    world.run(DIGITS)
    return world.objects[DIGITS]


def updated_but_unseen() -> Object:
    world = served()
    world.edit(DIGITS, with_ratio(0.25))
    return world.objects[DIGITS]


def not_getting_ready() -> Object:
    world = world_with()
    world.gets_ready = lambda _: False
    return deployment(world)


def without_replicas() -> Object:
    return deployment(world_with(serving={"replicas": 0}))


def scaled_to_none() -> Object:
    world = served()
    world.edit(DIGITS, lambda spec: spec.update(serving={"replicas": 0}))
    return deployment(world)


DEPLOYMENT: dict[str, tuple[str | None, Verdicts, State]] = {
    "just made": (None, UNDER_WAY, model_deployment),
    "waits for its job": ("Pending", UNDER_WAY, lambda: deployment(world_with(without=("TrainingJob",)))),
    "waits for a plugin": ("Pending", UNDER_WAY, lambda: deployment(world_with(without=("CompressionPlugin",)))),
    "compresses": ("Compressing", UNDER_WAY, lambda: deployment(world_with(), until("prune-structured"))),
    "is compared": ("Evaluating", UNDER_WAY, lambda: deployment(world_with(), until("compare"))),
    "is packed": ("RollingOut", UNDER_WAY, lambda: deployment(world_with(), until("package"))),
    "its replicas start": ("RollingOut", UNDER_WAY, not_getting_ready),
    "serves": ("Ready", DONE, lambda: deployment(served())),
    "serves, and an update was applied": ("Ready", UNDER_WAY, updated_but_unseen),
    "serves, and an update compresses": (
        "Compressing",
        UNDER_WAY,
        lambda: deployment(served(), until("prune-structured"), ratio=0.25),
    ),
    "serves, and an update is refused": ("Degraded", STUCK, lambda: deployment(served(), counting(60), ratio=0.25)),
    "serves, and an update fails": ("Degraded", STUCK, lambda: deployment(served(), raising("compare"), ratio=0.25)),
    "refused, and nothing serves": ("Failed", STUCK, lambda: deployment(world_with(), counting(60))),
    "its job has failed": ("Failed", STUCK, lambda: deployment(world_with(job(started(restarts={"max": 0}).fails())))),
    "served, and is scaled to none": ("Ready", DONE, scaled_to_none),
    "evaluated, and no replicas are wanted": ("RollingOut", AT_REST, without_replicas),
}


def a_store(obj: Object, *seen: Object, report: Object | None = None) -> Object:
    """An ArtifactStore as its planner finds it; report: of the pod that tries it."""
    key = Key(ARTIFACT_STORE, NAMESPACE, "default")
    world = World(plan_store, {**obj, "status": {"observedGeneration": -1}}, *seen)
    world.behaviour = lambda *_: report
    world.settle(key)
    world.step()
    world.settle(key)
    return world.objects[key]


REFUSED = failed("there is no bucket", exception="StoreError", rank=None)
AWAY = failed("no answer", exception="StoreAway", rank=None)

STORE: dict[str, tuple[str | None, Verdicts, State]] = {
    "just made": (None, UNDER_WAY, lambda: {**store(), "status": {"observedGeneration": -1}}),
    "waits for its claim": ("Pending", UNDER_WAY, lambda: a_store(store())),
    "on a claim": ("Ready", DONE, lambda: a_store(store(), claim())),
    "on a claim that is not shared": ("Failed", STUCK, lambda: a_store(store(), claim(modes=("ReadWriteOnce",)))),
    "its bucket is tried": ("Pending", UNDER_WAY, lambda: a_store(bucket_store())),
    "its bucket has answered": ("Ready", DONE, lambda: a_store(bucket_store(), report=succeeded())),
    "its bucket is away": ("Pending", UNDER_WAY, lambda: a_store(bucket_store(), report=AWAY)),
    "its bucket refuses": ("Failed", STUCK, lambda: a_store(bucket_store(), report=REFUSED)),
}
OTHERS: dict[str, tuple[str | None, Verdicts, State]] = {
    "a pool": (None, NO_STATUS, pool),
    "a plugin": (None, NO_STATUS, lambda: plugins()[0]),
}
TABLES = {"TrainingJob": TRAINING, "ModelDeployment": DEPLOYMENT, "ArtifactStore": STORE, "no status": OTHERS}
CASES = [pytest.param(*case, id=f"{kind}, {name}") for kind, table in TABLES.items() for name, case in table.items()]


@pytest.mark.parametrize(("phase", "expected", "state"), CASES)
def test_flux_and_argo_cd_read_a_state_as_the_docs_say(phase: str | None, expected: Verdicts, state: State):
    obj = state()
    assert obj.get("status", {}).get("phase") == phase
    assert verdicts(obj) == expected


@pytest.mark.parametrize(("_phase", "read", "state"), TRAINING.values(), ids=TRAINING)
def test_by_the_examples_expressions_a_suspended_job_keeps_flux_from_waiting(_phase: str, read: Verdicts, state: State):
    assert by_expressions(state()) == ("Current" if read == AT_REST else read.flux)


@pytest.mark.parametrize(
    ("status", "table"),
    [(TrainingJobStatus, TRAINING), (ModelDeploymentStatus, DEPLOYMENT), (ArtifactStoreStatus, STORE)],
)
def test_every_phase_is_among_the_states(status, table):
    (phases, _none) = get_args(status.model_fields["phase"].annotation)
    assert {phase for phase, _, _ in table.values() if phase} == set(get_args(phases))


def test_argo_cd_has_a_health_check_for_every_kind_that_has_a_status():
    crds = [yaml.safe_load(path.read_text())["spec"] for path in (ROOT / "crds").glob("*.yaml")]
    with_status = [crd for crd in crds if "status" in crd["versions"][0].get("subresources", {})]
    assert {f"{crd['group']}_{crd['names']['kind']}" for crd in with_status} == set(health_checks())
