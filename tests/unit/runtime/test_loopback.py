"""The stores by which ranks meet listen where they are told to, and nowhere else."""

from __future__ import annotations

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from slipway.runtime import loopback
from support.servers import free_ports


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("127.0.0.1", True), ("127.64.3.100", True), ("::1", True),
        ("10.0.0.1", False), ("192.168.1.7", False), ("digits-1-0.digits", False), ("localhost", False), (None, False),
    ],
)  # fmt: skip
def test_an_address_of_this_machine_alone_is_known_by_its_number(host: str | None, is_one: bool) -> None:
    assert loopback.is_loopback(host) is is_one


def test_a_store_listens_at_its_address_alone_and_answers_there() -> None:
    from torch.distributed import TCPStore

    store = loopback.listening_store("127.64.200.7", 0)
    client = TCPStore("127.64.200.7", store.port, is_master=False)
    store.set("a", "b")
    assert client.get("a") == b"b"
    told = subprocess.run(["ss", "-ltnp"], capture_output=True, text=True, check=True).stdout
    mine = [line.split()[3] for line in told.splitlines() if f"pid={os.getpid()}," in line]
    assert f"127.64.200.7:{store.port}" in mine
    assert [place for place in mine if not place.startswith("127.")] == []


def test_the_backend_is_registered_once_however_often_it_is_asked_for() -> None:
    from torch.distributed.elastic.rendezvous import rendezvous_handler_registry

    assert loopback.register() == loopback.register() == loopback.BACKEND
    assert loopback.BACKEND in rendezvous_handler_registry._registry


class Killed(Exception):
    """What the handler of a signal raises."""


def test_an_agent_that_a_signal_ends_while_it_waits_leaves_the_rendezvous_and_is_not_counted() -> None:
    """torch itself counts it for another 15 s, and the others would meet one that is gone."""
    from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters

    (port,) = free_ports(1)

    def agent(*, host: bool = False) -> RendezvousHandler:
        options = {"is_host": host, "read_timeout": 60, "timeout": 30}
        endpoint = f"127.0.0.1:{port}"
        return loopback._handler(RendezvousParameters(loopback.BACKEND, endpoint, "meet", 3, 3, "127.0.0.1", **options))

    def kill(_number: int, _frame: object) -> None:
        raise Killed

    first, lost = agent(host=True), agent()
    with ThreadPoolExecutor(3) as threads:
        met = [threads.submit(first.next_rendezvous)]
        before = signal.signal(signal.SIGALRM, kill)
        try:
            signal.setitimer(signal.ITIMER_REAL, 3)
            with pytest.raises(Killed):
                lost.next_rendezvous()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        met += [threads.submit(agent().next_rendezvous) for _ in range(2)]
        assert sorted(one.result(timeout=25).rank for one in met) == [0, 1, 2]
