from __future__ import annotations

from datetime import timedelta

import pytest

from slipway.api.kinds import Object
from slipway.api.status import Failure
from slipway.plan.jobs.outcomes import first_failure, job_end
from slipway.plan.jobs.pods import INDEX_LABEL
from slipway.plan.jobs.retry import PREEMPTED, UNKNOWN
from support.builders import T0, artifact, failed, job, pod, succeeded, wire_time

SECOND = timedelta(seconds=1)
FAILED = job(ended="Failed", reason="BackoffLimitExceeded")


def disrupted(at: timedelta) -> tuple[Object]:
    return (
        {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "lastTransitionTime": wire_time(T0 + at),
        },
    )


def test_a_job_without_a_final_condition_is_not_over() -> None:
    assert job_end(job(FailureTarget=T0), [pod(job(), exit_code=1)]) is None


def test_success_carries_the_report_of_index_0() -> None:
    done = job(ended="Complete")
    pods = [
        pod(done, 1, exit_code=0, message=succeeded(artifact("other"))),
        pod(done, 0, exit_code=0, message=succeeded()),
    ]
    end = job_end(done, pods)
    assert end is not None
    assert end.succeeded
    assert end.report is not None
    assert end.report.artifact is None


def test_success_without_its_pod_is_silent() -> None:
    end = job_end(job(ended="Complete"), [])
    assert end is not None
    assert end.report_missing


def test_of_two_ranks_the_one_that_failed_first_is_told() -> None:
    pods = [
        pod(FAILED, 0, exit_code=1, message=failed("late", rank=0, at=T0 + SECOND), at=T0 + 2 * SECOND),
        pod(FAILED, 1, exit_code=1, message=failed("early", rank=1, at=T0), at=T0 + 3 * SECOND),
    ]
    end = job_end(FAILED, pods)
    assert end is not None
    assert end.failure is not None
    assert (end.failure.rank, end.failure.index, end.failure.message) == (1, 1, "early")


@pytest.mark.parametrize(
    "consequence",
    [
        failed("another rank ended", exception="PeerLost", at=T0),
        failed("asked to end", exception="SIGTERM", rank=None, at=T0, code=143),
        "RuntimeError: [..] Connection closed by peer [10.0.0.7]:4711",
        None,
    ],
    ids=["a lost peer", "the Job controller's SIGTERM", "gloo's words of a lost peer", "a bare exit code 143"],
)
def test_a_consequence_is_not_taken_for_the_cause_though_it_came_first(consequence: str | Object | None) -> None:
    pods = [
        pod(FAILED, 0, exit_code=143 if consequence is None else 1, message=consequence, at=T0),
        pod(FAILED, 1, exit_code=1, message=failed("the cause", rank=1, at=T0 + SECOND), at=T0 + SECOND),
    ]
    end = job_end(FAILED, pods)
    assert end is not None
    assert end.failure is not None
    assert end.failure.message == "the cause"


def test_a_container_out_of_memory_is_told_by_the_kubelets_reason() -> None:
    end = job_end(FAILED, [pod(FAILED, 0, exit_code=137, reason="OOMKilled")])
    assert end is not None
    assert end.failure is not None
    assert (end.failure.reason, end.failure.exit_code) == ("OOMKilled", 137)


def test_a_pod_that_failed_before_its_container_began_tells_of_the_init_container_that_ended_it() -> None:
    agent = {"name": "agent", "state": {"terminated": {"exitCode": 2, "message": "no role"}}}
    begun = {"name": "first", "state": {"terminated": {"exitCode": 0}}}
    failing = pod(job(), phase="Failed")
    failing["status"] |= {"initContainerStatuses": [begun, agent], "containerStatuses": []}
    end = job_end(FAILED, [failing])
    assert end is not None
    assert end.failure is not None
    assert (end.failure.reason, end.failure.index) == ("Lost", 0)
    assert end.failure.message == "init container agent ended with 2: no role"


def test_a_foreign_message_keeps_its_exception() -> None:
    end = job_end(FAILED, [pod(FAILED, 1, exit_code=1, message={"message": {"message": "ValueError: boom"}})])
    assert end is not None
    assert end.failure is not None
    assert (end.failure.exception, end.failure.message, end.failure.index) == ("ValueError", "boom", 1)


def test_a_failed_job_whose_pods_are_gone_is_silent() -> None:
    end = job_end(FAILED, [])
    assert end is not None
    assert end.failure is not None
    assert end.failure.reason == UNKNOWN
    assert end.report_missing


def test_the_jobs_own_policy_tells_of_preemption() -> None:
    end = job_end(job(ended="Failed", reason="PodFailurePolicy"), [])
    assert end is not None
    assert end.failure is not None
    assert end.failure.reason == PREEMPTED


@pytest.mark.parametrize(
    ("disrupted_at", "reason"), [(timedelta(0), PREEMPTED), (2 * SECOND, "Error")], ids=["before", "after"]
)
def test_a_disruption_is_the_cause_only_of_what_failed_after_it(disrupted_at: timedelta, reason: str) -> None:
    pods = [
        pod(FAILED, 0, exit_code=1, message=failed("boom", at=T0 + SECOND), at=T0 + SECOND),
        pod(FAILED, 1, exit_code=143, at=T0 + 3 * SECOND, conditions=disrupted(disrupted_at)),
    ]
    end = job_end(FAILED, pods)
    assert end is not None
    assert end.failure is not None
    assert end.failure.reason == reason


def test_a_report_without_a_time_zone_is_compared_as_utc() -> None:
    naive = {**failed("early", at=T0), "at": "2026-03-01T11:00:00"}
    pods = [pod(FAILED, 0, exit_code=1, message=failed("late", at=T0)), pod(FAILED, 1, exit_code=1, message=naive)]
    end = job_end(FAILED, pods)
    assert end is not None
    assert end.failure is not None
    assert end.failure.message == "early"


@pytest.mark.parametrize("index", ["9" * 63, "-1", "1e3", "\u00b2", "\u0663", "", "0x1"])
def test_an_index_that_no_job_has_is_none(index: str) -> None:
    made = pod(job(), exit_code=1, message="ValueError: x")
    made["metadata"]["labels"][INDEX_LABEL] = index
    assert first_failure([made]) == Failure(reason="Error", exception="ValueError", message="x", exit_code=1)
