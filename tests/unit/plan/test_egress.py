"""Where pods may connect to, by the store that they use and by what a TrainingJob asks for."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.api.artifactstore import ArtifactStore
from slipway.api.kinds import JOB, NETWORK_POLICY, Object
from slipway.plan.egress import egress_rules
from slipway.plan.observation import carries
from support.builders import bucket_store, store
from support.deployments import DIGITS, world_with
from support.training import TrainingWorld
from support.world import World

DNS = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}


def to(*blocks: str) -> Object:
    return {"to": [{"ipBlock": {"cidr": block}} for block in blocks]}


def bucket(networks: tuple[str, ...] = (), **s3: Any) -> Object:
    made = bucket_store(**s3)
    made["spec"]["networks"] = list(networks)
    return made


STORES: dict[str, tuple[Object, list[Object] | None]] = {
    "a claim": (store(), []),
    "a bucket by an address": (bucket(endpoint="http://10.0.0.7:8333"), [DNS, to("10.0.0.7/32")]),
    "a bucket in networks": (bucket(("10.4.0.0/16", "fd00::/8")), [DNS, to("10.4.0.0/16", "fd00::/8")]),
    "networks go before an address": (bucket(("10.4.0.0/16",), endpoint="http://10.0.0.7"), [DNS, to("10.4.0.0/16")]),
    "a bucket by a name": (bucket(), None),
    "a bucket of Amazon": (bucket(endpoint=None, region="eu-central-1"), None),
}
KNOWN = {name: case for name, case in STORES.items() if case[1] is not None}


@pytest.mark.parametrize(("of", "rules"), STORES.values(), ids=STORES)
def test_a_task_reaches_its_store_and_nothing_else(of: Object, rules: list[Object] | None) -> None:
    assert egress_rules(ArtifactStore.model_validate({"spec": of["spec"]}).spec) == rules


def policies(world: World) -> list[Object]:
    return [obj for key, obj in world.objects.items() if key.kind == NETWORK_POLICY]


def each_other(policy: Object) -> list[Object]:
    """Which is nowhere: none of them listens."""
    return [{"to": [{"podSelector": policy["spec"]["podSelector"]}]}]


def chosen(world: World, policy: Object) -> list[str]:
    """Roles of the Jobs whose pods the policy is for."""
    selector = policy["spec"]["podSelector"]["matchLabels"]
    jobs = [obj for key, obj in world.objects.items() if key.kind == JOB]
    return [job["metadata"]["labels"]["slipway.dev/role"] for job in jobs if carries(job["spec"]["template"], selector)]


@pytest.mark.parametrize(("of", "rules"), KNOWN.values(), ids=KNOWN)
def test_one_policy_holds_for_the_pods_of_all_tasks_of_a_deployment(of: Object, rules: list[Object]) -> None:
    world = world_with(of)
    world.run(DIGITS)
    (policy,) = policies(world)
    assert policy["spec"]["policyTypes"] == ["Egress"]
    assert policy["spec"]["egress"] == (rules or each_other(policy))
    assert len(chosen(world, policy)) == len([key for key in world.objects if key.kind == JOB]) > 5
    assert world.status(DIGITS)["phase"] == "Ready"


def test_no_job_of_a_task_is_made_before_its_policy() -> None:
    world = world_with()
    world.run(DIGITS)
    made = [kind for _, kind, _ in world.writes if kind in ("NetworkPolicy", "Job")]
    assert (made[0], made.count("NetworkPolicy")) == ("NetworkPolicy", 1)


def test_a_policy_that_a_user_opens_is_closed_again_while_tasks_run() -> None:
    world = world_with()
    world.settle(DIGITS)
    (policy,) = policies(world)
    world.put({**policy, "spec": {**policy["spec"], "egress": [{}]}})
    world.settle(DIGITS)
    assert policies(world)[0]["spec"]["egress"] == each_other(policy)


def test_a_policy_of_another_user_is_reported_and_no_task_starts() -> None:
    honest = world_with()
    honest.settle(DIGITS)
    (policy,) = policies(honest)
    world = world_with()
    foreign = {**policy, "metadata": {**policy["metadata"], "ownerReferences": [], "labels": {}}}
    world.put(foreign)
    world.settle(DIGITS)
    assert world.condition(DIGITS, "Ready")[1] == "NameConflict"
    assert [key for key in world.objects if key.kind == JOB] == []
    assert policies(world)[0]["metadata"]["ownerReferences"] == []


def test_where_the_bucket_is_not_known_egress_is_open_and_the_tasks_run() -> None:
    world = world_with(bucket())
    world.run(DIGITS)
    assert policies(world) == []
    assert world.status(DIGITS)["phase"] == "Ready"


def test_the_policy_of_a_training_jobs_tasks_leaves_its_training_alone() -> None:
    world = TrainingWorld(data=[{"name": "train", "dataset": "digits"}]).plan()
    world.step()
    world.plan()
    (policy,) = policies(world)
    assert policy["spec"]["egress"] == each_other(policy)
    assert chosen(world, policy) == ["prepare-train"]


def test_a_training_job_without_tasks_has_no_policy_of_tasks() -> None:
    assert policies(TrainingWorld().plan()) == []


@pytest.mark.parametrize("nodes", [1, 2])
def test_restricted_training_reaches_its_peers_and_its_store(nodes: int) -> None:
    world = TrainingWorld(bucket(("10.4.0.0/16",)), nodes=nodes, egress="restricted").plan()
    (policy,) = policies(world)
    peers = {"podSelector": policy["spec"]["podSelector"]}
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert policy["spec"]["egress"] == [DNS, {"to": [peers]}, to("10.4.0.0/16")]
    assert chosen(world, policy) == ["train"]
    made = [kind for _, kind, _ in world.writes if kind in ("NetworkPolicy", "Job")]
    assert made == ["NetworkPolicy", "Job"]


def test_open_training_is_held_back_from_nothing() -> None:
    (policy,) = policies(TrainingWorld(nodes=2).plan())
    assert policy["spec"]["policyTypes"] == ["Ingress"]


def test_training_is_not_called_restricted_where_nobody_knows_the_bucket() -> None:
    world = TrainingWorld(bucket(), egress="restricted").plan()
    assert [key for key in world.objects if key.kind == JOB] == []
    assert world.says("Ready").startswith("False EgressUnknown: spec.egress: is restricted, and ArtifactStore default")
