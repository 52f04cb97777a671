"""A plan in a few aligned lines a resource: what is reused, what is made, and what serves."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from textwrap import TextWrapper
from typing import NamedTuple

from slipway.api.errors import pluralize
from slipway.api.kinds import JOB, MODEL_DEPLOYMENT, TRAINING_JOB, Key, Object
from slipway.api.modeldeployment import ModelDeployment
from slipway.api.trainingjob import TrainingJob
from slipway.plan.owner import Owner
from slipway.preview.placeholders import substitute
from slipway.preview.plan_preview import PlanPreview
from slipway.preview.tree import Node

WIDTH = 100
INDENT = "    "
GAP = "   "


class Entry(NamedTuple):
    """One resource. end: how it ends. style: as in story.Node. notes: what the files change. rows: label and text."""

    name: str
    end: str
    style: str
    notes: Sequence[str]
    rows: Sequence[tuple[str, str]]


def entries(preview: PlanPreview, nodes: Sequence[Node]) -> list[Entry]:
    """Return an entry for each node of the plan's story: first what is not planned, then the planned resources."""
    keys = [*[None] * (len(nodes) - len(preview.after)), *preview.after]
    return [_entry(preview, key, node) for key, node in zip(keys, nodes, strict=True)]


def aligned(found: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    """Yield lines with their styles: ends of resources start in one column, texts of rows in another."""
    names = max((len(entry.name) for entry in found), default=0)
    labels = max((len(label) for entry in found for label, _ in entry.rows), default=0)
    for entry in found:
        yield f"{entry.name.ljust(names)}{GAP}{entry.end}".rstrip(), entry.style
        yield from ((f"{INDENT}{note}", "plain") for note in entry.notes)
        for label, text in entry.rows:
            head = f"{INDENT}{label.ljust(labels)}{GAP}"
            wrapper = TextWrapper(WIDTH, head, " " * len(head), break_long_words=False, break_on_hyphens=False)
            yield from ((line, "plain") for line in wrapper.wrap(text))


def _entry(preview: PlanPreview, key: Key | None, node: Node) -> Entry:
    name, _, end = node.text.partition(": ")
    if key is None:
        return Entry(name, end, node.style, node.notes, ())
    if not preview.expected(key).good:  # the error with the file and line has the message
        end = ": ".join(end.split(": ")[:2])
    rows = [(label, str(substitute(text, preview.names))) for label, text in _rows(preview, key) if text]
    return Entry(name, end, node.style, node.notes, rows)


def _rows(preview: PlanPreview, key: Key) -> Iterator[tuple[str, str]]:
    obj = {part: preview.after[key][part] for part in ("spec", "status")}
    past = dict(preview.before.get(key, {}).get("status") or {})
    reused, continued, made = _tasks(preview, key)
    last = ("", "")
    if key.kind == TRAINING_JOB:
        attempts = {one["number"]: one.get("outcome") for one in past.get("attempts", ())}
        reused += ["the model that it has left"] if past.get("artifact") else []
        continued += [f"attempt {number}" for number, outcome in attempts.items() if outcome is None]
        last = ("trains", _training(TrainingJob.model_validate(obj), attempts))
    elif key.kind == MODEL_DEPLOYMENT:
        deployment = ModelDeployment.model_validate(obj)
        yield "takes", _model(preview, key, deployment)
        last = ("serves", _serving(deployment, past))
    yield "reuses", ", ".join(reused)
    yield "continues", ", ".join(continued)
    yield "makes", ", ".join(made)
    yield last


def _tasks(preview: PlanPreview, key: Key) -> tuple[list[str], list[str], list[str]]:
    """Names of tasks: whose results new Jobs read or another resource makes, which go on, and which are new."""
    before, tasks = preview.tasks_before(key), preview.tasks(key)
    owners = {step["metadata"]["name"]: Owner.of(step).controller for step in preview.steps}
    shared: dict[str, list[str]] = defaultdict(list)
    jobs = _new_jobs(preview, {task.job for task in tasks})
    reused: list[str] = []
    continued: list[str] = []
    made: list[str] = []
    for task in tasks:
        if (was := before.get(task.digest)) is not None:
            if not was.succeeded:
                continued.append(task.role)
            elif was.made and was.made in jobs:  # there are also Steps of earlier revisions
                reused.append(task.role)
        elif task.shared is not None:
            shared[" ".join(owners.get(task.shared) or ("step", task.shared))].append(task.role)
        else:
            made.append(task.role)
    reused += [f"{', '.join(names)} of {maker}" for maker, names in shared.items()]
    return reused, continued, made


def _new_jobs(preview: PlanPreview, names: Collection[str]) -> str:
    """Return the specs of new Jobs of these names as text, which contains the digests of their inputs."""
    jobs = [one.object for one in preview.changes if one.key.kind == JOB and one.verb == "create"]
    return json.dumps([job["spec"] for job in jobs if job["metadata"]["name"] in names])


def _training(job: TrainingJob, known: Collection[int]) -> str:
    new = [one for one in job.status.attempts if one.number not in known]
    return "; ".join(
        f"{pluralize(one.nodes, 'node')}{f' of pool {one.pool}' if one.pool else ''}"
        f" x {pluralize(one.processes_per_node, 'process', 'processes')}"
        for one in new
    )


def _model(preview: PlanPreview, key: Key, deployment: ModelDeployment) -> str:
    source = deployment.spec.model
    if source.training_job is None:
        return f"the model {source.stored.uri} of the store" if source.stored else ""
    job = preview.before.get(Key(TRAINING_JOB, key.namespace, source.training_job), {}).get("status", {})
    waits = "" if job.get("phase") == "Succeeded" else ", when it has succeeded"
    return f"the model of TrainingJob {source.training_job}{waits}"


def _serving(deployment: ModelDeployment, past: Object) -> str:
    serving, was = deployment.status.serving, past.get("serving")
    if serving is None:
        return "nothing"
    replicas = f"revision {serving}: {pluralize(deployment.spec.serving.replicas, 'replica')} of Triton"
    if serving == was:
        return f"{replicas}, as before"
    if any(serving == revision["name"] for revision in past.get("revisions", ())):
        replicas = f"{replicas}, kept from before"
    return f"{replicas}, in place of {was}" if was else replicas
