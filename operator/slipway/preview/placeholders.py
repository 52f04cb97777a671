"""Placeholders for values that a preview cannot know: UIDs, and digests that depend on results.

The values come from the statuses that a dry run, or a cluster, left: so a plan and its later result can be compared
text by text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from slipway.api.kinds import STEP, TRAINING_JOB, Object
from slipway.plan.owner import Owner
from slipway.plan.parse import value_at
from slipway.plan.steps.request import SHARE_LABEL, job_prefix, mark_of
from slipway.plan.taskinput import TASK_ANNOTATION, TaskInput

Placeholders = Mapping[str, str]
"""The placeholder of each value, by the text of the value."""


_SHORT = {"TrainingJob": "tj", "ModelDeployment": "md", "ArtifactStore": "store"}


def placeholders_of(after: Iterable[Object], before: Iterable[Object] = ()) -> dict[str, str]:
    """Return the placeholders of the values that the resources and their Steps (with statuses) have got.

    before: the resources at the time of the plan, whose values are known.
    """
    past = {obj["metadata"]["uid"]: obj for obj in before}
    found: dict[str, str] = {}
    for obj in sorted(after, key=_order):
        old = past.get(obj["metadata"]["uid"])
        for literal, name in _resource_placeholders(obj, old):
            found.setdefault(literal, name)
    return found


def _order(obj: Object) -> tuple[bool, bool, str, str]:
    """Sort resources before Steps: the first of several Steps with one digest gives the placeholder its name."""
    if obj["kind"] != STEP.kind:
        return False, False, "", ""
    kind, owner = Owner.of(obj).controller or ("", "")
    return True, kind != TRAINING_JOB.kind, owner, str(obj["spec"]["role"])


def task_placeholders(jobs: Iterable[Object], names: Placeholders) -> dict[str, str]:
    """Return the placeholders of the digests of tasks that are passed as files and contain unknown values."""
    found: dict[str, str] = {}
    for job in jobs:
        annotations = job["spec"].get("template", {}).get("metadata", {}).get("annotations", {})
        text = annotations.get(TASK_ANNOTATION, "")
        if substitute(text, names) != text:
            found[_hex(TaskInput(text).value)] = f"<digest of {TASK_ANNOTATION}>"
    return found


def substitute(value: Any, names: Placeholders) -> Any:
    """Return the value with the placeholders in every text; longer literals are replaced first."""
    if not names:
        return value
    pattern = re.compile("|".join(re.escape(literal) for literal in sorted(names, key=len, reverse=True)))
    return _substitute(value, pattern, names)


def _substitute(value: Any, pattern: re.Pattern[str], names: Placeholders) -> Any:
    if isinstance(value, str):
        return pattern.sub(lambda found: names[found[0]], value)
    if isinstance(value, dict):
        return {_substitute(name, pattern, names): _substitute(item, pattern, names) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_substitute(item, pattern, names) for item in value]
    return value


def _resource_placeholders(obj: Object, old: Object | None) -> Iterator[tuple[str, str]]:
    if obj["kind"] == STEP.kind:
        yield from _step_placeholders(obj, old)
        return
    owner = Owner.of(obj)
    status, past = obj.get("status") or {}, (old or {}).get("status") or {}
    who = f"{owner.kind} {owner.name}"
    known_revisions = {revision["name"] for revision in past.get("revisions", ())}
    prefix = owner.child_name()
    mark = prefix if old is not None else f"{owner.name}-<{_SHORT[owner.kind.kind]} hash>"
    if old is None:
        yield owner.uid, f"<uid of {who}>"
        yield prefix, mark
    if (model := status.get("artifact")) and model != past.get("artifact"):
        yield _hex(model["digest"]), f"<digest of the model of {who}>"
    for revision in status.get("revisions", ()):
        if revision["name"] not in known_revisions:
            yield revision["name"], f"{mark}-<revision>"
            yield _hex(revision["digest"]), f"<digest of the revision of {who}>"


def _step_placeholders(obj: Object, old: Object | None) -> Iterator[tuple[str, str]]:
    step, role = Owner.of(obj), obj["spec"]["role"]
    kind, owner = step.controller or ("", "")
    who = f"{kind} {owner}"
    if old is None:
        yield step.uid, f"<uid of {role} of {who}>"
        yield step.name, f"{owner}-<{_SHORT.get(kind, '')} hash>-s-<{role}>"
        yield mark_of(step.name), f"<mark of {role}>"
        yield job_prefix(step), f"{owner}-s-<{_SHORT.get(kind, '')} {role}>"
        yield _hex(obj["spec"]["digest"]), f"<digest of {role} of {who}>"
        if share := (obj["metadata"].get("labels") or {}).get(SHARE_LABEL):
            yield share, f"<share of {role}>"
    made, known = _artifact(obj), _artifact(old or {})
    if made is not None and made != known:
        yield _hex(made), f"<digest of what {role} of {who} makes>"


def _artifact(step: Object) -> str | None:
    found = value_at(step, "status", "run", "artifact", "digest")
    return found if isinstance(found, str) else None


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
