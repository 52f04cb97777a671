"""(g) What one event costs in the planner and in the cache alone, without a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from benchmarks.figures import Figures, spread
from benchmarks.scale import Scale
from slipway.api.kinds import Object
from slipway.plan.observation import Observation
from slipway.plan.training import plan_training
from slipway.reconcile.cache import Cache
from support.builders import SETTINGS, pod
from support.training import TrainingWorld

CALLS = 200
SAMPLES = 15


def measure(scale: Scale, told: Callable[[str], None]) -> Figures:  # noqa: ARG001 - the same at any scale
    figures: Figures = {}
    for name, world in (("running", _running()), ("finished", _running().succeeds())):
        cost = _microseconds(_planning(world))
        figures[f"plan_{name}_us"] = cost
        told(f"a plan for a {name} job: {cost['median']:.0f} us")
    touched = [_at(pod(_running().job(), 1), version) for version in range(1000, 1000 + CALLS * SAMPLES + 1)]
    cache, events = Cache(), iter(touched)
    figures["cache_put_us"] = _microseconds(lambda: cache.put(next(events)))
    told(f"a pod into the cache: {figures['cache_put_us']['median']:.0f} us")
    return figures


def _running() -> TrainingWorld:
    return TrainingWorld(nodes=2).plan().pods_run()


def _planning(world: TrainingWorld) -> Callable[[], object]:
    """Plans an unchanged job, as after an event that changes nothing."""
    cache, now = Cache(), world.now + timedelta(seconds=1)
    for version, obj in enumerate(world.objects.values(), start=1):
        cache.put(_at(obj, version))
    job, observation = cache.get(*world.key), Observation(cache, SETTINGS, now)
    if job is None or plan_training(job, observation).status not in (None, job.get("status")):
        raise RuntimeError("an unchanged job plans nothing")
    return lambda: plan_training(job, observation)


def _at(obj: Object, version: int) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(version)}}


def _microseconds(call: Callable[[], object]) -> dict[str, float]:
    """Of one call; median and range of samples of CALLS calls each."""
    samples = []
    for _ in range(SAMPLES):
        began = time.perf_counter()
        for _ in range(CALLS):
            call()
        samples.append(1e6 * (time.perf_counter() - began) / CALLS)
    return spread(samples)
