"""Addresses of pods: every address of 127.0.0.0/8 can be bound on Linux, so each pod has one, with all its ports."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from slipway.api.errors import SlipwayError

_GUARD_PORT = 29399
"""Bound at the first address of a block by the run that has the block; UDP, so that nobody can connect to it."""
_FIRST, _LAST = 100, 254
"""Of the last number: all have three digits, so addresses sort by their text, as torchrun sorts its agents."""


class AddressError(SlipwayError):
    """No address is left, or none can be bound."""


@contextmanager
def block() -> Iterator[str]:
    """`127.64.N`, with N that no other run of this machine has. Raises AddressError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as guard:
        for number in range(256):
            prefix = f"127.64.{number}"
            try:
                guard.bind((f"{prefix}.1", _GUARD_PORT))
            except OSError:
                continue
            yield prefix
            return
    raise AddressError("no block of addresses in 127.64.0.0/16 can be bound: local runs need Linux")


def next_address(prefix: str, taken: Collection[str]) -> str:
    """The lowest that is free: asked in turn, later pods of a Job have later addresses. Raises AddressError."""
    for number in range(_FIRST, _LAST + 1):
        address = f"{prefix}.{number}"
        if address not in taken:
            return address
    raise AddressError(f"more than {_LAST - _FIRST + 1} pods at a time do not fit on one machine")


def free_port(address: str) -> int:
    """A port that nothing listens on at that address."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def taken_ports(address: str, ports: Collection[int]) -> list[int]:
    """Those that cannot be bound there: somebody listens on them at all addresses."""
    taken = []
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                taken.append(port)
    return taken
