"""What a standby hears, and in which order a new leader takes it up."""

from __future__ import annotations

from collections.abc import Iterator

from slipway.api.kinds import TRAINING_JOB, Object
from slipway.reconcile.cache import Cache
from slipway.reconcile.feed import Feed
from slipway.reconcile.queue import WorkQueue
from support.builders import controlled, job, training_job


def version(obj: Object, number: int) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(number)}}


class Standby:
    def __init__(self) -> None:
        self.queue = WorkQueue(lambda: 0.0)
        self.feed = Feed(Cache(), self.queue, (TRAINING_JOB,))

    def sees(self, obj: Object, number: int, *, deleted: bool = False) -> None:
        self.feed.on_event(version(obj, number), deleted=deleted)

    def leads(self) -> list[str]:
        """Names in the order in which they are taken up."""
        self.feed.lead()
        return list(self._taken())

    def _taken(self) -> Iterator[str]:
        while (key := self.queue.take()) is not None:
            yield key.name
            self.queue.done(key)


def test_a_new_leader_takes_up_first_what_changed_last():
    standby = Standby()
    for number, name in enumerate(("a", "b", "c"), start=1):
        standby.sees(training_job(name), number)
    standby.sees(controlled(job("b-1"), training_job("b")), 4)
    assert standby.leads() == ["b", "c", "a"]


def test_what_is_gone_is_not_taken_up():
    standby = Standby()
    standby.sees(training_job("a"), 1)
    standby.sees(training_job("b"), 2)
    standby.sees(training_job("b"), 3, deleted=True)
    assert standby.leads() == ["a"]
