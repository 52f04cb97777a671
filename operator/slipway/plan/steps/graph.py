"""A declared graph of Steps: one node for each, and an edge wherever one reads what another makes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.errors import SpecError
from slipway.plan.references import TerminalError
from slipway.plan.steps.request import StepRequest
from slipway.plan.steps.tracking import StepSet, Tracked

PARALLEL_STEPS = 8
"""Steps that one owner lets run at the same time by default. What one chain needs is less; a search has hundreds."""

Made = Mapping[str, ArtifactRef]
"""Artifacts by the name of the node that makes them, or under which they were given."""


@dataclass(frozen=True, slots=True)
class Node:
    """A Step that is asked for once everything that it reads is made.

    name: its role, unique within the graph. reads: names of nodes, or of given artifacts. request: the Step, from all
    artifacts that are made so far; it may raise SpecError. makes: the state of the result, None if it leaves none.
    opened_by: the decision without which the Step is not asked for. reason: why the graph has a node that no field of
    the spec names.
    """

    name: str
    reads: tuple[str, ...]
    request: Callable[[Made], StepRequest]
    makes: State | None = None
    opened_by: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in an order in which each follows those that it reads. given: artifacts that exist already.

    Raises ValueError for nodes of one name, and for a node that reads what nothing before it makes.
    """

    nodes: tuple[Node, ...] = ()
    given: Made = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = set(self.given)
        for node in self.nodes:
            if node.name in known:
                raise ValueError(f"two nodes are named {node.name}")
            if unknown := sorted(set(node.reads) - known):
                raise ValueError(f"{node.name} reads {', '.join(unknown)}, which nothing before it makes")
            known.add(node.name)

    def sources(self, name: str) -> tuple[str, ...]:
        """Return the names of the nodes that a node reads; what was given is left out."""
        node = next(one for one in self.nodes if one.name == name)
        return tuple(one for one in node.reads if one not in self.given)


@dataclass(frozen=True, slots=True)
class Advance:
    """How far a graph is. tracked: the Steps that were asked for, by node. errors: why nodes cannot be asked for."""

    tracked: Mapping[str, Tracked]
    made: Made
    errors: tuple[SpecError | TerminalError, ...] = ()

    def check(self) -> None:
        """Raise the first error, now that everything that does not depend on it was asked for."""
        if self.errors:
            raise self.errors[0]


def advance(
    graph: Graph,
    steps: StepSet,
    *,
    opened: Collection[str] = (),
    sizes: Mapping[str, int] | None = None,
    parallel: int = PARALLEL_STEPS,
) -> Advance:
    """Ask for every Step of the graph whose inputs are made, as far as the budget of parallel Steps goes.

    opened: the decisions that were made in favour. sizes: bytes of artifacts by digest, as pods of ours have measured
    them; what reads such an artifact is given memory by its size. parallel: how many Steps of the owner may be under
    way; those that exist go on, whatever it is. A node that fails keeps back what depends on it, and nothing else.
    """
    made = dict(graph.given)
    tracked: dict[str, Tracked] = {}
    errors: list[SpecError | TerminalError] = []
    for node in graph.nodes:
        if any(name not in made for name in node.reads) or not (node.opened_by is None or node.opened_by in opened):
            continue
        try:
            request = node.request(made)
            if steps.is_new(request) and steps.under_way >= parallel:
                continue
            tracked[node.name] = steps.follow(request)
            artifact = steps.artifact(request, node.makes) if node.makes is not None else None
        except (SpecError, TerminalError) as error:
            errors.append(error)
            continue
        if artifact is not None:
            size = (sizes or {}).get(artifact.digest)
            made[node.name] = artifact if size is None else artifact.model_copy(update={"size_bytes": size})
    return Advance(tracked, made, tuple(errors))
