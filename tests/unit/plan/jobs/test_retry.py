"""The retry policy by itself: causes, counters, waits."""

from __future__ import annotations

from datetime import timedelta

import pytest

from slipway.api.status import Failure
from slipway.plan.jobs.retry import Cause, Limit, NeverRetry, RetryPolicy, Tally, cause_of, no_retry_reason
from support.builders import T0

MINUTE = timedelta(minutes=1)
POLICY = RetryPolicy(
    {"failures": Limit(2, MINUTE, 5 * MINUTE), "disruptions": Limit(None, MINUTE, 5 * MINUTE)},
    counted_as={Cause.UNREPORTED: "disruptions"},
    reset_after=10 * MINUTE,
    never=NeverRetry(frozenset({42}), frozenset({"BadConfig"}), "spec.restarts.never"),
)


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (None, Cause.UNREPORTED),
        (Failure(reason="Error", exception="ValueError"), Cause.OWN),
        (Failure(reason="a word of the next version"), Cause.OWN),
        (Failure(reason="OOMKilled", exit_code=137), Cause.OWN),
        (
            Failure(reason="Evicted", message='Container main exceeded its local ephemeral storage limit "1Gi". '),
            Cause.OWN,
        ),
        (Failure(reason="Evicted"), Cause.OWN),
        (Failure(reason="Evicted", message="The node had condition: [MemoryPressure]. "), Cause.DISRUPTED),
        (Failure(reason="Preempted"), Cause.DISRUPTED),
        (Failure(reason="OutOfnvidia.com/gpu"), Cause.DISRUPTED),
        (Failure(reason="NodeLost"), Cause.NODE_LOST),
        (Failure(reason="Error", exception="InputMissing"), Cause.INPUT_MISSING),
        (Failure(reason="Error", exception="StoreAway"), Cause.STORE_AWAY),
        (Failure(reason="Error", exception="ImportError"), Cause.INCURABLE),
        (Failure(reason="Error", exit_code=127), Cause.INCURABLE),
        (Failure(reason="Error", exception="SystemExit", exit_code=127), Cause.OWN),
    ],
)
def test_what_a_failure_says_of_the_next_try(failure: Failure | None, cause: Cause) -> None:
    assert cause_of(failure) is cause


def test_a_name_that_the_user_gave_is_found_with_its_module_too() -> None:
    failure = Failure(reason="Error", exception="mine.BadConfig")
    assert POLICY.cause(failure) is Cause.INCURABLE
    assert no_retry_reason(failure, POLICY.never) == 'spec.restarts.never.exceptions names "mine.BadConfig"'


def test_a_wait_doubles_up_to_its_cap_however_often_the_cause_was_met() -> None:
    waits = [Limit(None, MINUTE, 5 * MINUTE).wait(count) / MINUTE for count in (0, 1, 2, 3, 4, 10**6)]
    assert waits == [1, 1, 2, 4, 5, 5]
    assert Limit(None, timedelta(days=99_999), 5 * MINUTE).wait(10**6) == 5 * MINUTE


def test_failures_are_counted_for_good_and_disruptions_until_a_try_ran_for_long() -> None:
    tally = POLICY.counted(Tally(), Cause.OWN, timedelta(0))
    for _ in range(3):
        tally = POLICY.counted(tally, Cause.NODE_LOST, timedelta(0))
    assert (tally.failures, tally.disruptions) == (1, 3)
    assert POLICY.counted(tally, Cause.UNREPORTED, 10 * MINUTE) == Tally(failures=1, disruptions=1)
    assert POLICY.counted(tally, Cause.OWN, 10 * MINUTE).failures == 2


def test_no_try_follows_a_spent_limit_or_an_incurable_cause() -> None:
    assert POLICY.retry_at(Tally(failures=2), Cause.OWN, T0) == T0 + 2 * MINUTE
    assert POLICY.retry_at(Tally(failures=3), Cause.OWN, T0) is None
    assert POLICY.retry_at(Tally(), Cause.INCURABLE, T0) is None
    assert POLICY.counted(Tally(), Cause.INCURABLE, MINUTE) == Tally()
    assert not POLICY.spent(Tally(disruptions=10**6), Cause.DISRUPTED)
