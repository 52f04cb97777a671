"""From a model to a packed repository: conversion, steps, evaluation, gate, packing. Each is a task of one pod.

What needs nothing of another runs beside it: the evaluation of the uncompressed model beside the steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from slipway.api.artifacts import ArtifactRef, State, store_path
from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.base import MAX_COUNT
from slipway.api.datasource import Dataset, DataSource
from slipway.api.errors import SpecError
from slipway.api.modeldeployment import Evaluation, GateResult, ModelDeploymentSpec, Revision
from slipway.api.reports import SATURATION
from slipway.api.status import TaskRecord, TaskState
from slipway.api.tasks import MODEL_BYTES, CompareTask, CompressTask, DataRef, EvaluateTask, PackageTask, PrepareTask
from slipway.plan.deployment.gate import judge, refusal, rejudged
from slipway.plan.deployment.ledger import Ledger
from slipway.plan.deployment.source import Source, evaluation_digest, overlap, step_data
from slipway.plan.deployment.standing import Stage, Standing, Stuck
from slipway.plan.deployment.steps import Offer, Plugins, Step, conversion, plan_steps
from slipway.plan.inputs import MAX_INPUTS, folder_of, inputs_of, is_inside
from slipway.plan.plan import Settings
from slipway.plan.storemount import StoreMount, place_of, readable_by_plugins
from slipway.plan.tasks import SMALL, Work

MAX_TASKS = 32
"""As in the schema of a revision's tasks."""


def settled(revision: Revision, evaluation: Evaluation | None) -> tuple[Revision, Standing | None] | None:
    """The revision under the gate as it is now, where that needs no task: it is packed, and counted on this data."""
    if revision.repository is None:
        return None
    if evaluation is None:  # what was counted before stays in the records, and is judged again when it is asked for
        return revision.model_copy(update={"gate": None}), None
    if revision.gate is None or revision.gate.data != evaluation_digest(evaluation):
        return None
    gate = rejudged(revision.gate, evaluation.gate)
    refused = None if gate.passed else Standing.stuck("GateRefused", refusal(gate))
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
    store: ArtifactStoreSpec
    settings: Settings
    ledger: Ledger
    held_out: ArtifactStoreSpec | None = None
    measured: dict[str, int] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def make(self, revision: Revision, plugins: Plugins) -> tuple[Revision, Standing | None]:
        """The revision with what is known of it now; None for its standing once it is packed and may serve.

        Raises SpecError, NotYet and Stuck.
        """
        data = step_data(self.spec, self.source)
        offer = Offer(plugins, self.spec.compression.conversion, self.settings.runtime_image)
        steps = plan_steps(self.spec.compression.steps, self.source.state, offer, has_data=data is not None)
        baseline, candidate = self._compressed(steps, data, offer)
        # From the records, in each round: as long as it is not packed, all its tasks are followed and so kept.
        revision = revision.model_copy(update={"baseline": baseline, "model": candidate, "gate": None})
        gate = self._proven(revision, self.spec.evaluation)
        gate = None if self._moved() else gate
        revision = revision.model_copy(update={"gate": gate, "tasks": self.ledger.followed[:MAX_TASKS]})
        revision = self._sized(revision)
        if candidate is None or baseline is None:
            return revision, self._moved() or self._under_way("Compressing")
        if (standing := self._moved() or self._refused(gate)) is not None:
            return revision, standing
        repository = self._packed(candidate)
        revision = self._sized(revision)
        revision = revision.model_copy(update={"tasks": self.ledger.followed[:MAX_TASKS]})
        if (standing := self._moved()) is not None:
            return revision, standing
        revision = revision.model_copy(update={"repository": repository})
        return revision, None if repository else self._under_way("RollingOut")

    def prove(self, revision: Revision) -> tuple[Revision, Standing | None]:
        """The same for a revision that is packed already: only the evaluation data may be new."""
        gate = self._proven(revision, self.spec.evaluation)
        gate = None if self._moved() else gate
        followed = self.ledger.followed
        tasks = (*(digest for digest in revision.tasks if digest not in followed), *followed)[-MAX_TASKS:]
        revision = revision.model_copy(update={"gate": gate or revision.gate, "tasks": tasks})
        return self._sized(revision), self._moved() or self._refused(gate)

    def pack_again(
        self, revision: Revision, repository: ArtifactRef, missed_at: datetime, plugins: Plugins
    ) -> tuple[Revision, Standing | None]:
        """The same for a revision whose repository was not in the store at that time: pods that start need it.

        What else is missing is made again by the steps that made it. Raises Stuck where that comes out differently:
        what serves was proven, and nothing else may take its name.
        """
        self.ledger.lost(repository.digest, missed_at)
        made, standing = self.make(revision, plugins)
        if made.repository is not None and made.repository.digest != repository.digest:
            raise Stuck(
                "RepositoryChanged",
                f"the repository of revision {revision.name} is not in the store, and came out as"
                f" {made.repository.digest} when it was packed again: a step or an image does not give the same result"
                " twice; change spec.compression.seed, so that a new revision is made and proven",
            )
        return revision.model_copy(update={"tasks": made.tasks}), standing

    def _moved(self) -> Standing | None:
        moved = self.ledger.moved_image
        return Standing.stuck("ImageMoved", moved) if moved else None

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
        resources = self.spec.compression.resources
        work = Work(step.role, task, image, self._mount, resources, resources_field="spec.compression.resources")
        return self.ledger.artifact(work, step.label, State(step.plugin.produces))

    def _refuse_access(self, task: CompressTask, step: Step) -> None:
        """Raises SpecError for a step that would mount the evaluation data, or more folders than a pod may."""
        inputs = inputs_of(task)
        if len(inputs) > MAX_INPUTS:
            problem = f"refers to {len(inputs)} folders of the store, and a pod mounts at most {MAX_INPUTS}"
            raise SpecError(f"{step.label}.params", problem, "name fewer artifacts")
        if self.spec.evaluation is None:
            return
        folder = self._evaluation_folder(self.spec.evaluation.data)
        volume, held_out = place_of(self.held_out or self.store, folder)
        for path in inputs:
            shared, read = place_of(self.store, path)
            if shared == volume and (is_inside(read, held_out) or is_inside(held_out, read)):
                raise overlap(f"lies in {folder} of the store, and {step.label} reads {path}")

    def _evaluation_folder(self, data: DataSource) -> str:
        if data.stored is not None:
            return folder_of(store_path(data.stored.uri))
        task = PrepareTask(dataset=data.dataset or Dataset.DIGITS, split=data.split)
        return self._decide("prepare-evaluation", task, apart=True).out

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
        work = self._decide(f"prepare-{name}", task, apart=held_out)
        artifact = self.ledger.artifact(work, label, State.DATASET)
        return DataRef(name=name, artifact=artifact) if artifact else None

    def _decide(
        self, role: str, task: PrepareTask | EvaluateTask | CompareTask | PackageTask, *, apart: bool = False
    ) -> Work:
        """A task whose result decides something: it runs in the operator's image, never in a plugin's.

        apart: it uses the store of the held-out data alone.
        """
        mount = StoreMount(self.held_out if apart and self.held_out else self.store)
        if not apart and self.held_out is not None:
            mount = replace(mount, held_out=self.held_out)
        return Work(role, task, self.settings.runtime_image, mount, SMALL)

    @property
    def _mount(self) -> StoreMount:
        return StoreMount(self.store)

    # --- Proof --------------------------------------------------------------------------------------------------

    def _proven(self, revision: Revision, evaluation: Evaluation | None) -> GateResult | None:
        """What the gate says on the evaluation data of the spec; None while it is not known, or without one."""
        if evaluation is None:
            return None
        digest = evaluation_digest(evaluation)
        if revision.gate is not None and revision.gate.data == digest:
            return rejudged(revision.gate, evaluation.gate)
        data = self._data("evaluation", evaluation.data, held_out=True)
        if data is not None and data.artifact.digest in self.used:  # one content under two names
            raise overlap("has the digest of the data that the steps use")
        baseline = self._predictions("baseline", revision.baseline, data)
        candidate = self._predictions("candidate", revision.model, data)
        if baseline is None or candidate is None:
            return None
        predictions, scored = candidate
        work = self._decide("compare", CompareTask(baseline=baseline[0], candidate=predictions), apart=True)
        record = self.ledger.follow(work, "comparison of the two models")
        if record.state is not TaskState.SUCCEEDED:
            return None
        if record.counts is None:
            raise Stuck("StepFailed", f"the comparison of the two models left no counts; see job/{record.job}")
        same = revision.baseline is not None and revision.baseline == revision.model
        saturation = (scored.metrics or {}).get(SATURATION)
        return judge(
            record.counts,
            evaluation.gate,
            same_model=same,
            data=digest,
            saturation=saturation,
            image_id=record.image_id,
            held_out_readable=not self.settings.isolated or readable_by_plugins(self.store, self.held_out),
        )

    def _predictions(
        self, role: str, model: ArtifactRef | None, data: DataRef | None
    ) -> tuple[ArtifactRef, TaskRecord] | None:
        """The model's answers to the data, and the record of the task that gathered them."""
        if model is None or data is None:
            return None
        work, label = (
            self._decide(f"evaluate-{role}", EvaluateTask(model=model, data=data)),
            f"evaluation of the {role}",
        )
        predictions = self._measuring(work, label, State.PREDICTIONS, model)
        return (predictions, self.ledger.follow(work, label)) if predictions else None

    def _measuring(self, work: Work, label: str, state: State, model: ArtifactRef) -> ArtifactRef | None:
        """What the task makes; its pod reports the size of the model that it read, too."""
        artifact = self.ledger.artifact(work, label, state)
        size = (self.ledger.follow(work, label).metrics or {}).get(MODEL_BYTES)
        if size is not None and 0 <= size <= MAX_COUNT:
            self.measured[model.digest] = int(size)
        return artifact

    def _refused(self, gate: GateResult | None) -> Standing | None:
        """None where the candidate may serve."""
        if self.spec.evaluation is None:
            return None
        if gate is None or gate.data != evaluation_digest(self.spec.evaluation):
            return self._under_way("Evaluating")
        return None if gate.passed else Standing.stuck("GateRefused", refusal(gate))

    def _packed(self, model: ArtifactRef) -> ArtifactRef | None:
        """The repository; its golden requests are made of the held-out data, which the model is known to take."""
        given = None
        if self.spec.evaluation is not None:
            given = self._data("evaluation", self.spec.evaluation.data, held_out=True)
            if given is None:
                return None
        task = PackageTask(model=model, name=self.name, max_batch_size=self.spec.serving.max_batch_size, data=given)
        return self._measuring(self._decide("package", task), "packing of the repository", State.REPOSITORY, model)

    def _under_way(self, stage: Stage) -> Standing:
        if (failure := self.ledger.failure) is not None:
            return Standing.stuck("StepFailed", failure)
        return Standing(stage, stage, "; ".join(self.ledger.running)[:1024])
