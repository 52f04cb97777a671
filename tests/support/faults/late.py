"""Outcomes as they are when the operator looked late: without what is visible only for a while."""

from __future__ import annotations

from dataclasses import replace

from slipway.api.kinds import Object
from support.faults.scenario_runs import Outcome


def seen_late(outcome: Outcome) -> Outcome:
    """Without the time at which the pods of an attempt ran, and which pod of a preempted Job was the one: the Job
    itself remembers only that it was preempted."""
    told = {event for event in outcome.told if event[1] not in ("AttemptPreempted", "PodReplaced")}
    return replace(outcome, state=[_seen_late(obj) for obj in outcome.state], told=told)


def _seen_late(obj: Object) -> Object:
    attempts = obj.get("status", {}).get("attempts")
    if attempts is None:
        return obj
    kept = [{name: value for name, value in one.items() if name != "runningAt"} for one in attempts]
    for one in kept:
        if one.get("outcome") == "Preempted":
            one["failure"] = one["failure"]["reason"]
        if "replacements" in one:
            lost = [{**pod, "failure": pod["failure"]["reason"]} for pod in one["replacements"]]
            one["replacements"] = lost
    return {**obj, "status": {**obj["status"], "attempts": kept}}
