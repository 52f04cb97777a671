"""A plan preview as a tree: each resource with its Steps, attempts and rollout, their reasons and their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from slipway.api.artifactstore import ArtifactStore
from slipway.api.kinds import ARTIFACT_STORE, DEPLOYMENT, JOB, MODEL_DEPLOYMENT, TRAINING_JOB, Key, Object
from slipway.api.modeldeployment import ModelDeployment
from slipway.api.trainingjob import TrainingJob
from slipway.preview.changes import Change
from slipway.preview.plan_preview import ExpectedState, PlanPreview
from slipway.preview.reasons import (
    DeclaredSteps,
    declared_steps,
    describe_gate,
    describe_placement,
    describe_shape,
    describe_task,
)
from slipway.preview.world import task_of

_WORDS = {"ready": "will be Ready", "inactive": "will be inactive", "waits": "waits", "stalled": "will be Stalled"}
_MARKS = {"create": "+", "change": "~", "delete": "-"}


@dataclass
class Node:
    """A node of the tree. style: good, bad, quiet or plain. notes: lines below the text."""

    text: str
    style: str = "plain"
    notes: list[str] = field(default_factory=list)
    below: list[Node] = field(default_factory=list)


def render_tree(preview: PlanPreview) -> list[Node]:
    """Return a tree for each planned resource, and a leaf for each other one that the files change."""
    edits = {edit.key: edit for edit in preview.edits}
    others = [_edited(edit) for key, edit in edits.items() if key not in preview.after]
    return others + [_resource(preview, key, edits.get(key)) for key in preview.after]


def _resource(preview: PlanPreview, key: Key, edit: Change | None) -> Node:
    expected = preview.expected(key)
    root = Node(f"{_mark(edit)}{key.kind} {key.name}: {_describe_state(expected)}", "good" if expected.good else "bad")
    root.notes += _field_lines(edit)
    if key.kind == TRAINING_JOB:
        root.below = list(_training(preview, key))
    elif key.kind == MODEL_DEPLOYMENT:
        root.below = list(_deployment(preview, key))
    elif key.kind == ARTIFACT_STORE:
        root.below = list(_store(preview, key))
    return root


def _describe_state(expected: ExpectedState) -> str:
    word = _WORDS[expected.state]
    if expected.state == "ready":
        return word
    return f"{word}: {expected.reason}: {expected.message}" if expected.message else f"{word}: {expected.reason}"


def _edited(edit: Change) -> Node:
    return Node(f"{_mark(edit)}{edit.key.kind} {edit.key.name}", notes=_field_lines(edit))


def _mark(change: Change | None) -> str:
    return f"{_MARKS[change.verb]} " if change else ""


def _field_lines(edit: Change | None) -> list[str]:
    return [f"{path}: {_short(old)} -> {_short(new)}" for path, old, new in edit.differences] if edit else []


def _short(value: object) -> str:
    text = "(none)" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _store(preview: PlanPreview, key: Key) -> Iterator[Node]:
    store = ArtifactStore.model_validate({part: preview.after[key][part] for part in ("spec", "status")})
    use = "; only for evaluation data" if store.spec.held_out else ""
    if (claim := store.spec.persistent_volume_claim) is not None:
        yield Node(f"on claim {claim.claim_name}{use}")
    elif store.spec.s3 is not None:
        yield Node(f"in bucket {store.spec.s3.bucket}{use}")
    yield from _tasks(preview, key, DeclaredSteps())


# --- TrainingJob -------------------------------------------------------------------------------------------------


def _training(preview: PlanPreview, key: Key) -> Iterator[Node]:
    job = TrainingJob.model_validate({part: preview.after[key][part] for part in ("spec", "status")})
    known = {attempt["number"]: attempt.get("outcome") for attempt in _past(preview, key).get("attempts", ())}
    tasks = _tasks(preview, key, DeclaredSteps())
    prepared = [one.role for one in preview.tasks(key) if one.role.startswith("prepare-")]
    yield from (node for node in tasks if not node.text.startswith("seal"))
    for attempt in job.status.attempts:
        if known.get(attempt.number):
            yield Node(f"attempt {attempt.number}: ended before: {known[attempt.number]}", "quiet")
            continue
        node = Node(f"attempt {attempt.number}: {'continues' if attempt.number in known else f'Job {attempt.job}'}")
        if attempt.number not in known:
            node.notes += [describe_placement(job.spec, attempt, preview.cache), describe_shape(job.spec, attempt)]
            node.notes += [f"after {', '.join(prepared)}"] if prepared else []
            if attempt.nodes > 1:
                node.notes.append("with a Service and a NetworkPolicy of the TrainingJob, until it has ended")
        yield node
    yield from (node for node in tasks if node.text.startswith("seal"))
    if job.status.artifact and (_past(preview, key).get("artifact") is None):
        yield Node("leaves a model, assumed to be a torch module; a script may also leave ONNX", "quiet")


# --- ModelDeployment ---------------------------------------------------------------------------------------------


def _deployment(preview: PlanPreview, key: Key) -> Iterator[Node]:
    deployment = ModelDeployment.model_validate({part: preview.after[key][part] for part in ("spec", "status")})
    source = deployment.spec.model
    if source.training_job:
        before = preview.before.get(Key(TRAINING_JOB, key.namespace, source.training_job), {}).get("status", {})
        waits = "" if before.get("phase") == "Succeeded" else ", when it has succeeded"
        yield Node(f"takes the model of TrainingJob {source.training_job}{waits}")
    elif source.stored:
        yield Node(f"takes the model {source.stored.uri} from the store")
    tasks = _tasks(preview, key, declared_steps(preview, key))
    yield from tasks
    compared = any(node.text.startswith("compare:") for node in tasks)
    if compared and (gate := describe_gate(deployment.spec)):
        yield Node(f"gate: {gate}")
    text, notes = describe_rollout(preview, key, deployment)
    yield Node(text, notes=notes)


# --- Tasks -------------------------------------------------------------------------------------------------------


def _tasks(preview: PlanPreview, key: Key, declared: DeclaredSteps) -> list[Node]:
    past, tasks = preview.tasks_before(key), preview.tasks(key)
    jobs = _jobs(preview, key.namespace)
    done_before = [task for task in tasks if task.digest in past and past[task.digest].succeeded]
    names = ", ".join(dict.fromkeys(task.role for task in done_before))
    nodes = [Node(f"done before, results reused: {names}", "quiet")] if done_before else []
    for task in tasks:
        if task in done_before:
            continue
        if task.shared is not None:
            nodes.append(Node(f"{task.role}: uses the result of step {task.shared}"))
            continue
        job = jobs.get(task.job)
        node = Node(f"{task.role}: {'continues as Job' if task.digest in past else 'Job'} {task.job}")
        if job is not None:
            done = describe_task(task_of(job), task.digest, declared)
            node.notes += [done] if done else []
        if job is not None and (after := declared.after(task.digest)):
            node.notes.append(f"after {', '.join(after)}")
        nodes.append(node)
    return nodes


def _jobs(preview: PlanPreview, namespace: str) -> Mapping[str, Object]:
    return {
        change.key.name: change.object
        for change in preview.changes
        if change.key.kind == JOB and change.key.namespace == namespace
    }


def _past(preview: PlanPreview, key: Key) -> Object:
    return dict(preview.before.get(key, {}).get("status") or {})


def describe_rollout(preview: PlanPreview, key: Key, deployment: ModelDeployment) -> tuple[str, list[str]]:
    """Return a headline for the rollout, and the changes of Deployments and of the Service."""
    past = dict(preview.before.get(key, {}).get("status") or {})
    known = {revision["name"] for revision in past.get("revisions", ())}
    status, was = deployment.status, past.get("serving")
    notes = list(_scaled(preview, key))
    if status.serving is None:
        return "no revision serves", notes
    replicas = deployment.spec.serving.replicas
    if status.serving == was:
        return f"revision {status.serving} continues to serve: no rollout", notes
    how = "rolls back to" if status.serving in known else "rolls out"
    headline = f"{how} revision {status.serving}: {replicas} {'replica' if replicas == 1 else 'replicas'} of Triton"
    if was:
        notes.insert(0, f"traffic moves from revision {was} when all new replicas answer the golden requests")
    else:
        notes.insert(0, f"Service {deployment_name(key)} sends traffic when all replicas answer the golden requests")
    return headline, notes


def deployment_name(key: Key) -> str:
    return key.name


def _scaled(preview: PlanPreview, key: Key) -> list[str]:
    found = []
    for change in preview.changes:
        if change.key.kind != DEPLOYMENT or not _is_owned_by(change.object, preview.after[key]):
            continue
        before, after = _replicas(change.before), _replicas(change.after)
        if change.verb == "delete":
            found.append(f"Deployment {change.key.name} is deleted")
        elif change.verb == "change" and before != after:
            only = "only scaled" if len(change.differences) == 1 else "scaled"
            found.append(f"Deployment {change.key.name} is {only}: {before} -> {after} replicas")
    return found


def _is_owned_by(obj: Object, owner: Object) -> bool:
    return any(one["uid"] == owner["metadata"]["uid"] for one in obj["metadata"].get("ownerReferences", ()))


def _replicas(obj: Object | None) -> int | None:
    return None if obj is None else int(obj["spec"].get("replicas", 1))
