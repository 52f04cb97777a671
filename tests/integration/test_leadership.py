"""A leader that is killed, paused, cut off or ended, and its follower; the API server's audit log says who wrote."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from slipway.controller.operator import LEASE_LOST
from support.accounts import Account
from support.apiserver import ApiServer
from support.audit import AuditLog, Call, audited_apiserver
from support.operator_process import OperatorProcess, running_operator
from support.stream import streams_to
from support.tcp_proxy import Cable, cable_to
from support.training_cluster import wait_for

RESTING = int(os.environ.get("TAKEOVER_JOBS", "200"))
"""TrainingJobs that both candidates know besides those that come and go."""
BURST = 60
"""TrainingJobs that are made at once just before the end, so that every worker of the leader has a write under way."""
SETTLE_SECONDS = 120 + RESTING / 5
FOLLOW_SECONDS = 60


@dataclass(frozen=True)
class Candidate:
    """One operator process, as an account of its own and by a way of its own to the API server."""

    account: Account
    operator: OperatorProcess
    cable: Cable

    def leads(self) -> bool:
        return self.operator.metrics()['leader_election_master_status{name="slipway-test"}'] == 1

    def idle(self) -> bool:
        """All changes that it was notified of are done."""
        return self.operator.metrics()['workqueue_depth{name="trainingjob"}'] == 0


Ending = Callable[[Candidate], AbstractContextManager[None]]
"""How a leader ends: its block is entered when that has begun, and left when another one leads and has written."""


@contextmanager
def killed(leader: Candidate) -> Iterator[None]:
    leader.operator.process.kill()
    yield


@contextmanager
def paused(leader: Candidate) -> Iterator[None]:
    leader.operator.process.send_signal(signal.SIGSTOP)
    yield
    leader.operator.process.send_signal(signal.SIGCONT)
    assert leader.operator.wait() == LEASE_LOST


@contextmanager
def cut_off(leader: Candidate) -> Iterator[None]:
    leader.cable.cut()
    yield
    assert leader.operator.wait() == LEASE_LOST
    assert leader.cable.held_bytes > 0
    leader.cable.restore()


@contextmanager
def ended(leader: Candidate) -> Iterator[None]:
    leader.operator.process.send_signal(signal.SIGTERM)
    yield
    assert leader.operator.wait() == 0


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApiServer, AuditLog]]:
    with audited_apiserver(tmp_path_factory.mktemp("audit")) as found:
        yield found


@pytest.mark.timeout(900 + RESTING)
@pytest.mark.parametrize(
    "ending",
    [killed, cut_off, pytest.param(paused, marks=pytest.mark.release), pytest.param(ended, marks=pytest.mark.release)],
)
def test_once_another_one_leads_nothing_that_the_old_leader_writes_changes_an_object(
    audited: tuple[ApiServer, AuditLog], tmp_path: Path, ending: Ending
) -> None:
    server, log = audited
    place = f"{ending.__name__.replace('_', '-')}-{uuid4().hex[:6]}"

    @contextmanager
    def candidate(name: str) -> Iterator[Candidate]:
        account = Account(place, name)
        account.make_administrator(server)
        flags = ("--namespace", place, "--namespace", f"{place}-rest", "--lease-namespace", place, "--identity", name)
        with cable_to(server.url) as cable:
            kubeconfig = account.kubeconfig(server, tmp_path / f"{name}.kubeconfig", url=cable.url)
            with running_operator(kubeconfig, tmp_path / name, *flags) as operator:
                operator.wait_until_ready()
                yield Candidate(account, operator, cable)

    with ExitStack() as stack:
        stream, rest = stack.enter_context(streams_to(server.kubeconfig, place, f"{place}-rest"))
        old = stack.enter_context(candidate("old"))
        wait_for(old.leads, "a leader", FOLLOW_SECONDS)
        new = stack.enter_context(candidate("new"))
        rest.make(f"rest-{number}" for number in range(RESTING))
        wait_for(old.idle, "all TrainingJobs at rest", SETTLE_SECONDS)
        with stream.flowing():
            wait_for(stream.succeeded, "some work")
            rest.make(f"burst-{number}" for number in range(BURST))
            ends_at = datetime.fromtimestamp(time.time(), UTC)
            with ending(old):
                wait_for(new.leads, "a follower", FOLLOW_SECONDS)
                made = stream.made
                wait_for(lambda: stream.succeeded() > made, "the follower's own work", FOLLOW_SECONDS)
                wait_for(new.idle, "all TrainingJobs at rest", SETTLE_SECONDS)
        wait_for(lambda: not stream.work() and stream.succeeded() == stream.made, "all to succeed", FOLLOW_SECONDS)
        took_over, first = _first_writes(log, new)
        late = [call for call in log.calls(old.account.user) if call.writes and call.ended > took_over.ended]
        assert [call for call in late if call.code < 300] == []
        assert late or ending is not cut_off, "nothing that was held back arrived: this tries nothing"
        assert new.operator.process.poll() is None
        for part, count in ((stream, stream.made), (rest, RESTING + BURST)):
            assert [len(job["status"]["attempts"]) for job in part.training_jobs()] == [1] * count
            assert len(part.jobs()) == count
    print(
        f"{ending.__name__}: {RESTING} resting TrainingJobs; the Lease is taken after"
        f" {(took_over.ended - ends_at).total_seconds():.2f} s,"
        f" the first object written after {(first.ended - ends_at).total_seconds():.2f} s;"
        f" late writes refused: {[(call.verb, call.resource, call.code) for call in late]}"
    )


def _first_writes(log: AuditLog, candidate: Candidate) -> tuple[Call, Call]:
    """The one that took the Lease, and the first one of anything else."""
    changes = [call for call in log.calls(candidate.account.user) if call.writes and call.code < 300]
    lease = next(call for call in changes if call.resource == "leases")
    return lease, next(call for call in changes if call.resource != "leases")
