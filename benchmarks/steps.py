"""(i) The writes of a ModelDeployment with five steps, its Steps and Jobs included, and the size of its status."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence

import structlog

from benchmarks.figures import Figures
from benchmarks.scale import Scale
from slipway.api.kinds import MODEL_DEPLOYMENT, Key, Object
from slipway.cluster.port import Write
from support.builders import HELD_OUT, NAMESPACE, QUANTIZE, model_deployment, plugins
from support.faults.scenario import Scenario, Step, edits, phase_is
from support.faults.scenario_runs import ScenarioRuns
from support.faults.scenarios import DIGITS, TRAINED, nothing_more

FIVE, MOST = 5, 16
REVISIONS = 7
"""Revisions one after another: with 16 steps in each, more than 100 Steps are made."""
_SERVES = phase_is(MODEL_DEPLOYMENT, DIGITS, "Ready")


def measure(scale: Scale, told: Callable[[str], None]) -> Figures:  # noqa: ARG001 - the same at any scale
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    writes, _ = asyncio.run(_play(FIVE, revisions=1))
    many, size = asyncio.run(_play(MOST, revisions=REVISIONS))
    steps = len({write.name for write in many if write.kind == "Step" and write.verb == "apply"})
    by_kind = Counter(f"{write.verb} {write.kind}" for write in writes)
    told(f"{len(writes)} writes with {FIVE} steps: {', '.join(f'{n} {what}' for what, n in by_kind.most_common())}")
    told(f"a status of {size} bytes after {steps} Steps")
    return {"writes_of_five_steps": len(writes), "status_bytes_after_100_steps": size}


async def _play(count: int, revisions: int) -> tuple[Sequence[Write], int]:
    """Play a deployment of that many steps on the twin. Returns its writes, and the bytes of its status as JSON."""
    objects = (*plugins(), model_deployment(steps=_steps(count, 0), evaluation=HELD_OUT))
    updates = [
        Step(
            f"revision {number}", _SERVES, edits(MODEL_DEPLOYMENT, DIGITS, compression={"steps": _steps(count, number)})
        )
        for number in range(1, revisions)
    ]
    scenario = Scenario("steps", objects, (*updates, Step("it serves", _SERVES, nothing_more)), after=TRAINED)
    runs = ScenarioRuns()
    stage = await runs.stage(scenario)
    outcome = await runs.outcome(scenario, stage)
    if outcome.broken:
        raise RuntimeError(f"the scenario breaks a law: {outcome.broken[0]}")
    deployment = await stage.twin.get(Key(MODEL_DEPLOYMENT, NAMESPACE, DIGITS))
    return outcome.writes, len(json.dumps(deployment["status"]))


def _steps(count: int, revision: int) -> tuple[Object, ...]:
    pruning = [
        {"plugin": "prune-structured", "params": {"ratio": round(0.01 * (number + 1) + 0.001 * revision, 3)}}
        for number in range(count - 1)
    ]
    return (*pruning, QUANTIZE)
