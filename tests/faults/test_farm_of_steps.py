"""Hundreds of Steps in one namespace, two owners that share half of them, and an operator that keeps dying."""

from __future__ import annotations

from collections import Counter
from random import Random

from slipway.api.artifacts import ArtifactRef
from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.errors import ClusterError
from slipway.api.kinds import JOB, MODEL_DEPLOYMENT, STEP, Key, Object
from slipway.api.tasks import CompressTask
from slipway.cluster.port import Write
from slipway.plan.observation import Observation
from slipway.plan.owner import Owner
from slipway.plan.plan import Plan
from slipway.plan.steps.request import StepRequest, Store
from slipway.plan.steps.tracking import StepSet
from slipway.reconcile.planners import PLANNERS
from support.builders import NAMESPACE, artifact, claim, model_deployment, store
from support.calls import Crash
from support.hostile import HostileWorld
from support.seed import SAMPLE_EVERY

STEPS = 501 if SAMPLE_EVERY == 1 else 99
"""All in `make soak`; the time grows with the square, since each owner looks at all of its Steps."""
WANTED = {"one": range(STEPS * 2 // 3), "two": range(STEPS // 3, STEPS)}
MODEL = ArtifactRef.model_validate(artifact())
STORE = Store("default", ArtifactStoreSpec.model_validate(store()["spec"]))
CRASHES = 20


def request(number: int) -> StepRequest:
    task = CompressTask(entry_point="prune-structured", version="1.0.0", params={"ratio": number / 1000}, model=MODEL)
    return StepRequest(f"step-{number}", f"step {number}", task, "example.test/plugins:1", STORE)


def wants_many(obj: Object, observation: Observation) -> Plan:
    """A planner that wants nothing but Steps."""
    wanted = StepSet(Owner.of(obj), observation.view, observation.now)
    for number in WANTED[obj["metadata"]["name"]]:
        wanted.follow(request(number))
    return wanted.plan


class Dies:
    """A rule of the API server by which the operator dies before or after some of its writes."""

    def __init__(self, random: Random, share: float) -> None:
        self.left, self.ran = CRASHES, Counter[str]()
        self._random, self._share = random, share

    def __call__(self, write: Write) -> ClusterError | None:
        if self.left and self._random.random() < self._share:
            self.left -= 1
            raise Crash
        return None


async def farm() -> HostileWorld:
    objects = [model_deployment(name) for name in WANTED]
    return await HostileWorld(*objects, store(), claim(), planners={**PLANNERS, MODEL_DEPLOYMENT: wants_many}).start()


async def lives(world: HostileWorld, rounds: int) -> Counter[str]:
    """Play `rounds` rounds with crashes, in which some Jobs end. Returns how many Jobs each digest had."""
    made: dict[str, str] = {}
    for _ in range(rounds):
        try:
            await world.passes(6)
        except Crash:
            await restarted(world)
        steps = {step["metadata"]["uid"]: step["spec"]["digest"] for step in await world.twin.list(STEP)}
        for job in await world.twin.list(JOB):
            made[job["metadata"]["uid"]] = steps[job["metadata"]["ownerReferences"][0]["uid"]]
        await world.moves()
    return Counter(made.values())


async def restarted(world: HostileWorld) -> None:
    while True:
        try:
            await world.restart()
        except Crash:
            continue
        return


async def ended(world: HostileWorld, owner: str) -> set[str]:
    """Digests of the Steps of an owner that have succeeded."""
    steps = await world.twin.list(STEP, NAMESPACE, {"slipway.dev/model-deployment": owner})
    return {step["spec"]["digest"] for step in steps if step.get("status", {}).get("phase") == "Succeeded"}


async def test_what_two_owners_want_runs_once_although_the_operator_dies_twenty_times(seed: int) -> None:
    world = await farm()
    dies = Dies(Random(seed), 10 / STEPS)
    world.api.rules.append(dies)
    world.api.lost.append(dies)
    ran = await lives(world, 40)
    assert dies.left == 0
    for owner, numbers in WANTED.items():
        assert await ended(world, owner) == {request(number).digest for number in numbers}
    assert len(ran) == STEPS
    assert set(ran.values()) == {1}


async def test_what_is_left_of_two_owners_loses_nothing_when_the_other_one_goes(seed: int) -> None:
    world = await farm()
    dies = Dies(Random(seed), 10 / STEPS)
    world.api.rules.append(dies)
    world.api.lost.append(dies)
    before = await lives(world, 2)
    world.twin.remove(Key(MODEL_DEPLOYMENT, NAMESPACE, "one"))
    after = await lives(world, 40)
    assert await ended(world, "two") == {request(number).digest for number in WANTED["two"]}
    assert max((before + after).values()) <= 2
    assert await world.twin.list(STEP, NAMESPACE, {"slipway.dev/model-deployment": "one"}) == []
