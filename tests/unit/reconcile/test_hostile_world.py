"""The whole loop in a hostile world: refusals, foreign edits and finalizers stop what they concern, nothing else."""

from __future__ import annotations

import pytest

from slipway.api.errors import ClusterError, Conflict, Forbidden
from slipway.api.kinds import (
    CONTROLLER_REVISION,
    DEPLOYMENT,
    EVENT,
    JOB,
    MODEL_DEPLOYMENT,
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    Key,
    Kind,
    Object,
    key_of,
)
from slipway.cluster.port import Write
from slipway.reconcile.planners import PLANNERS
from support.builders import NAMESPACE, PRUNE, claim, model_deployment, plugins, store, trained, training_job
from support.histories import Mutating
from support.hostile import TRAIN, HostileWorld, Rule, quota, webhook
from support.loop_on_twin import OperatorOnTwin

HOUR = 3600.0
STEPS = [{"plugin": "prune-structured", "params": {"ratio": 0.3}}]


async def serving(**spec: object) -> HostileWorld:
    """A world in which the first revision serves."""
    world = await HostileWorld().start()
    if spec:
        world.edits(**spec)
    await world.lives()
    assert (await world.status())["phase"] == "Ready"
    return world


async def training(**spec: object) -> HostileWorld:
    return await HostileWorld(training_job(**spec), store(), claim()).start()


# --- Refusals --------------------------------------------------------------------------------------------------------


async def test_a_refused_job_hides_no_outage_of_what_serves() -> None:
    world = await serving()
    world.api.rules.append(quota("create", "Job"))
    world.edits(compression={"steps": STEPS})
    await world.passes(60)
    assert await world.available()
    world.pods_live = False
    await world.counts()
    await world.passes(0)
    status = await world.status()
    assert (status["readyReplicas"], await world.available()) == (0, False)
    assert status["observedGeneration"] == 2
    state, reason, message = await world.condition("ChildRefused")
    assert (state, reason) == ("True", "Refused")
    assert message.startswith("create Job digits-")
    assert "exceeded quota: few" in message
    assert (await world.condition("Reconciling"))[:2] == ("True", "ChildRefused")
    assert (await world.condition("Ready"))[2] == message


async def test_a_training_that_the_api_server_refuses_says_so_until_it_is_taken() -> None:
    world = await training()
    world.api.rules.append(quota("create", "Job"))
    await world.passes(2 * HOUR)
    assert (await world.status(TRAIN))["phase"] == "Pending"
    assert "exceeded quota: few" in (await world.condition("Ready", TRAIN))[2]
    assert 20 < world.api.refused < 60
    world.api.rules.clear()
    await world.passes(301)
    assert (await world.condition("ChildRefused", TRAIN))[:2] == ("False", "NothingRefused")
    assert len(await world.twin.list(JOB)) == 1


VERBS = [
    (verb, kind)
    for verb, kinds in {
        "create": ("Job", "ControllerRevision"),
        "apply": ("Service", "Deployment", "PodDisruptionBudget"),
        "delete": ("Step", "Deployment", "ControllerRevision"),
    }.items()
    for kind in kinds
]


@pytest.mark.parametrize(("verb", "kind"), VERBS, ids=[f"{verb} {kind}" for verb, kind in VERBS])
@pytest.mark.parametrize("refuse", [quota, webhook], ids=["quota", "webhook"])
async def test_whatever_is_refused_is_named_and_available_stays_true_to_the_pods(
    refuse: Rule, verb: str, kind: str
) -> None:
    world = await serving()
    world.api.rules.append(refuse(verb, kind))
    for ratio in (0.3, 0.4, 0.6, 0.7):  # four more revisions, so that some are deleted
        world.edits(compression={"steps": [{"plugin": "prune-structured", "params": {"ratio": ratio}}]})
        await world.lives(3)
        assert await world.available() == await world.serves()
    world.edits(serving={"replicas": 2})
    if kind in ("Service", "PodDisruptionBudget"):
        for obj in await world.twin.list(next(one for one in _KINDS if one.kind == kind)):
            world.twin.remove(key_of(obj))
    await world.passes(1)
    assert world.api.refused > 0
    assert (await world.condition("ChildRefused"))[0] == "True"
    assert f"{verb} {kind} digits" in (await world.condition("ChildRefused"))[2]
    for live in (False, True):
        world.pods_live = live
        await world.counts()
        await world.passes(0)
        assert await world.available() == await world.serves() == live
    world.api.rules.clear()
    await world.lives(6)
    assert (await world.condition("ChildRefused"))[0] == "False"
    assert (await world.status())["phase"] == "Ready"
    assert (await world.status())["readyReplicas"] == 2


_KINDS = (SERVICE, DEPLOYMENT, POD_DISRUPTION_BUDGET, JOB, CONTROLLER_REVISION)


async def test_the_numbers_of_a_refusal_cause_no_writes() -> None:
    world = await training()
    world.api.rules.append(webhook("create", "Job"))
    await world.passes(60)
    before = world.status_writes()
    await world.passes(6 * HOUR)
    assert world.api.refused > 60
    assert world.status_writes() == before


async def test_a_restart_of_the_operator_neither_forgets_nor_flaps() -> None:
    world = await training()
    world.api.rules.append(quota("create", "Job"))
    await world.passes(HOUR)
    before, writes = await world.status(TRAIN), world.status_writes()
    await world.restart()
    await world.passes(HOUR)
    assert (await world.status(TRAIN), world.status_writes()) == (before, writes)


async def test_a_refused_write_waits_for_its_back_off_whatever_else_happens() -> None:
    world = await serving()
    world.api.rules.append(quota("create", "Job"))
    world.edits(compression={"steps": STEPS})
    await world.passes(600)
    before = world.api.refused
    for _ in range(50):  # pods come and go, and wake the resource
        world.pods_live = not world.pods_live
        await world.counts()
        await world.passes(0)
        assert await world.available() == await world.serves()
    assert world.api.refused == before


async def test_what_the_user_corrects_is_tried_at_once() -> None:
    world = await training()
    world.api.rules.append(
        lambda write: Forbidden(f"create jobs a/{write.name}: 403 no") if write.kind == "Job" else None
    )
    await world.passes(HOUR)
    before = world.api.refused
    world.edits(TRAIN, nodes=2)
    await world.passes(0)
    assert world.api.refused > before


async def test_a_job_is_not_made_without_its_network_policy() -> None:
    world = await training(nodes=2)
    world.api.rules.append(webhook("apply", "NetworkPolicy"))
    await world.passes(HOUR)
    assert await world.twin.list(JOB) == []
    assert "apply NetworkPolicy digits" in (await world.condition("Ready", TRAIN))[2]
    world.api.rules.clear()
    await world.passes(301)
    assert len(await world.twin.list(JOB)) == 1


async def test_a_step_that_waits_for_another_ones_goes_on_as_soon_as_that_is_deleted() -> None:
    both = model_deployment(steps=(PRUNE,)), model_deployment("other", steps=(PRUNE,))
    world = await HostileWorld(*both, trained(), store(), claim(), *plugins()).start()
    await world.passes(10)
    works, waits = "digits", "other"
    if await jobs_of(world, waits, "prepare-evaluation"):  # which of two that were made at once is looked at first
        works, waits = waits, works
    assert len(await jobs_of(world, works, "prepare-evaluation")) == 1
    assert await jobs_of(world, waits, "prepare-evaluation") == []
    world.edits(Key(MODEL_DEPLOYMENT, NAMESPACE, works), compression={}, evaluation=None)
    await world.passes(1)
    assert await jobs_of(world, works, "prepare-evaluation") == []
    assert len(await jobs_of(world, waits, "prepare-evaluation")) == 1


async def jobs_of(world: HostileWorld, owner: str, role: str) -> list[Object]:
    labels = {"slipway.dev/model-deployment": owner, "slipway.dev/role": role}
    return list(await world.twin.list(JOB, NAMESPACE, labels))


def down(write: Write) -> ClusterError | None:
    if write.kind != "Job":
        return None
    return ClusterError(f"create jobs {NAMESPACE}/{write.name}: 500 failed calling webhook: connection refused")


async def test_an_api_server_that_fails_is_reported_when_it_lasts() -> None:
    world = await training()
    world.api.rules.append(down)
    await world.passes(30)
    assert (await world.condition("ChildRefused", TRAIN))[0] == ""
    await world.passes(120)
    assert (await world.condition("ChildRefused", TRAIN))[:2] == ("True", "ApiServerFails")
    assert "failed calling webhook" in (await world.condition("Ready", TRAIN))[2]
    assert [one for one in await world.twin.list(EVENT) if one["reason"] == "Refused"] == []


def unanswered(write: Write) -> ClusterError | None:
    return (
        ClusterError(f"{write.verb} {write.name}: no answer within 30 s")
        if write.kind == "PodDisruptionBudget"
        else None
    )


async def test_what_was_refused_and_is_there_all_the_same_is_reported_no_longer() -> None:
    world = await serving()
    world.api.rules.append(quota("apply", "PodDisruptionBudget"))
    (budget,) = await world.twin.list(POD_DISRUPTION_BUDGET)
    world.twin.remove(key_of(budget))
    await world.passes(60)
    assert (await world.condition("ChildRefused"))[0] == "True"
    world.api.rules.clear()
    world.api.lost.append(unanswered)
    await world.passes(301)
    assert await world.twin.list(POD_DISRUPTION_BUDGET)
    assert (await world.condition("ChildRefused"))[0] == "False"


async def test_an_api_server_that_is_away_keeps_no_status_from_being_written() -> None:
    world = await serving()
    world.api.rules.append(down)
    world.edits(compression={"steps": STEPS})
    await world.passes(5)
    world.pods_live = False
    await world.counts()
    await world.passes(0)
    assert not await world.available()


@pytest.mark.parametrize(("verb", "kind"), [("create", "Job"), ("apply", "Service")])
async def test_a_write_that_always_conflicts_keeps_no_status_from_being_written(verb: str, kind: str) -> None:
    world = await serving()
    said = f"{verb} {kind} x: 409 Operation cannot be fulfilled on resourcequotas: the object has been modified"
    world.api.rules.append(lambda write: Conflict(said) if (write.verb, write.kind) == (verb, kind) else None)
    world.edits(compression={"steps": STEPS})
    world.twin.remove(Key(SERVICE, NAMESPACE, "digits"))
    world.pods_live = False
    await world.counts()
    await world.passes(1)
    assert not await world.available()
    assert (await world.status())["observedGeneration"] == 2
    await world.passes(120)
    assert (await world.condition("ChildRefused"))[:2] == ("True", "ApiServerFails")
    assert world.api.refused < 60
    world.api.rules.clear()
    world.pods_live = True
    await world.passes(301)
    await world.lives(5)
    assert (await world.status())["phase"] == "Ready"


async def test_a_status_that_may_not_be_written_is_tried_with_back_off_alone() -> None:
    world = await training()
    world.api.rules.append(
        lambda write: Forbidden(f"patch the status of trainingjobs {write.name}: 403 no") if _is_status(write) else None
    )
    await world.passes(HOUR)
    tries = sum(_is_status(write) and write.kind == "TrainingJob" for write in world.api.writes)
    assert 5 < tries < 30
    events = [one for one in await world.twin.list(EVENT) if one["regarding"]["kind"] == "TrainingJob"]
    assert [one["reason"] for one in events] == ["Refused"]
    world.api.rules.clear()
    await world.passes(301)
    assert len(await world.twin.list(JOB)) == 1


def _is_status(write: Write) -> bool:
    return write.verb == "patch_status"


async def test_what_serves_is_kept_up_although_no_status_can_be_written() -> None:
    world = await serving()
    world.api.rules.append(
        lambda write: Forbidden(f"patch the status of md {write.name}: 403 no") if _is_status(write) else None
    )
    world.twin.remove(Key(SERVICE, NAMESPACE, "digits"))
    world.edits(serving={"replicas": 3})
    await world.passes(1)
    assert await world.traffic() == (await world.status())["serving"]
    (live,) = [one for one in await world.twin.list(DEPLOYMENT) if one["metadata"]["name"] == await world.traffic()]
    assert live["spec"]["replicas"] == 3


# --- Foreign edits ---------------------------------------------------------------------------------------------------

SERVED_BY = (DEPLOYMENT, CONTROLLER_REVISION, POD_DISRUPTION_BUDGET, SERVICE)


async def name_of(world: HostileWorld, kind: Kind) -> str:
    (found,) = [
        one
        for one in await world.twin.list(kind)
        if kind not in (DEPLOYMENT, CONTROLLER_REVISION) or one["metadata"]["name"] == (await world.status())["serving"]
    ]
    return str(found["metadata"]["name"])


@pytest.mark.parametrize("kind", SERVED_BY, ids=str)
async def test_a_child_that_lost_its_owner_is_a_named_conflict_and_all_else_goes_on(
    kind: Kind, capsys: pytest.CaptureFixture[str]
) -> None:
    world = await serving()
    name = await name_of(world, kind)
    owners = await world.orphans(kind, name)
    world.edits(serving={"replicas": 3})
    await world.lives(2)
    assert (await world.condition("Stalled"))[:2] == ("True", "NameConflict")
    message = (await world.condition("Stalled"))[2]
    assert f"{kind} {name}" in message
    assert "ownerReference" in message
    assert await world.available()
    status = await world.status()
    assert (status["phase"], status["observedGeneration"]) == ("Degraded", 2)
    assert status["readyReplicas"] == (1 if kind == DEPLOYMENT else 3)
    world.pods_live = False
    await world.counts()
    await world.passes(0)
    assert not await world.available()
    world.pods_live = True
    world.gives_back(kind, name, owners)
    await world.lives(2)
    assert (await world.status())["phase"] == "Ready"
    assert (await world.status())["readyReplicas"] == 3
    output = capsys.readouterr()
    assert "defect" not in output.out + output.err


@pytest.mark.parametrize("kind", SERVED_BY, ids=str)
async def test_a_foreign_object_that_goes_is_replaced_within_a_minute(kind: Kind) -> None:
    world = await serving()
    name = await name_of(world, kind)
    await world.orphans(kind, name)
    await world.passes(1)
    world.twin.remove(Key(kind, NAMESPACE, name))
    await world.passes(60)
    await world.lives(1)
    assert (await world.status())["phase"] == "Ready"
    assert await world.serves()


@pytest.mark.parametrize("kind", [JOB, SERVICE, NETWORK_POLICY], ids=str)
async def test_a_training_whose_child_lost_its_owner_is_followed_to_its_end(kind: Kind) -> None:
    world = await training(nodes=2)
    await world.passes(1)
    (child,) = await world.twin.list(kind)
    name = child["metadata"]["name"]
    await world.orphans(kind, name)
    await world.passes(1)
    assert (await world.condition("Stalled", TRAIN))[:2] == ("True", "NameConflict")
    assert f"{kind} {name}" in (await world.condition("Stalled", TRAIN))[2]
    (job,) = await world.twin.list(JOB)
    await world.moves()
    await world.passes(60)
    assert (await world.status(TRAIN))["phase"] == "Succeeded"
    assert [one["metadata"]["uid"] for one in await world.twin.list(JOB)] == [job["metadata"]["uid"]]


async def test_a_training_that_cannot_be_suspended_says_why_and_trains_on() -> None:
    world = await training()
    await world.passes(1)
    (job,) = await world.twin.list(JOB)
    owners = await world.orphans(JOB, job["metadata"]["name"])
    world.edits(TRAIN, suspend=True)
    await world.passes(60)
    assert (await world.condition("Stalled", TRAIN))[1] == "NameConflict"
    world.gives_back(JOB, job["metadata"]["name"], owners)
    await world.passes(60)
    assert (await world.status(TRAIN))["phase"] == "Suspended"
    assert await world.twin.list(JOB) == []


async def test_the_job_of_a_step_that_lost_its_owner_while_it_ran_is_followed_to_its_end() -> None:
    world = await HostileWorld().start()
    await world.passes(1)
    first = (await world.twin.list(JOB))[0]["metadata"]["name"]
    await world.passes(11)
    await world.orphans(JOB, first)
    await world.passes(1)
    assert (await world.condition("Stalled"))[1] == "NameConflict"
    assert f"Job {first}" in (await world.condition("Stalled"))[2]
    await world.lives()
    assert (await world.status())["phase"] == "Ready"


async def test_a_step_goes_on_when_a_job_that_lost_its_owner_before_it_ran_is_deleted() -> None:
    world = await HostileWorld().start()
    await world.passes(1)
    first = (await world.twin.list(JOB))[0]["metadata"]["name"]
    await world.orphans(JOB, first)
    await world.lives()
    assert f"delete Job {first}, or restore its ownerReference" in (await world.condition("Stalled"))[2]
    world.twin.remove(Key(JOB, NAMESPACE, first))
    await world.operator.looks_again()
    await world.lives()
    assert (await world.status())["phase"] == "Ready"


@pytest.mark.parametrize("kind", [JOB, SERVICE], ids=str)
async def test_a_training_waits_for_a_name_that_another_has(kind: Kind) -> None:
    world = await training(nodes=2)
    world.api.rules.append(webhook("create"))
    world.api.rules.append(webhook("apply"))
    await world.passes(1)
    refused = [write for write in world.api.writes if write.kind in (JOB.kind, SERVICE.kind)]
    name = next((write.name for write in refused if write.kind == kind.kind), None)
    name = name or (await world.status(TRAIN))["attempts"][-1]["job"]
    world.twin.add(_foreign(kind, name))
    world.api.rules.clear()
    await world.passes(400)
    assert (await world.condition("Stalled", TRAIN))[1] == "NameConflict"
    assert f"{kind} {name}" in (await world.condition("Stalled", TRAIN))[2]
    world.twin.remove(Key(kind, NAMESPACE, name))
    for unmanaged in world.operator.cache.unmanaged:  # as the next look at it finds; no watch shows it
        world.operator.feed.on_vanished(unmanaged)
    await world.passes(60)
    assert (await world.condition("Stalled", TRAIN))[0] == "False"
    assert len([one for one in await world.twin.list(JOB) if one["metadata"].get("ownerReferences")]) == 1


def _foreign(kind: Kind, name: str) -> Object:
    meta = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, "spec": {}}


# --- What serves, whatever the newest spec is ------------------------------------------------------------------------


def deep() -> Object:
    nested: Object = {}
    for _ in range(40):
        nested = {"a": nested}
    return nested


UNREADABLE = {
    "deep params": {"compression": {"steps": [{"plugin": "prune-structured", "params": deep()}]}},
    "an unknown model source": {"model": {"registry": "mlflow://digits"}},
    "a list for an object": {"compression": ["quantize-int8"]},
    "no model at all": {"model": None},
    "an unreadable store": {"store": {"name": "default"}},
    "an unreadable evaluation": {"evaluation": {"data": "digits"}},
    "an unreadable serving": {"serving": {"replicas": "many"}},
}


@pytest.mark.parametrize("spec", UNREADABLE.values(), ids=list(UNREADABLE))
async def test_what_serves_is_kept_up_whatever_the_newest_spec_is(spec: Object) -> None:
    world = await serving()
    serves = await world.traffic()
    world.edits(**spec)
    world.twin.remove(Key(SERVICE, NAMESPACE, "digits"))
    for budget in await world.twin.list(POD_DISRUPTION_BUDGET):
        world.twin.remove(key_of(budget))
    await world.passes(1)
    assert (await world.condition("Stalled"))[:2] == ("True", "InvalidSpec")
    assert await world.traffic() == serves
    assert len(await world.twin.list(POD_DISRUPTION_BUDGET)) == 1
    world.twin.remove(Key(DEPLOYMENT, NAMESPACE, str(serves)))
    await world.passes(1)
    assert not await world.available()
    await world.lives(1)
    assert await world.available()
    assert (await world.status())["readyReplicas"] == 1
    world.edits(**model_deployment(serving={}, store="default")["spec"])
    await world.lives(2)
    assert (await world.status())["phase"] == "Ready"


async def test_replicas_are_scaled_although_a_step_cannot_be_read() -> None:
    world = await serving(serving={"replicas": 2})
    world.edits(**UNREADABLE["deep params"], serving={"replicas": 3})
    await world.lives(1)
    assert (await world.status())["readyReplicas"] == 3
    world.edits(serving={"replicas": "many"})
    await world.lives(1)
    assert (await world.status())["readyReplicas"] == 3


async def test_a_defect_in_planning_what_comes_next_takes_down_nothing_that_serves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = await serving()

    def broken(*_: object) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr("slipway.plan.deployment.planner.find_source", broken)
    world.twin.remove(Key(SERVICE, NAMESPACE, "digits"))
    await world.passes(1)
    assert (await world.condition("Stalled"))[:2] == ("True", "InternalError")
    assert await world.traffic() == (await world.status())["serving"]
    assert "this is a defect of Slipway" in capsys.readouterr().out
    world.pods_live = False
    await world.counts()
    await world.passes(0)
    assert not await world.available()
    monkeypatch.undo()
    world.pods_live = True
    await world.lives(6)
    assert (await world.status())["phase"] == "Ready"


async def test_what_serves_is_kept_up_without_its_store_its_source_and_its_plugins() -> None:
    world = await serving()
    serves = await world.traffic()
    for one in (store(), claim(), *plugins()):
        key = key_of(one)
        world.twin.remove(key if key.kind.namespaced else Key(key.kind, "", key.name))
    world.twin.remove(TRAIN)
    world.edits(compression={"steps": STEPS})
    world.twin.remove(Key(SERVICE, NAMESPACE, "digits"))
    world.twin.remove(Key(DEPLOYMENT, NAMESPACE, str(serves)))
    await world.lives(2)
    assert await world.traffic() == serves
    assert await world.available()


# --- Finalizers and lists --------------------------------------------------------------------------------------------


def held(obj: Object) -> None:
    obj["metadata"]["finalizers"] = ["example.com/keep"]


async def test_revisions_that_a_finalizer_holds_make_no_list_longer_than_its_schema_allows() -> None:
    world = await serving()
    names = []
    for number in range(12):
        world.edits(compression={"steps": [{"plugin": "prune-structured", "params": {"ratio": 0.2 + number / 100}}]})
        await world.lives(2)
        for live in await world.twin.list(DEPLOYMENT):
            if not live["metadata"].get("finalizers"):
                world.twin.edit(key_of(live), held)
        status = await world.status()
        names = [one["name"] for one in status["revisions"]]
        assert len(names) <= 8
        assert {status["serving"], status["candidate"]} <= set(names)
        assert status["phase"] == "Ready"
    assert len(names) == 8
    for live in await world.twin.list(DEPLOYMENT):
        world.twin.edit(key_of(live), lambda obj: obj["metadata"].update(finalizers=[]))
    await world.lives(2)
    assert len((await world.status())["revisions"]) == len(await world.twin.list(DEPLOYMENT)) <= 4


async def test_takeovers_wait_for_a_service_that_is_refused_and_no_revision_is_lost() -> None:
    world = await serving()
    first = (await world.status())["serving"]
    world.api.rules.append(webhook("apply", "Service"))
    for number in range(10):
        world.edits(compression={"steps": [{"plugin": "prune-structured", "params": {"ratio": 0.2 + number / 100}}]})
        await world.lives(2)
        status = await world.status()
        assert len(status["revisions"]) <= 8
        assert await world.traffic() == first
        assert await world.available() == await world.serves()
    live = {one["metadata"]["name"]: one["spec"]["replicas"] for one in await world.twin.list(DEPLOYMENT)}
    assert live[first] == 1, "it still has the traffic"
    world.api.rules.clear()
    await world.lives(8)
    assert (await world.status())["phase"] == "Ready"
    assert await world.traffic() == (await world.status())["candidate"]


async def test_what_a_webhook_changed_back_is_applied_when_it_no_longer_does() -> None:
    world = HostileWorld()
    world.api = api = Mutating(world.twin)
    world.operator = OperatorOnTwin(world.twin, api, PLANNERS, world.clock)
    await world.start()
    world.edits(serving={"replicas": 2})
    await world.lives()
    api.changed_back.append(DEPLOYMENT)
    for live in await world.twin.list(DEPLOYMENT):
        world.twin.edit(key_of(live), lambda obj: obj["spec"].update(replicas=1))
    await world.counts()
    await world.passes(HOUR)
    assert (await world.condition("Ready"))[2].endswith("1 of 2 replicas are ready")
    api.changed_back.clear()
    await world.lives(6)
    status = await world.status()
    assert (status["phase"], status["readyReplicas"]) == ("Ready", 2)
