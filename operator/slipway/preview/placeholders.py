"""Names for what nobody can know before: UIDs, and the digests of results and of what they decide.

They are found in the statuses that a rehearsal, or a cluster, left: so what was planned and what then came to be can be
told in the same words.
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

Known = Mapping[str, str]
"""What stands in texts, and how it is called instead."""


_SHORT = {"TrainingJob": "tj", "ModelDeployment": "md", "ArtifactStore": "store"}


def unknown(after: Iterable[Object], before: Iterable[Object] = ()) -> dict[str, str]:
    """What the resources and their Steps (with statuses) have learned between the two moments, under names.

    before: as they were when the plan was made; nothing of theirs is unknown.
    """
    past = {obj["metadata"]["uid"]: obj for obj in before}
    found: dict[str, str] = {}
    for obj in sorted(after, key=_order):
        was = past.get(obj["metadata"]["uid"])
        for literal, name in _of_resource(obj, was):
            found.setdefault(literal, name)
    return found


def _order(obj: Object) -> tuple[bool, bool, str, str]:
    """Resources, then Steps: a digest that several Steps share is called by the first one, whatever began first."""
    if obj["kind"] != STEP.kind:
        return False, False, "", ""
    kind, owner = Owner.of(obj).controller or ("", "")
    return True, kind != TRAINING_JOB.kind, owner, str(obj["spec"]["role"])


def unknown_tasks(jobs: Iterable[Object], names: Known) -> dict[str, str]:
    """The digests of tasks that lie in files and hold what nobody can know, under names."""
    found: dict[str, str] = {}
    for job in jobs:
        annotations = job["spec"].get("template", {}).get("metadata", {}).get("annotations", {})
        text = annotations.get(TASK_ANNOTATION, "")
        if named(text, names) != text:
            found[_hex(TaskInput(text).value)] = f"<digest of {TASK_ANNOTATION}>"
    return found


def named(value: Any, names: Known) -> Any:
    """The value with every text in it under the names; longer literals first."""
    if not names:
        return value
    pattern = re.compile("|".join(re.escape(literal) for literal in sorted(names, key=len, reverse=True)))
    return _named(value, pattern, names)


def _named(value: Any, pattern: re.Pattern[str], names: Known) -> Any:
    if isinstance(value, str):
        return pattern.sub(lambda found: names[found[0]], value)
    if isinstance(value, dict):
        return {_named(name, pattern, names): _named(item, pattern, names) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_named(item, pattern, names) for item in value]
    return value


def _of_resource(obj: Object, was: Object | None) -> Iterator[tuple[str, str]]:
    if obj["kind"] == STEP.kind:
        yield from _of_step(obj, was)
        return
    owner = Owner.of(obj)
    status, past = obj.get("status") or {}, (was or {}).get("status") or {}
    who = f"{owner.kind} {owner.name}"
    known_revisions = {revision["name"] for revision in past.get("revisions", ())}
    prefix = owner.child_name()
    mark = prefix if was is not None else f"{owner.name}-<{_SHORT[owner.kind.kind]} hash>"
    if was is None:
        yield owner.uid, f"<uid of {who}>"
        yield prefix, mark
    if (model := status.get("artifact")) and model != past.get("artifact"):
        yield _hex(model["digest"]), f"<digest of the model of {who}>"
    for revision in status.get("revisions", ()):
        if revision["name"] not in known_revisions:
            yield revision["name"], f"{mark}-<revision>"
            yield _hex(revision["digest"]), f"<digest of the revision of {who}>"


def _of_step(obj: Object, was: Object | None) -> Iterator[tuple[str, str]]:
    step, role = Owner.of(obj), obj["spec"]["role"]
    kind, owner = step.controller or ("", "")
    who = f"{kind} {owner}"
    if was is None:
        yield step.uid, f"<uid of {role} of {who}>"
        yield step.name, f"{owner}-<{_SHORT.get(kind, '')} hash>-s-<{role}>"
        yield mark_of(step.name), f"<mark of {role}>"
        yield job_prefix(step), f"{owner}-s-<{_SHORT.get(kind, '')} {role}>"
        yield _hex(obj["spec"]["digest"]), f"<digest of {role} of {who}>"
        if share := (obj["metadata"].get("labels") or {}).get(SHARE_LABEL):
            yield share, f"<share of {role}>"
    made, known = _artifact(obj), _artifact(was or {})
    if made is not None and made != known:
        yield _hex(made), f"<digest of what {role} of {who} makes>"


def _artifact(step: Object) -> str | None:
    found = value_at(step, "status", "run", "artifact", "digest")
    return found if isinstance(found, str) else None


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
