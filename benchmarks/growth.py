"""(f) What an event costs the operator that it must plan for and that changes nothing, by the number of jobs.

Three operators run at the same time: over few jobs, over some, over all. The one over all hears of the same events as
the others, so both costs of a burst are taken under the same noise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from benchmarks.client import at_once, client_of
from benchmarks.figures import Figures, spread
from benchmarks.finished import Filled
from benchmarks.namespace import Namespace
from benchmarks.process import cpu_seconds, operator, wait_until_settled
from benchmarks.scale import Scale
from slipway.api.kinds import POD, Object

BURST = 100
"""Events of one sample, each on a pod of another job."""
CONNECTIONS = 4


def measure(cluster: Filled, scale: Scale, told: Callable[[str], None]) -> Figures:
    return asyncio.run(_measure(cluster, scale, told))


async def _measure(cluster: Filled, scale: Scale, told: Callable[[str], None]) -> Figures:
    few: list[float] = []
    some: list[float] = []
    most: list[float] = []
    with ExitStack() as stack:
        processes = [stack.enter_context(operator(cluster.server, *cluster.scope(index))) for index in range(3)]
        pids = [process.process.pid for process in processes]
        async with client_of(cluster.server.admin) as client:
            heard = [Namespace(name, client) for name in ("bench-few", "bench-some")]
            pods = [await _one_pod_a_job(namespace) for namespace in heard]
            for number in range(scale.event_rounds + 1):
                costs_few = await _costs(heard[0], pods[0], number, pids)
                costs_some = await _costs(heard[1], pods[1], number, pids)
                if number:  # the first round warms up
                    few.append(costs_few[0])
                    some.append(costs_some[1])
                    most.append(costs_few[2])
    ratios = spread([one / other for one, other in zip(most, few, strict=True)])
    costs = {"100": spread(few), "1000": spread(some), "5000": spread(most)}
    shown = ", ".join(f"{cost['median']:.2f} ms" for cost in costs.values())
    told(f"an event costs {shown} of CPU time at {', '.join(map(str, scale.sizes))} jobs")
    return {"event_cost_ratio_5000_to_100": ratios["median"], "event_cost_ratios": ratios, "event_cost_ms": costs}


async def _one_pod_a_job(namespace: Namespace) -> list[str]:
    pods = (await namespace.client.get(namespace.path(POD)))["items"]
    return [pod["metadata"]["name"] for pod in pods if _index(pod) == "1"][:BURST]


async def _costs(namespace: Namespace, pods: Sequence[str], number: int, pids: Sequence[int]) -> list[float]:
    """Milliseconds of CPU time for each event, in each process: watch, cache, queue and plan."""
    before = [cpu_seconds(pid) for pid in pids]

    async def touch(pod: str) -> None:
        status = {"podIP": f"10.1.{number}.1", "podIPs": [{"ip": f"10.1.{number}.1"}]}
        await namespace.client.merge(f"{namespace.path(POD)}/{pod}/status", {"status": status})

    await at_once(touch, pods, CONNECTIONS)
    for pid in pids:
        wait_until_settled(pid)
    return [1000 * (cpu_seconds(pid) - was) / len(pods) for pid, was in zip(pids, before, strict=True)]


def _index(pod: Object) -> str:
    index: str = pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]
    return index
