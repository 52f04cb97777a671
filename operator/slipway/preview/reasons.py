"""Why something is planned as it is, in words; decided by the planners' own functions, never by rules of its own."""

from __future__ import annotations

from collections.abc import Mapping

from slipway.api.artifacts import DataSource, State
from slipway.api.errors import SpecError
from slipway.api.kinds import Object
from slipway.api.modeldeployment import ModelDeployment, ModelDeploymentSpec
from slipway.api.trainingjob import Attempt, TrainingJobSpec
from slipway.plan.deployment.steps import SERVED, Offer, Step, plan_steps, plugins_in
from slipway.plan.references import NotYet, known_pool, placement_of
from slipway.plan.view import ClusterView


def placed_on(spec: TrainingJobSpec, attempt: Attempt, view: ClusterView) -> str:
    """Which pool, and why."""
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


def shape_of(spec: TrainingJobSpec, attempt: Attempt) -> str:
    """How many pods, and workers in each."""
    nodes, processes = attempt.nodes, attempt.processes_per_node
    why = "spec.processesPerNode" if spec.processes_per_node else "one for each device of a pod, or 1"
    ranks = "1 rank" if nodes * processes == 1 else f"{nodes * processes} ranks"
    asks = f"each pod asks for cpu {spec.resources.cpu}, memory {spec.resources.memory}"
    pods = "1 node" if nodes == 1 else f"{nodes} nodes"
    each = "1 process" if processes == 1 else f"{processes} processes"
    return f"{pods} x {each} ({why}) = {ranks}; {asks}"


def conversions_of(
    deployment: ModelDeployment, view: ClusterView, runtime_image: str
) -> Mapping[str, tuple[Step, str]]:
    """The steps by the names of their tasks, and why those stand there that nobody asked for."""
    spec, status = deployment.spec, deployment.status
    state = (status.model.state if status.model else None) or State.MODULE
    reasons: dict[str, tuple[Step, str]] = {}
    try:
        offer = Offer(plugins_in(view), spec.compression.conversion, runtime_image)
        steps = plan_steps(spec.compression.steps, state, offer, has_data=True)
    except (SpecError, NotYet):
        return {}
    left_by = "the model"
    for index, step in enumerate(steps):
        reason = ""
        if step.conversion:
            following = steps[index + 1] if index + 1 < len(steps) else None
            wants = f"{following.plugin.entry_point} takes {following.plugin.consumes}" if following else ""
            gives = f"{left_by} is {step.plugin.consumes}"
            reason = f"inserted: {gives}, and {wants or f'what is served is {SERVED}'}"
        reasons[step.role] = (step, reason)
        left_by = f"what {step.plugin.entry_point} gives"
        if step.conversion and "convert-baseline" not in reasons:
            why = f"inserted: the uncompressed model as {SERVED}, to compare with"
            reasons["convert-baseline"] = (step, why)
    return reasons


def what_is_done(task: Object, step: tuple[Step, str] | None) -> str:
    """One task's work; empty for one that is not known."""
    match task.get("task"):
        case "prepare":
            return f"writes the data set {task['dataset']} ({task['split']}) into the store"
        case "check":
            return "lists, reads and writes the bucket"
        case "seal":
            return "makes an artifact of what the image left"
        case "compress":
            return _compressed(task, step)
        case "evaluate":
            return "answers the held-out samples"
        case "compare":
            return "counts the samples on which the two models differ"
        case "package":
            return f"packs a Triton model repository, batches of at most {task['maxBatchSize']}"
    return ""


def _compressed(task: Object, step: tuple[Step, str] | None) -> str:
    params = ", ".join(f"{name}={value}" for name, value in sorted(task.get("params", {}).items()))
    text = f"{task['entryPoint']} {task['version']}" + (f" ({params})" if params else "")
    if step is None:
        return text
    plugin, reason = step[0].plugin, step[1]
    turned = f"{text}: {plugin.consumes} -> {plugin.produces}"
    return f"{turned}; {reason}" if reason else turned


def gate_of(spec: ModelDeploymentSpec) -> str | None:
    """What must be shown before a revision serves."""
    if spec.evaluation is None:
        return None
    gate, store = spec.evaluation.gate, spec.evaluation.store
    where = f" in ArtifactStore {store}" if store else ""
    return (
        f"{gate.metric} at most {gate.max_drop:g} below the uncompressed model's, with confidence {gate.confidence:g},"
        f" on {data_of(spec.evaluation.data)}{where}; taken to pass"
    )


def data_of(data: DataSource) -> str:
    return f"{data.dataset} ({data.split})" if data.dataset else str(data.stored.uri if data.stored else "")
