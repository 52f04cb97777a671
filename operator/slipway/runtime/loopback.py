"""A rendezvous backend whose stores listen only on the loopback address, for agents of one machine.

torch's TCPStore listens on all addresses and unpickles messages of every client. On a network of pods a NetworkPolicy
keeps other clients away; without a cluster, and for a node that trains alone, nothing does.
"""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from datetime import timedelta

from torch._C._distributed_c10d import Store, TCPStore
from torch.distributed.elastic.rendezvous import (
    RendezvousError,
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    rendezvous_handler_registry,
)
from torch.distributed.elastic.rendezvous.api import RendezvousConnectionError
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend, create_backend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import (
    DynamicRendezvousHandler,
    RendezvousTimeout,
    _RendezvousExitOp,
)
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint

BACKEND = "slipway"
"""Name of the backend: c10d with another address of its stores."""
READ_TIMEOUT = timedelta(seconds=60)


def register() -> str:
    """Register the backend with torch; returns its name."""
    with suppress(ValueError):  # already registered
        rendezvous_handler_registry.register(BACKEND, _handler)
    return BACKEND


def is_loopback(host: str | None) -> bool:
    """Return True for an address in 127.0.0.0/8 and for ::1; False for names."""
    try:
        return host is not None and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening_store(host: str, port: int) -> TCPStore:
    """Return a store that listens only at that address; port 0 takes a free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        store = TCPStore(
            host,
            bound.getsockname()[1],
            is_master=True,
            wait_for_workers=False,
            timeout=READ_TIMEOUT,
            master_listen_fd=bound.fileno(),
        )
        bound.detach()  # now owned by the store
    return store


class _Handler(DynamicRendezvousHandler):
    def get_backend(self) -> str:
        return BACKEND

    def next_rendezvous(self) -> RendezvousInfo:
        """Join, and leave again if a signal ends the wait: torch counts a node that is gone for another 15 s."""
        try:
            return super().next_rendezvous()
        except RendezvousError:
            raise
        except BaseException:
            with suppress(Exception):  # the store may be gone
                self._op_executor.run(_RendezvousExitOp(), self._get_deadline(timedelta(seconds=5)))
            raise

    def _create_tcp_store_server(self, master_addr: str, master_port: int) -> TCPStore:
        """Return the store that the ranks of the workers connect to (env://)."""
        if is_loopback(master_addr):
            return listening_store(master_addr, master_port)
        store: TCPStore = super()._create_tcp_store_server(master_addr, master_port)
        return store


def _handler(parameters: RendezvousParameters) -> RendezvousHandler:
    backend, store = _backend(parameters)
    seconds = parameters.get_as_int("timeout", 600)
    return _Handler.from_backend(  # type: ignore[no-any-return]
        parameters.run_id,
        store,
        backend,
        parameters.min_nodes,
        parameters.max_nodes,
        parameters.local_addr,
        RendezvousTimeout(join=timedelta(seconds=seconds or 600)),
    )


def _backend(parameters: RendezvousParameters) -> tuple[C10dRendezvousBackend, Store]:
    if parameters.get("store_type", "tcp") != "tcp" or not parameters.get_as_bool("is_host"):
        return create_backend(parameters)
    host, port = parse_rendezvous_endpoint(parameters.endpoint, default_port=0)
    if not is_loopback(host):
        return create_backend(parameters)
    try:
        store = listening_store(host, port)
    except (OSError, RuntimeError) as error:
        raise RendezvousConnectionError(f"no store can listen at {host}:{port}: {error}") from error
    return C10dRendezvousBackend(store, parameters.run_id), store
