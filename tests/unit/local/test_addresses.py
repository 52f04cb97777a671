"""Addresses of pods: one for each, none of another run's, in an order that torchrun keeps."""

from __future__ import annotations

import socket

import pytest

from slipway.local.addresses import AddressError, block, next_address, taken_ports


def test_two_runs_of_one_machine_have_different_blocks():
    with block() as first, block() as second:
        assert first != second
    with block() as again:
        assert again == first  # a run that has ended gives its block back


def test_later_pods_have_later_addresses_also_by_their_text():
    taken: list[str] = []
    for _ in range(150):
        taken.append(next_address("127.64.0", taken))
    assert taken == sorted(taken)


def test_more_pods_than_addresses_are_refused():
    everything = [f"127.64.0.{number}" for number in range(256)]
    with pytest.raises(AddressError, match="pods at a time"):
        next_address("127.64.0", everything)


def test_a_port_that_somebody_has_at_all_addresses_is_taken_at_ours_too():
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))  # noqa: S104 - that is the point
        other.listen()
        port = other.getsockname()[1]
        assert taken_ports("127.64.0.1", [port]) == [port]
    assert taken_ports("127.64.0.1", [port]) == []
