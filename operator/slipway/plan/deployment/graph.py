"""The graph of the Steps that make a revision: conversion, compression, evaluation, comparison, packaging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from slipway.api.artifacts import ArtifactRef, Dataset, DataSource, State, store_path
from slipway.api.errors import SpecError
from slipway.api.modeldeployment import Evaluation, ModelDeploymentSpec, Revision
from slipway.api.tasks import CompareTask, CompressTask, DataRef, EvaluateTask, PackageTask, PrepareTask
from slipway.plan.deployment.compression import SERVED, Offer, PluginRun, Plugins, conversion, order_plugins
from slipway.plan.deployment.source import Source, overlap, step_data
from slipway.plan.plan import Settings
from slipway.plan.steps.graph import Graph, Made, Node
from slipway.plan.steps.request import StepRequest, Store
from slipway.plan.storemount import place_of
from slipway.plan.taskinput import MAX_INPUTS, folder_of, folders_of, inputs_of, is_inside

GATE = "gate"
"""The decision without which a candidate is not packaged."""
COMPARE, PACKAGE = "compare", "package"
EVALUATE_BASELINE, EVALUATE_CANDIDATE = "evaluate-baseline", "evaluate-candidate"
MODEL = "model"
"""The model of the deployment, before any step."""


@dataclass(frozen=True, slots=True)
class RevisionGraph:
    """The graph of a revision. baseline, candidate: nodes of the uncompressed and the compressed model, as ONNX."""

    graph: Graph
    baseline: str
    candidate: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of the graph of a revision.

    name: the name of the model in Triton. held_out: the store of the evaluation data; None if it is `store`.
    """

    name: str
    spec: ModelDeploymentSpec
    source: Source
    store: Store
    settings: Settings
    held_out: Store | None = None


def build(inputs: Inputs, plugins: Plugins) -> RevisionGraph:
    """Return the whole graph of a new revision.

    Raises SpecError for invalid steps, and NotYet (PluginNotFound) for a missing plugin.
    """
    spec, state = inputs.spec, inputs.source.state
    data = step_data(spec, inputs.source)
    offer = Offer(plugins, spec.compression.conversion, inputs.settings.runtime_image)
    runs = order_plugins(spec.compression.steps, state, offer, has_data=data is not None)
    draft = _Draft(inputs, {MODEL: inputs.source.model.model_copy(update={"size_bytes": None})})
    baseline = MODEL
    if state is not SERVED:
        reason = f"inserted: the gate compares with the uncompressed model as {SERVED}"
        run = conversion(state, offer, role="convert-baseline", reason=reason, of="the baseline")
        baseline = draft.compress(run, MODEL, None)
    candidate, train = MODEL, None
    for run in runs:
        if run.conversion and candidate == MODEL:
            candidate = baseline
            continue
        if data is not None and not run.conversion:
            train = draft.data("train", data)
        candidate = draft.compress(run, candidate, None if run.conversion else train)
    evaluation = draft.evaluate(baseline, candidate, train)
    draft.package(candidate, evaluation)
    return RevisionGraph(draft.graph, baseline, candidate)


def build_evaluation(inputs: Inputs, revision: Revision) -> RevisionGraph:
    """Return the graph that evaluates a packaged revision again."""
    known = {"baseline": revision.baseline, "candidate": revision.model}
    draft = _Draft(inputs, {name: model for name, model in known.items() if model is not None})
    if len(draft.given) == len(known):
        draft.evaluate("baseline", "candidate", None)
    return RevisionGraph(draft.graph, "baseline", "candidate")


@dataclass(slots=True)
class _Draft:
    """A graph under construction."""

    inputs: Inputs
    given: dict[str, ArtifactRef]
    nodes: dict[str, Node] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        return Graph(tuple(self.nodes.values()), self.given)

    def data(self, name: str, source: DataSource, *, held_out: bool = False) -> str:
        """Return the node of a data set; a built-in data set is prepared first.

        The task has the same digest as that of a TrainingJob, so both share one result in the store.
        """
        node = f"prepare-{name}"
        if source.stored is not None:
            stored = source.stored
            self.given[node] = ArtifactRef(uri=stored.uri, digest=stored.digest, state=State.DATASET)
        elif node not in self.nodes:
            label = f"preparation of {source.dataset} ({source.split})"
            request = partial(_prepare, self.inputs, node, label, source, held_out)
            self.nodes[node] = Node(node, (), request, State.DATASET)
        return node

    def compress(self, run: PluginRun, model: str, data: str | None) -> str:
        reads = (model,) if data is None else (model, data)
        request = partial(_compress, self.inputs, run, model, data)
        known = [self.given[name] for name in reads if name in self.given]
        _refuse_access(self.inputs, run, folders_of(dict(run.params), *known))  # before any Step runs
        self.nodes[run.role] = Node(run.role, reads, request, State(run.plugin.produces), reason=run.reason)
        return run.role

    def evaluate(self, baseline: str, candidate: str, train: str | None) -> str | None:
        """Add the Steps that the gate needs. train: the data of the plugins. Return the node of the evaluation data."""
        if self.inputs.spec.evaluation is None:
            return None
        data = self.data("evaluation", self.inputs.spec.evaluation.data, held_out=True)
        for role, model in ((EVALUATE_BASELINE, baseline), (EVALUATE_CANDIDATE, candidate)):
            request = partial(_evaluate, self.inputs, role, model, data, train)
            self.nodes[role] = Node(role, (model, data), request, State.PREDICTIONS)
        reads = (EVALUATE_BASELINE, EVALUATE_CANDIDATE)
        self.nodes[COMPARE] = Node(COMPARE, reads, partial(_compare, self.inputs))
        return data

    def package(self, candidate: str, data: str | None) -> None:
        """Add the packaging; its golden requests come from the held-out data, which fits the model."""
        reads = (candidate,) if data is None else (candidate, data)
        request = partial(_package, self.inputs, candidate, data)
        self.nodes[PACKAGE] = Node(PACKAGE, reads, request, State.REPOSITORY, opened_by=GATE)


# --- Requests, from the results so far -----------------------------------------------------------------------------


def _prepare(inputs: Inputs, role: str, label: str, source: DataSource, held_out: bool, _made: Made) -> StepRequest:
    return _deciding(inputs, role, label, _prepare_task(source), only_held_out=held_out)


def _prepare_task(source: DataSource) -> PrepareTask:
    return PrepareTask(dataset=source.dataset or Dataset.DIGITS, split=source.split)


def _compress(inputs: Inputs, run: PluginRun, model: str, data: str | None, made: Made) -> StepRequest:
    task = CompressTask(
        entry_point=run.plugin.entry_point,
        version=run.plugin.version,
        params=run.params,
        model=made[model],
        data=DataRef(name="train", artifact=made[data]) if data is not None else None,
        # A conversion is not random: with one seed for all, the baseline is converted once.
        seed=0 if run.conversion else inputs.spec.compression.seed,
    )
    _refuse_access(inputs, run, inputs_of(task))
    image = run.plugin.image or inputs.settings.runtime_image
    return StepRequest(run.role, run.label, task, image, inputs.store, pods_field="spec.compression")


def _evaluate(inputs: Inputs, role: str, model: str, data: str, train: str | None, made: Made) -> StepRequest:
    if train is not None and train in made and made[train].digest == made[data].digest:  # one content, two names
        raise overlap("has the digest of the data that the steps use")
    task = EvaluateTask(model=made[model], data=DataRef(name="evaluation", artifact=made[data]))
    return _deciding(inputs, role, f"evaluation of the {role.removeprefix('evaluate-')}", task)


def _compare(inputs: Inputs, made: Made) -> StepRequest:
    task = CompareTask(baseline=made[EVALUATE_BASELINE], candidate=made[EVALUATE_CANDIDATE])
    return _deciding(inputs, COMPARE, "comparison of the two models", task, only_held_out=True)


def _package(inputs: Inputs, model: str, data: str | None, made: Made) -> StepRequest:
    given = DataRef(name="evaluation", artifact=made[data]) if data is not None else None
    batch = inputs.spec.serving.max_batch_size
    task = PackageTask(model=made[model], name=inputs.name, max_batch_size=batch, data=given)
    return _deciding(inputs, PACKAGE, "packing of the repository", task)


def _deciding(
    inputs: Inputs,
    role: str,
    label: str,
    task: PrepareTask | EvaluateTask | CompareTask | PackageTask,
    *,
    only_held_out: bool = False,
) -> StepRequest:
    """Return a request whose result decides something: it runs in the operator's image, never in a plugin's.

    only_held_out: True if it uses only the store of the held-out data.
    """
    store = inputs.held_out if only_held_out and inputs.held_out else inputs.store
    held_out = None if only_held_out else inputs.held_out
    return StepRequest(role, label, task, inputs.settings.runtime_image, store, held_out)


def _refuse_access(inputs: Inputs, run: PluginRun, reads: Sequence[str]) -> None:
    """Raise SpecError for a run that would mount the evaluation data, or more folders than a pod may."""
    if len(reads) > MAX_INPUTS:
        problem = f"refers to {len(reads)} folders of the store, and a pod mounts at most {MAX_INPUTS}"
        raise SpecError(f"{run.label}.params", problem, "name fewer artifacts")
    if inputs.spec.evaluation is None:
        return
    folder = _evaluation_folder(inputs, inputs.spec.evaluation)
    volume, held_out = place_of((inputs.held_out or inputs.store).spec, folder)
    for path in reads:
        shared, read = place_of(inputs.store.spec, path)
        if shared == volume and (is_inside(read, held_out) or is_inside(held_out, read)):
            raise overlap(f"lies in {folder} of the store, and {run.label} reads {path}")


def _evaluation_folder(inputs: Inputs, evaluation: Evaluation) -> str:
    data = evaluation.data
    if data.stored is not None:
        return folder_of(store_path(data.stored.uri))
    return _deciding(inputs, "prepare-evaluation", "", _prepare_task(data), only_held_out=True).spec.out
