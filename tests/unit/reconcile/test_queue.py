"""The work queue, on a clock that the tests move."""

from __future__ import annotations

import asyncio

import pytest

from slipway.api.kinds import TRAINING_JOB, Key
from slipway.reconcile.queue import WorkQueue

A, B = (Key(TRAINING_JOB, "default", name) for name in "ab")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue:
    return WorkQueue(clock, base_seconds=1.0, max_seconds=60.0)


def test_keys_come_in_the_order_they_were_added(queue: WorkQueue) -> None:
    queue.add(A)
    queue.add(B)
    assert [queue.take(), queue.take(), queue.take()] == [A, B, None]


def test_a_key_waits_once_however_often_it_is_added(queue: WorkQueue) -> None:
    queue.add(A)
    queue.add(A)
    assert len(queue) == 1
    assert [queue.take(), queue.take()] == [A, None]


def test_a_key_that_a_worker_has_comes_again_after_it_is_done(queue: WorkQueue) -> None:
    queue.add(A)
    assert queue.take() == A
    queue.add(A)
    assert queue.take() is None
    queue.done(A)
    assert queue.take() == A
    queue.done(A)
    assert queue.take() is None


def test_what_was_added_before_the_worker_looked_needs_no_further_turn(queue: WorkQueue) -> None:
    queue.add(A)
    assert queue.take() == A
    queue.add(A)
    queue.observed(A)
    queue.done(A)
    assert queue.take() is None
    queue.add(A)
    assert queue.take() == A
    queue.observed(A)
    queue.add(A)
    queue.done(A)
    assert queue.take() == A


def test_a_delayed_key_comes_when_it_is_due(queue: WorkQueue, clock: Clock) -> None:
    queue.add_after(A, 5.0)
    clock.now += 4.9
    assert queue.take() is None
    clock.now += 0.1
    assert queue.take() == A


def test_no_delay_is_now(queue: WorkQueue) -> None:
    queue.add_after(A, 0.0)
    queue.add_after(B, -3.0)
    assert [queue.take(), queue.take()] == [A, B]


@pytest.mark.parametrize("delays", [(5.0, 2.0), (2.0, 5.0)])
def test_of_several_delays_the_earliest_holds_and_the_others_are_forgotten(
    queue: WorkQueue, clock: Clock, delays: tuple[float, ...]
) -> None:
    for delay in delays:
        queue.add_after(A, delay)
    assert queue.seconds_to_next() == 2.0
    clock.now += 2.0
    assert queue.take() == A
    queue.done(A)
    clock.now += 10.0
    assert queue.take() is None


def test_taking_a_key_forgets_its_delay_because_the_round_decides_again(queue: WorkQueue, clock: Clock) -> None:
    queue.add_after(A, 5.0)
    queue.add(A)
    assert queue.take() == A
    queue.done(A)
    assert queue.seconds_to_next() is None
    clock.now += 6.0
    assert queue.take() is None


def test_a_delay_that_ends_while_a_worker_has_the_key_brings_it_again(queue: WorkQueue, clock: Clock) -> None:
    queue.add(A)
    assert queue.take() == A
    queue.add_after(A, 1.0)
    clock.now += 2.0
    assert queue.take() is None
    queue.done(A)
    assert queue.take() == A


def test_failures_wait_twice_as_long_each_time_up_to_the_limit(queue: WorkQueue) -> None:
    assert [queue.retry(A) for _ in range(8)] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert queue.retry(B) == 1.0


def test_a_thousand_failures_still_wait_the_limit(queue: WorkQueue) -> None:
    assert [queue.retry(A) for _ in range(2000)][-1] == 60.0


def test_success_makes_the_next_failure_the_first(queue: WorkQueue) -> None:
    queue.retry(A)
    queue.retry(A)
    queue.forget(A)
    assert queue.retry(A) == 1.0


def test_a_retry_waits_at_least_as_long_as_the_server_asked_for(queue: WorkQueue) -> None:
    assert queue.retry(A, at_least_seconds=30.0) == 30.0
    assert queue.retry(A, at_least_seconds=0.5) == 2.0


class Ear:
    """Keeps what the queue tells."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float | None]] = []

    def added(self, _key: Key) -> None:
        self.calls.append(("added", None))

    def taken(self, _key: Key, waited_seconds: float) -> None:
        self.calls.append(("taken", waited_seconds))

    def done(self, _key: Key, worked_seconds: float) -> None:
        self.calls.append(("done", worked_seconds))

    def retried(self, _key: Key) -> None:
        self.calls.append(("retried", None))


def test_it_tells_how_long_keys_waited_and_were_worked_on(clock: Clock) -> None:
    ear = Ear()
    queue = WorkQueue(clock, metrics=ear)
    queue.add(A)
    queue.add(A)
    clock.now += 3.0
    queue.take()
    clock.now += 2.0
    queue.done(A)
    assert ear.calls == [("added", None), ("taken", 3.0), ("done", 2.0)]


async def test_a_waiting_worker_gets_a_key_as_soon_as_it_is_added(queue: WorkQueue) -> None:
    workers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.add(A)
    queue.add(B)
    done, waiting = await asyncio.wait(workers, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    while len(done) < 2:
        more, waiting = await asyncio.wait(waiting, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        done |= more
    assert {task.result() for task in done} == {A, B}
    queue.close()
    assert await waiting.pop() is None


async def test_a_waiting_worker_wakes_for_a_delayed_key() -> None:
    queue = WorkQueue(asyncio.get_running_loop().time)
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add_after(A, 0.01)
    assert await asyncio.wait_for(waiting, 5) == A


async def test_a_closed_queue_gives_no_keys(queue: WorkQueue) -> None:
    queue.add(A)
    queue.close()
    assert await queue.get() is None
