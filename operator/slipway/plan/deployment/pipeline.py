"""From a model to a packed repository: conversion, steps, evaluation, gate, packing. Each is a task of one pod.

What needs nothing of another runs beside it: the evaluation of the uncompressed model beside the steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from slipway.api.artifacts import ArtifactRef, Dataset, DataSource, State, store_path
from slipway.api.base import MAX_COUNT
from slipway.api.errors import SpecError
from slipway.api.modeldeployment import MAX_STEPS, Evaluation, GateResult, ModelDeploymentSpec, Revision
from slipway.api.reports import SATURATION
from slipway.api.tasks import MODEL_BYTES, CompareTask, CompressTask, DataRef, EvaluateTask, PackageTask, PrepareTask
from slipway.plan.deployment.gate import decide_gate, decide_gate_again, describe_refusal
from slipway.plan.deployment.progress import RevisionProgress, Stage
from slipway.plan.deployment.source import Source, evaluation_digest, overlap, step_data
from slipway.plan.deployment.steps import Offer, Plugins, Step, conversion, plan_steps
from slipway.plan.inputs import MAX_INPUTS, folder_of, inputs_of, is_inside
from slipway.plan.plan import Settings
from slipway.plan.references import TerminalError
from slipway.plan.steps.request import StepRequest, Store
from slipway.plan.steps.tracking import StepSet, Tracked
from slipway.plan.storemount import place_of, readable_by_plugins


def settled(revision: Revision, evaluation: Evaluation | None) -> tuple[Revision, RevisionProgress | None] | None:
    """The revision under the gate as it is now, where that needs no task: it is packed, and counted on this data."""
    if revision.repository is None:
        return None
    if evaluation is None:  # what was counted before stays in the records, and is judged again when it is asked for
        return revision.model_copy(update={"gate": None}), None
    if revision.gate is None or revision.gate.data != evaluation_digest(evaluation):
        return None
    gate = decide_gate_again(revision.gate, evaluation.gate)
    refused = None if gate.passed else RevisionProgress.blocked("GateRefused", describe_refusal(gate))
    return revision.model_copy(update={"gate": gate}), refused


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What one deployment's tasks have in common.

    name: of the model in Triton. held_out: the store that is kept for the evaluation data; None if that is `store`.
    measured: bytes of models by their digest, as pods of ours found them. used: digests of the data that steps use.
    """

    name: str
    spec: ModelDeploymentSpec
    source: Source
    store: Store
    settings: Settings
    wanted: StepSet
    held_out: Store | None = None
    measured: dict[str, int] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def make(self, revision: Revision, plugins: Plugins) -> tuple[Revision, RevisionProgress | None]:
        """The revision with what is known of it now; None for its standing once it is packed and may serve.

        Raises SpecError, NotYet and TerminalError.
        """
        data = step_data(self.spec, self.source)
        offer = Offer(plugins, self.spec.compression.conversion, self.settings.runtime_image)
        steps = plan_steps(self.spec.compression.steps, self.source.state, offer, has_data=data is not None)
        baseline, candidate = self._compressed(steps, data, offer)
        revision = revision.model_copy(update={"baseline": baseline, "model": candidate, "gate": None})
        gate = self._proven(revision, self.spec.evaluation)
        gate = None if self._moved() else gate
        revision = self._sized(revision.model_copy(update={"gate": gate}))
        if candidate is None or baseline is None:
            return revision, self._moved() or self._under_way("Compressing")
        if (progress := self._moved() or self._refused(gate)) is not None:
            return revision, progress
        repository = self._packed(candidate)
        revision = self._sized(revision)
        if (progress := self._moved()) is not None:
            return revision, progress
        if repository is not None:
            revision = revision.model_copy(update={"repository": repository, "steps": self._steps(revision)})
        return revision, None if repository else self._under_way("RollingOut")

    def prove(self, revision: Revision) -> tuple[Revision, RevisionProgress | None]:
        """The same for a revision that is packed already: only the evaluation data may be new."""
        gate = self._proven(revision, self.spec.evaluation)
        gate = None if self._moved() else gate
        if gate is not None:
            revision = revision.model_copy(update={"gate": gate, "steps": self._steps(revision)})
        return self._sized(revision), self._moved() or self._refused(gate)

    def pack_again(
        self, revision: Revision, repository: ArtifactRef, missed_at: datetime, plugins: Plugins
    ) -> tuple[Revision, RevisionProgress | None]:
        """The same for a revision whose repository was not in the store at that time: pods that start need it.

        What else is missing is made again by the steps that made it. Raises TerminalError if that comes out
        differently: what serves was proven, and nothing else may take its name.
        """
        self.wanted.lost(repository.digest, missed_at)
        made, progress = self.make(revision, plugins)
        if made.repository is not None and made.repository.digest != repository.digest:
            raise TerminalError(
                "RepositoryChanged",
                f"the repository of revision {revision.name} is not in the store, and came out as"
                f" {made.repository.digest} when it was packed again: a step or an image does not give the same result"
                " twice; change spec.compression.seed, so that a new revision is made and proven",
            )
        return revision, progress

    def _steps(self, revision: Revision) -> tuple[str, ...]:
        """The Steps that made the revision, those of this round last."""
        return tuple(dict.fromkeys((*revision.steps, *self.wanted.marks)))[-MAX_STEPS:]

    def _moved(self) -> RevisionProgress | None:
        moved = self.wanted.moved_image()
        if self.wanted.replacing:
            return self._under_way("Compressing")
        return RevisionProgress.blocked("ImageMoved", moved) if moved else None

    def _sized(self, revision: Revision) -> Revision:
        """The revision with the sizes of its models that are measured by now."""
        sized = {
            role: ref.model_copy(update={"size_bytes": self.measured[ref.digest]})
            for role, ref in (("baseline", revision.baseline), ("model", revision.model))
            if ref is not None and ref.digest in self.measured
        }
        return revision.model_copy(update=sized)

    # --- Steps --------------------------------------------------------------------------------------------------

    def _compressed(
        self, steps: list[Step], data: DataSource | None, offer: Offer
    ) -> tuple[ArtifactRef | None, ArtifactRef | None]:
        """The uncompressed and the compressed model as ONNX, each as far as it is there."""
        baseline: ArtifactRef | None = self.source.model.model_copy(update={"size_bytes": None})
        if self.source.state is not State.ONNX:
            step = conversion(self.source.state, offer, role="convert-baseline", of="the baseline")
            baseline = self._step(step, self.source.model, None)
        candidate: ArtifactRef | None = self.source.model.model_copy(update={"size_bytes": None})
        for step in steps:
            given = None
            if data is not None and not step.conversion:
                given = self._data("train", data)
                if given is None:
                    return baseline, None
                self.used.add(given.artifact.digest)
            candidate = self._step(step, candidate, given) if candidate else None
        return baseline, candidate

    def _step(self, step: Step, model: ArtifactRef, data: DataRef | None) -> ArtifactRef | None:
        task = CompressTask(
            entry_point=step.plugin.entry_point,
            version=step.plugin.version,
            params=step.params,
            model=model,
            data=data,
            # A conversion draws nothing: with one seed for all, the baseline is converted once.
            seed=0 if step.conversion else self.spec.compression.seed,
        )
        self._refuse_access(task, step)
        image = step.plugin.image or self.settings.runtime_image
        request = StepRequest(step.role, step.label, task, image, self.store, pods_field="spec.compression")
        return self.wanted.artifact(request, State(step.plugin.produces))

    def _refuse_access(self, task: CompressTask, step: Step) -> None:
        """Raises SpecError for a step that would mount the evaluation data, or more folders than a pod may."""
        inputs = inputs_of(task)
        if len(inputs) > MAX_INPUTS:
            problem = f"refers to {len(inputs)} folders of the store, and a pod mounts at most {MAX_INPUTS}"
            raise SpecError(f"{step.label}.params", problem, "name fewer artifacts")
        if self.spec.evaluation is None:
            return
        folder = self._evaluation_folder(self.spec.evaluation.data)
        volume, held_out = place_of((self.held_out or self.store).spec, folder)
        for path in inputs:
            shared, read = place_of(self.store.spec, path)
            if shared == volume and (is_inside(read, held_out) or is_inside(held_out, read)):
                raise overlap(f"lies in {folder} of the store, and {step.label} reads {path}")

    def _evaluation_folder(self, data: DataSource) -> str:
        if data.stored is not None:
            return folder_of(store_path(data.stored.uri))
        task = PrepareTask(dataset=data.dataset or Dataset.DIGITS, split=data.split)
        return self._decide("prepare-evaluation", "", task, apart=True).spec.out

    def _data(self, name: str, source: DataSource, *, held_out: bool = False) -> DataRef | None:
        """The data set under the name that the code asks for; a built-in one is prepared first.

        The task is the same as a TrainingJob's, by its digest: both find it done in one folder of the store.
        """
        if source.stored is not None:
            stored = ArtifactRef(uri=source.stored.uri, digest=source.stored.digest, state=State.DATASET)
            return DataRef(name=name, artifact=stored)
        if source.dataset is None:
            return None
        task = PrepareTask(dataset=source.dataset, split=source.split)
        label = f"preparation of {source.dataset} ({source.split})"
        artifact = self.wanted.artifact(self._decide(f"prepare-{name}", label, task, apart=held_out), State.DATASET)
        return DataRef(name=name, artifact=artifact) if artifact else None

    def _decide(
        self,
        role: str,
        label: str,
        task: PrepareTask | EvaluateTask | CompareTask | PackageTask,
        *,
        apart: bool = False,
    ) -> StepRequest:
        """A task whose result decides something: it runs in the operator's image, never in a plugin's.

        apart: it uses the store of the held-out data alone.
        """
        store = self.held_out if apart and self.held_out else self.store
        held_out = None if apart else self.held_out
        return StepRequest(role, label, task, self.settings.runtime_image, store, held_out)

    # --- Proof --------------------------------------------------------------------------------------------------

    def _proven(self, revision: Revision, evaluation: Evaluation | None) -> GateResult | None:
        """What the gate says on the evaluation data of the spec; None while it is not known, or without one."""
        if evaluation is None:
            return None
        digest = evaluation_digest(evaluation)
        if revision.gate is not None and revision.gate.data == digest:
            return decide_gate_again(revision.gate, evaluation.gate)
        data = self._data("evaluation", evaluation.data, held_out=True)
        if data is not None and data.artifact.digest in self.used:  # one content under two names
            raise overlap("has the digest of the data that the steps use")
        baseline = self._predictions("baseline", revision.baseline, data)
        candidate = self._predictions("candidate", revision.model, data)
        if baseline is None or candidate is None:
            return None
        predictions, scored = candidate
        task = CompareTask(baseline=baseline[0], candidate=predictions)
        label = "comparison of the two models"
        compared = self.wanted.follow(self._decide("compare", label, task, apart=True))
        run = compared.run
        if not compared.succeeded or run is None:
            return None
        if run.counts is None:
            raise TerminalError("StepFailed", f"the {label} left no counts; see job/{run.job}")
        same = revision.baseline is not None and revision.baseline == revision.model
        metrics = scored.run.metrics if scored.run else None
        return decide_gate(
            run.counts,
            evaluation.gate,
            same_model=same,
            data=digest,
            saturation=(metrics or {}).get(SATURATION),
            image_id=run.image_id,
            held_out_readable=not self.settings.isolated
            or readable_by_plugins(self.store.spec, self.held_out.spec if self.held_out else None),
        )

    def _predictions(
        self, role: str, model: ArtifactRef | None, data: DataRef | None
    ) -> tuple[ArtifactRef, Tracked] | None:
        """The model's answers to the data, and the Step that gathered them."""
        if model is None or data is None:
            return None
        request = self._decide(f"evaluate-{role}", f"evaluation of the {role}", EvaluateTask(model=model, data=data))
        predictions = self._measuring(request, State.PREDICTIONS, model)
        return (predictions, self.wanted.follow(request)) if predictions else None

    def _measuring(self, request: StepRequest, state: State, model: ArtifactRef) -> ArtifactRef | None:
        """What the Step makes; its pod reports the size of the model that it read, too."""
        artifact = self.wanted.artifact(request, state)
        run = self.wanted.follow(request).run
        size = ((run.metrics if run else None) or {}).get(MODEL_BYTES)
        if size is not None and 0 <= size <= MAX_COUNT:
            self.measured[model.digest] = int(size)
        return artifact

    def _refused(self, gate: GateResult | None) -> RevisionProgress | None:
        """None where the candidate may serve."""
        if self.spec.evaluation is None:
            return None
        if gate is None or gate.data != evaluation_digest(self.spec.evaluation):
            return self._under_way("Evaluating")
        return None if gate.passed else RevisionProgress.blocked("GateRefused", describe_refusal(gate))

    def _packed(self, model: ArtifactRef) -> ArtifactRef | None:
        """The repository; its golden requests are made of the held-out data, which the model is known to take."""
        given = None
        if self.spec.evaluation is not None:
            given = self._data("evaluation", self.spec.evaluation.data, held_out=True)
            if given is None:
                return None
        task = PackageTask(model=model, name=self.name, max_batch_size=self.spec.serving.max_batch_size, data=given)
        request = self._decide("package", "packing of the repository", task)
        return self._measuring(request, State.REPOSITORY, model)

    def _under_way(self, stage: Stage) -> RevisionProgress:
        if (failure := self.wanted.failure) is not None:
            return RevisionProgress.blocked(*failure)
        # What each Step does is told by the Steps: told here, each of their ends would be a write of this status.
        return RevisionProgress(stage, stage, "; ".join(self.wanted.waits)[:1024] or self.wanted.shown)
