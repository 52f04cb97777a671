"""A graph of Steps: what it refuses, what it asks for in a round, and what a failure keeps back."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from slipway.api.artifacts import ArtifactRef, Dataset, State
from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.errors import SpecError
from slipway.api.kinds import STEP, Object
from slipway.api.tasks import PrepareTask
from slipway.plan.observation import Snapshot
from slipway.plan.owner import Owner
from slipway.plan.references import TerminalError
from slipway.plan.steps.graph import Graph, Made, Node, advance
from slipway.plan.steps.request import StepRequest, Store, step_name
from slipway.plan.steps.tracking import StepSet
from support.builders import T0, artifact, model_deployment, store

OWNER = Owner.of(model_deployment())
STORE = Store("default", ArtifactStoreSpec.model_validate(store()["spec"]))


def request(name: str) -> StepRequest:
    return StepRequest(name, name, PrepareTask(dataset=Dataset.DIGITS, split="train"), f"image-of-{name}", STORE)


def node(name: str, *reads: str, makes: State | None = State.DATASET, opened_by: str | None = None) -> Node:
    return Node(name, reads, lambda _made: request(name), makes, opened_by)


def ended(name: str, state: State = State.DATASET) -> Object:
    """The Step of a node, which has succeeded."""
    asked = request(name)
    made = artifact(name, state)
    run = {"role": name, "state": "Succeeded", "job": name, "tries": 1, "artifact": made, "endedAt": T0.isoformat()}
    child = OWNER.child(STEP, step_name(OWNER, asked))
    return {
        **child,
        "metadata": {**child["metadata"], "uid": name},
        "spec": {"role": name, "digest": asked.digest, "task": {}, "image": asked.image, "store": "default"},
        "status": {"phase": "Succeeded", "runs": 1, "run": run},
    }


def asked_for(graph: Graph, *there: Object, opened: Iterable[str] = (), parallel: int = 8) -> list[str]:
    steps = StepSet(OWNER, Snapshot(there), T0)
    return list(advance(graph, steps, opened=set(opened), parallel=parallel).tracked)


def test_a_step_is_asked_for_once_all_that_it_reads_is_made() -> None:
    graph = Graph((node("a"), node("b"), node("c", "a", "b")))
    assert asked_for(graph) == ["a", "b"]
    assert asked_for(graph, ended("a")) == ["a", "b"]
    assert asked_for(graph, ended("a"), ended("b")) == ["a", "b", "c"]


def test_what_was_given_is_waited_for_by_nobody() -> None:
    graph = Graph((node("a", "model"),), {"model": ArtifactRef.model_validate(artifact("model", State.ONNX))})
    assert asked_for(graph) == ["a"]
    assert graph.sources("a") == ()


def test_a_decision_opens_a_step() -> None:
    graph = Graph((node("a", opened_by="gate"),))
    assert asked_for(graph) == []
    assert asked_for(graph, opened=["gate"]) == ["a"]


def test_no_more_steps_are_begun_than_the_budget_allows_and_those_under_way_count() -> None:
    graph = Graph(tuple(node(name) for name in "abcd"))
    assert asked_for(graph, parallel=2) == ["a", "b"]
    assert asked_for(graph, ended("a"), parallel=2) == ["a", "b", "c"]
    under_way = ended("d")
    under_way["status"]["phase"] = "Running"
    under_way["status"]["run"]["state"] = "Running"
    assert asked_for(graph, under_way, parallel=2) == ["a", "d"]
    assert asked_for(graph, under_way, parallel=0) == ["d"]


def test_an_error_keeps_back_what_depends_on_it_and_nothing_else() -> None:
    def refused(_made: Made) -> StepRequest:
        raise SpecError("spec.compression", "is refused", "correct it")

    graph = Graph((Node("a", (), refused, State.DATASET), node("b", "a"), node("c")))
    steps = StepSet(OWNER, Snapshot(()), T0)
    found = advance(graph, steps)
    assert (list(found.tracked), [str(one) for one in found.errors]) == (
        ["c"],
        ["spec.compression: is refused; correct it"],
    )
    with pytest.raises(SpecError, match="is refused"):
        found.check()


def test_a_result_of_another_state_than_the_node_makes_is_an_error() -> None:
    found = advance(Graph((node("a"),)), StepSet(OWNER, Snapshot([ended("a", State.ONNX)]), T0))
    assert isinstance(found.errors[0], TerminalError)


@pytest.mark.parametrize(
    ("nodes", "problem"),
    [
        ((node("a"), node("a")), "two nodes are named a"),
        ((node("a", "b"), node("b")), "a reads b, which no earlier node makes"),
        ((node("a", "a"),), "a reads a, which no earlier node makes"),
    ],
)
def test_a_graph_that_cannot_be_carried_out_is_a_defect(nodes: tuple[Node, ...], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Graph(nodes)


def test_artifacts_are_handed_on_by_the_names_of_their_nodes() -> None:
    read: list[ArtifactRef] = []

    def reading(made: Made) -> StepRequest:
        read.append(made["a"])
        return request("b")

    advance(Graph((node("a"), Node("b", ("a",), reading))), StepSet(OWNER, Snapshot([ended("a")]), T0))
    assert [one.to_wire() for one in read] == [artifact("a", State.DATASET)]
