"""Laws of the ModelDeployment planner, over random edits, failures, crashes and changes of the world."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.api.kinds import CONTROLLER_REVISION, DEPLOYMENT, JOB, SERVICE, STEP, Key, Object, key_of
from slipway.api.modeldeployment import ModelDeploymentStatus
from slipway.plan.deployment import plan_deployment
from slipway.plan.observation import controller_uid
from slipway.plan.owner import Owner
from slipway.plan.steps.request import job_prefix
from slipway.plan.tasks import job_name
from slipway.reconcile.drift import in_sync
from support.builders import (
    NAMESPACE,
    PRUNE,
    QUANTIZE,
    SETTINGS,
    export_plugin,
    failed,
    model_deployment,
    plugins,
    prune_plugin,
    quantize_plugin,
    resource,
    store,
    trained,
)
from support.deployments import DIGITS, counting, service_target
from support.full_objects import pod_settings
from support.restricted import breaches
from support.world import World, does_its_work

FEW = settings(max_examples=12, deadline=None)


class WatchedWorld(World):
    """A world that holds every write to the laws, at the moment it is made."""

    def __init__(self, *objects: Object) -> None:
        super().__init__(plan_deployment, *objects)
        self.target: str | None = None
        self.checks.append(self.check_traffic)

    def _log(self, verb: str, obj: Object) -> None:
        super()._log(verb, obj)
        if (verb, obj["kind"]) == ("create", "Job"):
            self.check_recorded(obj)
        if verb in ("create", "apply") and (template := obj.get("spec", obj.get("data", {})).get("template")):
            assert breaches(template["spec"]) == []
        if verb == "status":
            assert len(json.dumps(obj)) < 500_000

    def check_recorded(self, job: Object) -> None:
        """A Job is created for a Step alone, and another try only after it was written down."""
        step = self.objects[Key(STEP, NAMESPACE, job["metadata"]["labels"]["slipway.dev/step"])]
        assert controller_uid(job) == step["metadata"]["uid"]
        run = step.get("status", {}).get("run")
        first = job_name(job_prefix(Owner.of(step)), 1)
        wanted = {run["job"], f"{run['job']}-q{run.get('recoveries', 0)}"} if run else {first}
        assert job["metadata"]["name"] in wanted

    def check_traffic(self) -> None:
        """The Service moves only to a revision that is ready and has passed its gate."""
        status = self.status(DIGITS)
        ModelDeploymentStatus.model_validate(status)
        target = service_target(self)
        if target is None or target == self.target:
            return
        self.target = target
        assert target == status["serving"]
        revision = next(one for one in status["revisions"] if one["name"] == target)
        live = self.get(DEPLOYMENT, NAMESPACE, target)
        assert live is not None
        assert live["status"]["readyReplicas"] >= live["spec"]["replicas"] >= 1
        if "evaluation" in self.objects[DIGITS]["spec"]:
            assert revision["gate"]["passed"]

    def settle(self, key: Key, crash_after: int | None = None) -> None:
        super().settle(key, crash_after)
        if crash_after is None:
            self.check_rest()

    def check_rest(self) -> None:
        """Where nothing changes nothing is planned, what serves has its pods, and nothing lies about unrecorded."""
        plan = plan_deployment(self.objects[DIGITS], self.observation())
        status = self.status(DIGITS)
        assert (plan.create, plan.delete, plan.events) == ((), (), ())
        assert plan.status == status
        assert all(in_sync(self.objects[key_of(obj)], obj) for obj in plan.apply)
        target = service_target(self)
        replicas = self.objects[DIGITS]["spec"].get("serving", {}).get("replicas", 1)
        if target is not None:
            assert self.get(DEPLOYMENT, NAMESPACE, target)["spec"]["replicas"] == replicas
        revisions = {one["name"] for one in status["revisions"]}
        steps = {obj["metadata"]["uid"] for key, obj in self.objects.items() if key.kind == STEP}
        for key in self.objects:
            if key.kind in (DEPLOYMENT, CONTROLLER_REVISION):
                assert key.name in revisions
            if key.kind == JOB:
                assert controller_uid(self.objects[key]) in steps


def fresh(**spec: object) -> WatchedWorld:
    return WatchedWorld(model_deployment(**spec), trained(), store(), *plugins())


@dataclass(frozen=True)
class Act:
    """Something that happens, named for hypothesis' reports."""

    name: str
    do: Callable[[World], None]

    def __repr__(self) -> str:
        return self.name


def edit(name: str, change: Callable[[Object], None]) -> Act:
    return Act(f"edit {name}", lambda world: world.edit(DIGITS, change))


def steps(*wanted: Object) -> Callable[[Object], None]:
    return lambda spec: spec.update(compression={"steps": list(wanted)})


def gate(**wanted: float) -> Callable[[Object], None]:
    return lambda spec: spec["evaluation"].update(gate=wanted)


def held_out(digit: str) -> Callable[[Object], None]:
    data = {"stored": {"uri": f"store:///held-{digit}", "digest": "sha256:" + digit * 64}}
    return lambda spec: spec["evaluation"].update(data=data)


def scale(replicas: int) -> Callable[[Object], None]:
    return lambda spec: spec.setdefault("serving", {}).update(replicas=replicas)


def add_to_pods(spec: Object) -> None:
    spec.setdefault("serving", {}).update(podTemplate=pod_settings())


def behave(name: str, behaviour: Callable[[Object, Object], Object | None]) -> Act:
    return Act(f"tasks {name}", lambda world: setattr(world, "behaviour", behaviour))


def fails_at(part: str) -> Callable[[Object, Object], Object | None]:
    def behaviour(task: Object, job: Object) -> Object | None:
        if part in (task["task"], task.get("entryPoint")):
            return failed("boom", rank=None)
        return does_its_work(task, job)

    return behaviour


def pause(task: Object, job: Object) -> None:
    """Nothing ends."""


def preempted(world: World) -> None:
    for key, obj in list(world.objects.items()):
        if key.kind == JOB and not obj.get("status", {}).get("conditions"):
            ended = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "preempted"}
            world.set_status(key, {"conditions": [ended]})


def vanish(kind: object) -> Callable[[World], None]:
    """A user deletes the first object of the kind that the deployment owns."""

    def act(world: World) -> None:
        own = [key for key, obj in world.objects.items() if key.kind == kind and obj["metadata"].get("ownerReferences")]
        if own:
            world.remove(min(own, key=lambda key: key.name))

    return act


def toggle(obj: Object) -> Callable[[World], None]:
    def act(world: World) -> None:
        key = key_of(obj)
        if key in world.objects:
            world.remove(key)
        else:
            world.put(obj)

    return act


def readiness(world: World, up: bool) -> None:
    world.gets_ready = lambda _: up


def later(seconds: int) -> Callable[[World], None]:
    def act(world: World) -> None:
        world.now += timedelta(seconds=seconds)

    return act


def upgrade(world: World) -> None:
    world.settings = replace(SETTINGS, runtime_image="runtime:2", serving_image="triton:2")


EDITS = (
    edit("ratio 0.3", steps({**PRUNE, "params": {"ratio": 0.3}})),
    edit("ratio 0.6 and int8", steps({**PRUNE, "params": {"ratio": 0.6}}, QUANTIZE)),
    edit("no steps", steps()),
    edit("bad ratio", steps({**PRUNE, "params": {"ratio": 6}})),
    edit("bad order", steps(QUANTIZE, PRUNE)),
    edit("strict gate", gate(maxDrop=0.001)),
    edit("loose gate", gate(maxDrop=0.5)),
    edit("other held-out data", held_out("d")),
    edit("two replicas", scale(2)),
    edit("no replicas", scale(0)),
    edit("one replica", scale(1)),
    edit("pods with all that a user may add", add_to_pods),
)
WORLD = (
    behave("work", does_its_work),
    behave("pause", pause),
    behave("fail at pruning", fails_at("prune-structured")),
    behave("fail at comparing", fails_at("compare")),
    behave("lose 40 of 540", counting(lost=40)),
    Act("pods are preempted", preempted),
    Act("a Job is deleted", vanish(JOB)),
    Act("a Deployment is deleted", vanish(DEPLOYMENT)),
    Act("a ControllerRevision is deleted", vanish(CONTROLLER_REVISION)),
    Act("the Service is deleted", vanish(SERVICE)),
    Act("another user's Service", toggle(resource(SERVICE, "digits-other"))),
    Act("toggle prune-structured", toggle(prune_plugin())),
    Act("toggle the store", toggle(store())),
    Act("toggle the job", toggle(trained())),
    Act("replicas get ready", lambda world: readiness(world, True)),
    Act("replicas do not get ready", lambda world: readiness(world, False)),
    Act("16 seconds", later(16)),
    Act("upgrade", upgrade),
)
MOVES = Act("the cluster moves", lambda world: world.step() and None)
MOMENTS = st.tuples(
    st.sampled_from((*EDITS, *WORLD, MOVES, MOVES, MOVES)), st.none() | st.integers(0, 6), st.booleans()
)


def play(world: World, moments: list[tuple[Act, int | None, bool]]) -> None:
    """Each act, then the planner, which may crash after some writes; then the cluster may move."""
    for act, crash_after, moves in moments:
        act.do(world)
        world.settle(DIGITS, crash_after)
        if moves:
            world.step()
            world.settle(DIGITS)


def all_is_well(world: World) -> None:
    """What the user wants is possible, every plugin and pod works, and time passes."""
    world.behaviour = does_its_work
    readiness(world, True)
    for obj in (trained(), store(), prune_plugin(), quantize_plugin(), export_plugin()):
        if key_of(obj) not in world.objects:
            world.put(obj)
    wanted = model_deployment(steps=({**PRUNE, "params": {"ratio": 0.2}},))["spec"]
    world.edit(DIGITS, lambda spec: (spec.clear(), spec.update(wanted)))
    world.run(DIGITS, rounds=80)


@FEW
@given(st.lists(MOMENTS, max_size=10))
def test_whatever_happens_every_write_keeps_the_laws_and_in_the_end_the_spec_is_served(moments):
    world = fresh()
    play(world, moments)
    all_is_well(world)
    status = world.status(DIGITS)
    assert status["phase"] == "Ready"
    assert status["serving"] == status["candidate"] == service_target(world)
    alone = WatchedWorld(world.objects[DIGITS] | {"status": {}}, trained(), store(), *plugins())
    alone.run(DIGITS)
    assert alone.status(DIGITS)["serving"] == status["serving"]


@FEW
@given(st.lists(st.sampled_from(EDITS[:3]), min_size=1, max_size=4), st.data())
def test_a_spec_that_comes_back_ends_as_it_was_and_runs_no_step_again(others, data):
    world = fresh()
    world.run(DIGITS)
    first, original = world.status(DIGITS)["serving"], world.objects[DIGITS]["spec"]
    template = world.get(DEPLOYMENT, NAMESPACE, first)["spec"]["template"]
    for act in others[-2:]:  # two retired revisions are kept
        act.do(world)
        world.settle(DIGITS)
        for _ in range(data.draw(st.integers(0, 12))):
            world.step()
            world.settle(DIGITS)
        world.now += timedelta(minutes=1)
    world.edit(DIGITS, lambda spec: (spec.clear(), spec.update(original)))
    jobs = len(world.jobs())
    world.run(DIGITS)
    assert world.jobs()[jobs:] == []
    assert world.status(DIGITS)["serving"] == service_target(world) == first
    assert world.get(DEPLOYMENT, NAMESPACE, first)["spec"]["template"] == template
    assert world.status(DIGITS)["phase"] == "Ready"


@FEW
@given(st.integers(0, 40), st.integers(0, 40))
def test_a_crash_after_any_write_runs_no_task_twice_and_takes_over_once(first, second):
    calm, shaken = fresh(), fresh()
    calm.run(DIGITS)
    for crash_after in (first, second):
        shaken.settle(DIGITS, crash_after % 7)
        for _ in range(crash_after // 7):
            shaken.step()
            shaken.settle(DIGITS, crash_after % 5)
    shaken.run(DIGITS)
    assert sorted(shaken.jobs()) == sorted(calm.jobs())
    assert shaken.status(DIGITS)["serving"] == calm.status(DIGITS)["serving"]
    assert [event for event in shaken.events if event[1] == "TookOver"] == [
        event for event in calm.events if event[1] == "TookOver"
    ]
    digests = [
        [(one["digest"], one.get("artifact", {}).get("digest")) for one in world.steps()] for world in (calm, shaken)
    ]
    assert sorted(digests[0], key=str) == sorted(digests[1], key=str)


@FEW
@given(st.lists(st.sampled_from((*WORLD[:14], MOVES)), max_size=8), st.sampled_from(EDITS[:3]))
def test_one_edit_takes_over_at_most_once(acts, act):
    world = fresh()
    world.run(DIGITS)
    before = len([event for event in world.events if event[1] == "TookOver"])
    act.do(world)
    for moment in acts:
        moment.do(world)
        world.settle(DIGITS)
        world.step()
        world.settle(DIGITS)
    assert len([event for event in world.events if event[1] == "TookOver"]) <= before + 1


@FEW
@given(st.integers(19, 200), st.lists(st.sampled_from((MOVES, *WORLD[5:10], *WORLD[16:])), max_size=6))
def test_a_candidate_that_the_gate_refuses_never_has_pods_or_traffic(lost, acts):
    world = fresh()
    world.run(DIGITS)
    good = world.status(DIGITS)["serving"]
    world.behaviour = counting(lost=lost)
    EDITS[1].do(world)
    for act in acts:
        act.do(world)
        world.settle(DIGITS)
    world.run(DIGITS)
    refused = world.status(DIGITS)["candidate"]
    assert refused != good
    assert world.get(DEPLOYMENT, NAMESPACE, refused) is None
    assert world.status(DIGITS)["serving"] == service_target(world) == good
    assert world.condition(DIGITS, "Ready")[1] == "GateRefused"
