"""A graph of Steps: a node for each Step, and an edge from each Step to those that read its result."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from slipway.api.artifacts import ArtifactRef, State
from slipway.api.errors import SpecError
from slipway.plan.references import TerminalError
from slipway.plan.steps.request import StepRequest
from slipway.plan.steps.tracking import StepSet, Tracked

PARALLEL_STEPS = 8
"""Default maximum of Steps of one owner that run at the same time. One pipeline needs fewer; a search has hundreds."""

Made = Mapping[str, ArtifactRef]
"""Artifacts by the name of the node that makes them, or by their name among the given ones."""


@dataclass(frozen=True, slots=True)
class Node:
    """A Step that is requested once its inputs exist.

    name: its role, unique within the graph. reads: names of nodes, or of given artifacts. request: returns the request
    for the artifacts made so far; it may raise SpecError. makes: the state of the result, None without a result.
    opened_by: the decision that the request of the Step needs. reason: why the graph has a node that no field of the
    spec names.
    """

    name: str
    reads: tuple[str, ...]
    request: Callable[[Made], StepRequest]
    makes: State | None = None
    opened_by: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in topological order. given: artifacts that exist already.

    Raises ValueError for two nodes of one name, and for a node that reads an artifact that no earlier node makes.
    """

    nodes: tuple[Node, ...] = ()
    given: Made = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = set(self.given)
        for node in self.nodes:
            if node.name in known:
                raise ValueError(f"two nodes are named {node.name}")
            if unknown := sorted(set(node.reads) - known):
                raise ValueError(f"{node.name} reads {', '.join(unknown)}, which no earlier node makes")
            known.add(node.name)

    def sources(self, name: str) -> tuple[str, ...]:
        """Return the names of the nodes that a node reads, without given artifacts."""
        node = next(one for one in self.nodes if one.name == name)
        return tuple(one for one in node.reads if one not in self.given)


@dataclass(frozen=True, slots=True)
class Advance:
    """The progress of a graph. tracked: the requested Steps, by node. errors: why nodes cannot be requested."""

    tracked: Mapping[str, Tracked]
    made: Made
    errors: tuple[SpecError | TerminalError, ...] = ()

    def check(self) -> None:
        """Raise the first error, after all Steps that do not depend on it were requested."""
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
    """Request every Step of the graph whose inputs exist, up to the maximum of parallel Steps.

    opened: the positive decisions. sizes: bytes of artifacts by digest, as measured by pods of Slipway's; they set the
    memory of the Steps that read them. parallel: maximum number of Steps of the owner in progress; existing Steps
    continue in any case. A failed node stops only the nodes that depend on it.
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
