"""What is left of a change, without what it may remember of the spec before: for comparison with a fresh resource."""

from __future__ import annotations

import json
import re
from typing import Any

from slipway.api.kinds import CHILDREN, DEPLOYMENT, JOB, POD, SERVICE, STEP, Key, Object
from slipway.cluster.twin import Twin
from slipway.plan.deployment.manifests import selected_revision
from slipway.plan.owner import OWNER_LABELS
from support.faults.twin_stage import TwinStage
from support.places import Json

QUIET_SECONDS = 2 * 3600.0
DUE_SECONDS = 3700.0
"""Within it a TTL or a deadline of an hour is over."""
UNDER_WAY = ("Compressing", "Evaluating", "RollingOut", "Running", "Restarting")
_TIMES = ("createdAt", "servingSince", "retiredAt", "startedAt", "endedAt", "lastTransitionTime")


async def status_of(stage: TwinStage, key: Key) -> Object:
    return (await stage.twin.get(key)).get("status", {})


async def children(twin: Twin, key: Key) -> list[Object]:
    """All that carries the parent's name."""
    labels = {OWNER_LABELS[key.kind.kind]: key.name}
    return [obj for kind in (*CHILDREN, POD) for obj in await twin.list(kind, key.namespace, labels)]


def conditions(status: Object, *kinds: str) -> Json:
    """By type: status, reason, message."""
    found = {one["type"]: (one["status"], one["reason"], one["message"]) for one in status.get("conditions", ())}
    return {kind: found.get(kind) for kind in kinds or found}


def revision(status: Object, *without: str) -> Json:
    """The candidate's, without its times."""
    name = status.get("candidate")
    found = next((one for one in status.get("revisions", ()) if one["name"] == name), {})
    made = {**found, "steps": sorted(found.get("steps", ()))}
    return {field: value for field, value in _plain(made).items() if field not in without}


async def deployments(stage: TwinStage, key: Key) -> dict[str, Object]:
    """Their specs, by name."""
    return {obj["metadata"]["name"]: obj["spec"] for obj in await stage.twin.list(DEPLOYMENT, key.namespace)}


async def traffic(stage: TwinStage, key: Key) -> str | None:
    """The revision that the Service sends its requests to."""
    return selected_revision(await stage.twin.get(Key(SERVICE, key.namespace, key.name)))


def jobs_made(stage: TwinStage) -> int:
    return len(stage.history.jobs)


async def lawful(stage: TwinStage, key: Key, *, repeated: bool = False) -> None:
    """Check that the status is of the present spec, the attempts are consistent, and nothing more is written.

    repeated: what was ended and forgotten half-way may have been wanted, and made, again.
    """
    obj = await stage.twin.get(key)
    assert obj["status"]["observedGeneration"] == obj["metadata"]["generation"]
    asleep = conditions(obj["status"])["Ready"][1] == "ScaledToZero"
    assert asleep or obj["status"]["phase"] not in UNDER_WAY, "it stopped half-way, in a world where all pods work"
    for one in obj["status"]["conditions"]:
        assert one["observedGeneration"] == obj["metadata"]["generation"]
    # Data sets that are one are prepared by one Job.
    forgiven = "|".join(
        (r"\(prepare-\S+\) stands in [2-9]", *(("was carried out by", "had ended as") if repeated else ()))
    )
    assert [said for said in stage.history.violations() if not re.search(forgiven, said)] == []
    runs = [one.get("status", {}).get("run", {}) for one in await stage.twin.list(STEP, key.namespace)]
    recorded = {one.get("job") for one in (*runs, *obj["status"].get("attempts", ()))}
    for job in await stage.twin.list(JOB, key.namespace):
        assert re.sub(r"-q\d+$|-i\d+-\d+$", "", job["metadata"]["name"]) in recorded
    timed = {"ttlAfterFinished", "activeDeadline"} & obj["spec"].keys()
    await silent(stage, after_seconds=DUE_SECONDS if timed else 0.0)


async def silent(stage: TwinStage, *, after_seconds: float = 0.0) -> None:
    """Hours pass, and nothing is written. after_seconds: what is due until then may be."""
    await stage.passes(after_seconds)
    before = len(stage.calls.writes)
    await stage.passes(QUIET_SECONDS)
    assert stage.calls.writes[before:] == []


async def leaves_nothing(stage: TwinStage, key: Key) -> None:
    """After its deletion nothing of it is left, and nothing is made."""
    stage.twin.remove(key)
    made = jobs_made(stage)
    await silent(stage)
    assert await children(stage.twin, key) == []
    assert jobs_made(stage) == made


def _plain(value: Any, *without: str) -> Any:
    """Without times."""
    text = json.dumps(value)
    return json.loads(text, object_hook=lambda obj: {k: v for k, v in obj.items() if k not in (*_TIMES, *without)})
