"""Stores of torch that listen on this machine alone, where all that meets is on it.

torch's TCPStore listens on all addresses, and takes a pickle from whoever reaches it. On a network of pods a
NetworkPolicy keeps others away; without a cluster, and for a node that needs no others, nothing does.
"""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from datetime import timedelta

from torch._C._distributed_c10d import Store, TCPStore
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters, rendezvous_handler_registry
from torch.distributed.elastic.rendezvous.api import RendezvousConnectionError
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend, create_backend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler, RendezvousTimeout
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint

BACKEND = "slipway"
"""c10d, but for where its stores listen."""
READ_TIMEOUT = timedelta(seconds=60)


def register() -> str:
    """Make the backend known to torch; returns its name."""
    with suppress(ValueError):  # it is known already
        rendezvous_handler_registry.register(BACKEND, _handler)
    return BACKEND


def is_loopback(host: str | None) -> bool:
    """Whether it is an address of 127.0.0.0/8 or ::1, by its number."""
    try:
        return host is not None and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening_store(host: str, port: int) -> TCPStore:
    """A store that listens at that address alone; port 0 is any that is free."""
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
        bound.detach()  # the store's from now on
    return store


class _Handler(DynamicRendezvousHandler):
    def get_backend(self) -> str:
        return BACKEND

    def _create_tcp_store_server(self, master_addr: str, master_port: int) -> TCPStore:
        """The store of the workers, which their ranks connect to (env://)."""
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
