"""The stores by which ranks meet listen where they are told to, and nowhere else."""

from __future__ import annotations

import os
import subprocess

import pytest

from slipway.runtime import loopback


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
