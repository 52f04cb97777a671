"""The pipeline from a model to a revision that may serve: the graph of its Steps, and the gate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from slipway.api.artifacts import ArtifactRef
from slipway.api.base import MAX_COUNT
from slipway.api.modeldeployment import MAX_STEPS, Evaluation, GateResult, Revision
from slipway.api.reports import SATURATION
from slipway.api.tasks import MODEL_BYTES, EvaluateTask, PackageTask
from slipway.plan.deployment.compression import Plugins
from slipway.plan.deployment.gate import decide_gate, decide_gate_again, describe_refusal
from slipway.plan.deployment.graph import (
    COMPARE,
    EVALUATE_CANDIDATE,
    GATE,
    PACKAGE,
    Inputs,
    build,
    build_evaluation,
)
from slipway.plan.deployment.source import evaluation_digest
from slipway.plan.deployment.status import RevisionProgress, Stage
from slipway.plan.references import TerminalError
from slipway.plan.steps.graph import Advance, advance
from slipway.plan.steps.tracking import StepSet
from slipway.plan.storemount import readable_by_plugins


def decide_without_steps(
    revision: Revision, evaluation: Evaluation | None
) -> tuple[Revision, RevisionProgress | None] | None:
    """Return the decision of the present gate on a packaged revision; None if its evaluation needs Steps."""
    if revision.repository is None:
        return None
    if evaluation is None:  # the recorded comparison is reused when the gate is added again
        return revision.model_copy(update={"gate": None}), None
    if revision.gate is None or revision.gate.data != evaluation_digest(evaluation):
        return None
    gate = decide_gate_again(revision.gate, evaluation.gate)
    refused = None if gate.passed else RevisionProgress.blocked("GateRefused", describe_refusal(gate))
    return revision.model_copy(update={"gate": gate}), refused


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The Steps of one revision. All methods raise SpecError, NotYet and TerminalError."""

    inputs: Inputs
    steps: StepSet

    def make(self, revision: Revision, plugins: Plugins) -> tuple[Revision, RevisionProgress | None]:
        """Return the revision with its results so far; its progress is None once it is packaged and may serve."""
        built = build(self.inputs, plugins)
        so_far = advance(built.graph, self.steps)
        models = {"baseline": so_far.made.get(built.baseline), "model": so_far.made.get(built.candidate)}
        so_far.check()
        gate = self._gate(revision.model_copy(update=models), so_far)
        revision = _with_sizes(revision.model_copy(update={**models, "gate": gate}), so_far)
        if None in models.values():
            return revision, self._image_changed() or self._under_way("Compressing")
        if (progress := self._image_changed() or self._refused(gate)) is not None:
            return revision, progress
        packaged = advance(built.graph, self.steps, opened={GATE}, sizes=_measured(so_far))
        packaged.check()
        revision = _with_sizes(revision, packaged)
        if (progress := self._image_changed()) is not None:
            return revision, progress
        if (repository := packaged.made.get(PACKAGE)) is None:
            return revision, self._under_way("RollingOut")
        return revision.model_copy(update={"repository": repository, "steps": self._marks(revision)}), None

    def evaluate_again(self, revision: Revision) -> tuple[Revision, RevisionProgress | None]:
        """Return the same for a packaged revision, whose evaluation data may have changed."""
        so_far = advance(build_evaluation(self.inputs, revision).graph, self.steps)
        so_far.check()
        if (gate := self._gate(revision, so_far)) is not None:
            revision = revision.model_copy(update={"gate": gate, "steps": self._marks(revision)})
        return _with_sizes(revision, so_far), self._image_changed() or self._refused(gate)

    def package_again(
        self, revision: Revision, repository: ArtifactRef, missed_at: datetime, plugins: Plugins
    ) -> tuple[Revision, RevisionProgress | None]:
        """Return the same for a revision whose repository was missing in the store at that time: new pods need it.

        Other missing artifacts are made again by their Steps. Raises TerminalError if the new repository differs: only
        an evaluated repository may serve.
        """
        self.steps.mark_missing(repository.digest, missed_at)
        made, progress = self.make(revision, plugins)
        if made.repository is not None and made.repository.digest != repository.digest:
            raise TerminalError(
                "RepositoryChanged",
                f"the repository of revision {revision.name} is not in the store, and packaging it again made"
                f" {made.repository.digest}: a step or an image does not give the same result twice; change"
                " spec.compression.seed to make and evaluate a new revision",
            )
        return revision, progress

    def _marks(self, revision: Revision) -> tuple[str, ...]:
        """Return the marks of the Steps that made the revision, those of this round last."""
        return tuple(dict.fromkeys((*revision.steps, *self.steps.marks)))[-MAX_STEPS:]

    def _image_changed(self) -> RevisionProgress | None:
        changed = self.steps.changed_image()
        if self.steps.replacing:
            return self._under_way("Compressing")
        return RevisionProgress.blocked("ImageMoved", changed) if changed else None

    def _gate(self, revision: Revision, so_far: Advance) -> GateResult | None:
        """Return the decision of the gate on the evaluation data of the spec; None before or without a comparison."""
        evaluation, compared = self.inputs.spec.evaluation, so_far.tracked.get(COMPARE)
        if evaluation is None or compared is None or not compared.succeeded or compared.run is None:
            return None
        if self._image_changed() is not None:
            return None
        if compared.run.counts is None:
            label = compared.request.label
            raise TerminalError("StepFailed", f"the {label} left no counts; see job/{compared.run.job}")
        scored = so_far.tracked[EVALUATE_CANDIDATE].run
        return decide_gate(
            compared.run.counts,
            evaluation.gate,
            same_model=revision.baseline is not None and revision.baseline == revision.model,
            data=evaluation_digest(evaluation),
            saturation=((scored.metrics if scored else None) or {}).get(SATURATION),
            image_id=compared.run.image_id,
            held_out_readable=not self.inputs.settings.isolated
            or readable_by_plugins(self.inputs.store.spec, self.inputs.held_out.spec if self.inputs.held_out else None),
        )

    def _refused(self, gate: GateResult | None) -> RevisionProgress | None:
        """Return the progress of a candidate that may not serve (yet); None if it may."""
        if self.inputs.spec.evaluation is None:
            return None
        if gate is None:
            return self._under_way("Evaluating")
        return None if gate.passed else RevisionProgress.blocked("GateRefused", describe_refusal(gate))

    def _under_way(self, stage: Stage) -> RevisionProgress:
        if (failure := self.steps.failure) is not None:
            return RevisionProgress.blocked(*failure)
        # The status of each Step shows its progress: shown here, every end of a Step would be a write of this status.
        return RevisionProgress(stage, stage, "; ".join(self.steps.waits)[:1024] or self.steps.steps_hint)


def _measured(so_far: Advance) -> dict[str, int]:
    """Return the sizes of models in bytes by digest, as measured by the pods that have read them."""
    measured: dict[str, int] = {}
    for tracked in so_far.tracked.values():
        task, run = tracked.request.task, tracked.run
        size = ((run.metrics if run else None) or {}).get(MODEL_BYTES)
        if isinstance(task, EvaluateTask | PackageTask) and size is not None and 0 <= size <= MAX_COUNT:
            measured[task.model.digest] = int(size)
    return measured


def _with_sizes(revision: Revision, so_far: Advance) -> Revision:
    measured = _measured(so_far)
    sized = {
        role: ref.model_copy(update={"size_bytes": measured[ref.digest]})
        for role, ref in (("baseline", revision.baseline), ("model", revision.model))
        if ref is not None and ref.digest in measured
    }
    return revision.model_copy(update=sized)
