"""Each pod has its own address, and a port of this machine passes connections on to the ready pods of a Service."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from slipway.api.kinds import Object
from slipway.local.network import (
    HOST,
    AddressError,
    Proxy,
    Target,
    choose_address,
    find_taken_ports,
    list_targets,
    reserve_block,
)


def test_two_runs_of_one_machine_have_different_blocks():
    with reserve_block() as first, reserve_block() as second:
        assert first != second
    with reserve_block() as again:
        assert again == first  # a run that has ended gives its block back


def test_later_pods_have_later_addresses_also_by_their_text():
    taken: list[str] = []
    for _ in range(150):
        taken.append(choose_address("127.64.0", taken))
    assert taken == sorted(taken)


def test_more_pods_than_addresses_are_refused():
    everything = [f"127.64.0.{number}" for number in range(256)]
    with pytest.raises(AddressError, match="pods at a time"):
        choose_address("127.64.0", everything)


def test_a_port_that_a_user_has_at_all_addresses_is_taken_at_ours_too():
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))  # noqa: S104 - that is the point
        other.listen()
        port = other.getsockname()[1]
        assert find_taken_ports("127.64.0.1", [port]) == [port]
    assert find_taken_ports("127.64.0.1", [port]) == []


def a_pod(address: str, *, ready: bool = True, **labels: str) -> Object:
    container = {"name": "triton", "ports": [{"name": "http", "containerPort": 8000}]}
    return {
        "metadata": {"name": address, "namespace": "default", "labels": {"app": "digits", **labels}},
        "spec": {"containers": [container]},
        "status": {"podIP": address, "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


PORT = {"name": "http", "port": 80, "targetPort": "http"}


def a_service(**selector: str) -> Object:
    return {"metadata": {"namespace": "default"}, "spec": {"selector": selector, "ports": [PORT]}}


def test_only_ready_pods_that_the_selector_names_are_reached_at_the_ports_number():
    pods = [a_pod("127.64.0.100"), a_pod("127.64.0.101", ready=False), a_pod("127.64.0.102", app="other")]
    assert list_targets(a_service(app="digits"), PORT, pods) == [("127.64.0.100", 8000)]


def test_a_service_without_a_selector_reaches_nobody():
    assert list_targets(a_service(), PORT, [a_pod("127.64.0.100")]) == []


@asynccontextmanager
async def answering(word: bytes) -> AsyncIterator[Target]:
    """A server that says the word, and what it was told."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(word + await reader.read())
        writer.close()

    server = await asyncio.start_server(answer, HOST, 0)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()


async def ask(port: int, question: bytes = b"") -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(question)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def test_connections_go_to_ready_pods_in_turn_with_what_is_said_both_ways():
    async with answering(b"one:") as first, answering(b"two:") as second:

        async def both() -> list[Target]:
            return [first, second]

        proxy = Proxy(both)
        port = await proxy.listen(0)
        answers = [await ask(port, b"hello") for _ in range(4)]
        await proxy.close()
    assert sorted(answers[:2]) == sorted(answers[2:]) == [b"one:hello", b"two:hello"]


async def test_without_a_ready_pod_a_connection_is_closed_at_once():
    async def nobody() -> list[Target]:
        return []

    proxy = Proxy(nobody)
    port = await proxy.listen(0)
    assert await ask(port) == b""
    await proxy.close()


async def test_where_its_port_is_taken_another_one_is_opened():
    async def nobody() -> list[Target]:
        return []

    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        taken = other.getsockname()[1]
        proxy = Proxy(nobody)
        port = await proxy.listen(taken)
        await proxy.close()
    assert port != taken
