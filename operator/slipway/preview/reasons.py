"""The reasons for what is planned, as text; all decisions come from the functions of the planners."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from slipway.api.artifacts import DataSource, State
from slipway.api.errors import SpecError
from slipway.api.kinds import TRAINING_JOB, Key, Object
from slipway.api.modeldeployment import ModelDeployment, ModelDeploymentSpec
from slipway.api.trainingjob import Attempt, TrainingJobSpec
from slipway.plan.deployment.compression import plugins_in
from slipway.plan.deployment.graph import GATE, MODEL, Inputs, build
from slipway.plan.deployment.source import find_source
from slipway.plan.observation import ClusterView
from slipway.plan.owner import Owner
from slipway.plan.references import FOR_EVALUATION, NotYet, TerminalError, known_pool, known_store, placement_of
from slipway.plan.steps.graph import Graph, Node, advance
from slipway.plan.steps.request import Store
from slipway.plan.steps.tracking import StepSet
from slipway.preview.plan_preview import PlanPreview


def describe_placement(spec: TrainingJobSpec, attempt: Attempt, view: ClusterView) -> str:
    """Describe the pool of an attempt, and why it is this one."""
    if attempt.pool is None:
        return "on any nodes, without devices: spec.pools is empty"
    try:
        place = placement_of(known_pool(view, attempt.pool))
    except (NotYet, SpecError):
        return f"on pool {attempt.pool}"
    nodes = ", ".join(f"{name}={value}" for name, value in place.node_selector.items())
    devices = ", ".join(f"{count} {name} a pod" for name, count in place.devices.items()) or "no devices"
    why = "the only one of spec.pools" if len(spec.pools) == 1 else "the first of spec.pools that can hold it"
    return f"on pool {attempt.pool}, {why}: nodes with {nodes}; {devices}"


def describe_shape(spec: TrainingJobSpec, attempt: Attempt) -> str:
    """Describe the number of pods of an attempt, and of the workers in each."""
    nodes, processes = attempt.nodes, attempt.processes_per_node
    why = "spec.processesPerNode" if spec.processes_per_node else "one for each device of a pod, or 1"
    ranks = "1 rank" if nodes * processes == 1 else f"{nodes * processes} ranks"
    asks = f"each pod asks for cpu {spec.resources.cpu}, memory {spec.resources.memory}"
    pods = "1 node" if nodes == 1 else f"{nodes} nodes"
    each = "1 process" if processes == 1 else f"{processes} processes"
    return f"{pods} x {each} ({why}) = {ranks}; {asks}"


@dataclass(frozen=True, slots=True)
class DeclaredSteps:
    """The graph of a deployment, with its nodes by the digests of their Steps."""

    graph: Graph = field(default_factory=Graph)
    by_digest: Mapping[str, Node] = field(default_factory=dict)
    training_job: str | None = None

    def after(self, digest: str) -> list[str]:
        """Return the names of the Steps, and the TrainingJob, whose results a Step reads."""
        node = self.by_digest.get(digest)
        if node is None:
            return []
        from_job = self.training_job is not None and MODEL in node.reads
        return [*([f"TrainingJob {self.training_job}"] if from_job else []), *self.graph.sources(node.name)]

    def states(self, digest: str) -> tuple[State | None, State | None]:
        """Return the state of the model that a Step reads, and that of the model it makes."""
        node = self.by_digest.get(digest)
        if node is None or not node.reads:
            return None, None
        read = node.reads[0]
        made_by = {one.name: one.makes for one in self.graph.nodes}
        return (self.graph.given[read].state if read in self.graph.given else made_by[read]), node.makes

    def reason(self, digest: str) -> str:
        """Return why the graph has a Step that the spec does not name; empty for the other Steps."""
        node = self.by_digest.get(digest)
        return node.reason if node is not None else ""


def declared_steps(preview: PlanPreview, key: Key) -> DeclaredSteps:
    """Return the graph of a deployment, as its planner builds it at the end of the plan."""
    obj, view = preview.after[key], preview.cache
    deployment, owner = ModelDeployment.model_validate({part: obj[part] for part in ("spec", "status")}), Owner.of(obj)
    spec, apart = deployment.spec, deployment.spec.evaluation.store if deployment.spec.evaluation else None
    try:
        source = find_source(owner, spec, deployment.status, view)
        store = Store(spec.store, known_store(view, key.namespace, spec.store))
        held_out = Store(apart, known_store(view, key.namespace, apart, FOR_EVALUATION)) if apart else None
        graph = build(Inputs(owner.name, spec, source, store, preview.settings, held_out), plugins_in(view)).graph
    except (SpecError, NotYet, TerminalError):
        return DeclaredSteps()
    steps = StepSet(owner, view, datetime.max.replace(tzinfo=UTC))
    asked = advance(graph, steps, opened={GATE}, parallel=len(graph.nodes)).tracked
    by_name = {node.name: node for node in graph.nodes}
    by_digest: dict[str, Node] = {}
    for name, tracked in asked.items():
        by_digest.setdefault(tracked.request.digest, by_name[name])
    job = spec.model.training_job
    planned = job if job and Key(TRAINING_JOB, key.namespace, job) in preview.after else None
    return DeclaredSteps(graph, by_digest, planned)


def describe_task(task: Object, digest: str, declared: DeclaredSteps) -> str:
    """Describe the work of a task; empty for an unknown one."""
    match task.get("task"):
        case "prepare":
            return f"writes the data set {task['dataset']} ({task['split']}) into the store"
        case "check":
            return "lists, reads and writes the bucket"
        case "seal":
            return "makes an artifact from the output of the image"
        case "compress":
            return _compressed(task, digest, declared)
        case "evaluate":
            return "answers the held-out samples"
        case "compare":
            return "counts the samples on which the two models differ"
        case "package":
            return f"packs a Triton model repository, batches of at most {task['maxBatchSize']}"
    return ""


def _compressed(task: Object, digest: str, declared: DeclaredSteps) -> str:
    params = ", ".join(f"{name}={value}" for name, value in sorted(task.get("params", {}).items()))
    text = f"{task['entryPoint']} {task['version']}" + (f" ({params})" if params else "")
    read, made = declared.states(digest)
    if read is None or made is None:
        return text
    reason = declared.reason(digest)
    return f"{text}: {read} -> {made}" + (f"; {reason}" if reason else "")


def describe_gate(spec: ModelDeploymentSpec) -> str | None:
    """Describe the condition of the gate; None without a gate."""
    if spec.evaluation is None:
        return None
    gate, store = spec.evaluation.gate, spec.evaluation.store
    where = f" in ArtifactStore {store}" if store else ""
    return (
        f"{gate.metric} at most {gate.max_drop:g} below the uncompressed model's, with confidence {gate.confidence:g},"
        f" on {describe_data(spec.evaluation.data)}{where}; assumed to pass"
    )


def describe_data(data: DataSource) -> str:
    return f"{data.dataset} ({data.split})" if data.dataset else str(data.stored.uri if data.stored else "")
