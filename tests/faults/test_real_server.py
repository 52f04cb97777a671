"""On a real kube-apiserver too: whatever write the operator dies at, the end is the same, and nothing ran twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import pytest

from slipway.api.errors import ClusterError
from slipway.cluster.connection import Connection
from support.apiserver import ApiServer
from support.calls import Interference, crash_after, crash_before, fail
from support.faults.real_stage import run_for_real
from support.faults.scenario import Scenario
from support.faults.scenario_runs import faults_of
from support.faults.scenarios import DEPLOYS, RESTARTS_ONCE, SCENARIOS
from support.seed import sample

AT_ONCE = 4
LOST = ClusterError("no answer within 30 s")
FAULTS: dict[str, Callable[[int], Interference[object]]] = {
    "dies before": crash_before,
    "dies after": crash_after,
    "gets no answer": lambda number: fail(number, LOST, carried_out=True),
}
REVERTS = next(scenario for scenario in SCENARIOS if str(scenario) == "revert while compressing")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("scenario", "sampled"),
    [(RESTARTS_ONCE, list), (DEPLOYS, sample), (REVERTS, sample)],
    ids=["restart", "deploy", "revert"],
)
async def test_on_a_real_server_the_end_is_the_same_whatever_write_the_operator_dies_at(
    apiserver: ApiServer, scenario: Scenario, sampled: Callable[[Sequence[int]], Sequence[int]]
) -> None:
    async with await Connection.open(str(apiserver.kubeconfig)) as connection:
        began = time.monotonic()
        calm = await run_for_real(scenario, connection)
        print(f"{scenario}: {len(calm.writes)} writes, undisturbed in {time.monotonic() - began:.2f} s")
        assert calm.broken == []
        turns = asyncio.Semaphore(AT_ONCE)

        async def disturbed(fault: str, number: int) -> list[str]:
            async with turns:
                outcome = await run_for_real(scenario, connection, FAULTS[fault](number))
            assert len(outcome.writes) >= number, "the fault was never met"
            write = " ".join(calm.writes[number - 1])
            return [f"{fault} write {number} ({write}): {found}" for found in faults_of(outcome, calm)]

        numbers = sampled(range(1, len(calm.writes) + 1))
        runs = await asyncio.gather(*(disturbed(fault, number) for fault in FAULTS for number in numbers))
        print(f"{scenario}: {len(runs)} disturbed runs, {time.monotonic() - began:.0f} s")
    assert [found for run in runs for found in run] == []
