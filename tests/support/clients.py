"""Clients of a Triton that go on asking while a test changes what serves, and count each request that failed."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field

import numpy as np
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from demo.kubectl import Kubectl

REQUEST_SECONDS = 10
PAUSE_SECONDS = {True: 0.01, False: 0.05}
"""Between two requests of a kept connection (True), and between two connections: ports must last for minutes."""
SAMPLE = np.zeros((1, 28, 28), np.float32)

Ask = Callable[[], str]
"""One request; empty where the model answered, else what happened."""


@dataclass
class Tally:
    """answered: requests with an answer. failures: when (s from the start) and how each of the others ended."""

    answered: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Server:
    """Where a model is asked. http, grpc: HOST:PORT."""

    http: str
    grpc: str
    model: str = "digits"

    def input_name(self) -> str:
        """The name of the model's only input."""
        with closing(http.client.HTTPConnection(self.http, timeout=REQUEST_SECONDS)) as connection:
            connection.request("GET", f"/v2/models/{self.model}")
            (described,) = json.load(connection.getresponse())["inputs"]
        return str(described["name"])


def server_of(kubectl: Kubectl) -> Server:
    """The stable Service of the example, by its ClusterIP."""
    spec = (kubectl.get("service", "digits") or {})["spec"]
    port = {one["name"]: one["port"] for one in spec["ports"]}
    return Server(f"{spec['clusterIP']}:{port['http']}", f"{spec['clusterIP']}:{port['grpc']}")


@contextmanager
def four_clients(server: Server) -> Iterator[dict[str, Tally]]:
    """One client each of HTTP and gRPC, with a connection that it keeps and with a new one for each request.

    None tries a request again, and each asks without an end until the block does.
    """
    tallies: dict[str, Tally] = {}
    with ExitStack() as stack:
        for protocol in ("http", "grpc"):
            for kept in (True, False):
                tally = tallies[f"{protocol} {'kept' if kept else 'new'}"] = Tally()
                stack.enter_context(asking(server, protocol, tally, kept=kept))
        yield tallies


@contextmanager
def asking(server: Server, protocol: str, tally: Tally, *, kept: bool) -> Iterator[None]:
    """A thread that asks until the end of the block."""
    stop = threading.Event()
    name = server.input_name()
    connect = _http if protocol == "http" else _grpc
    thread = threading.Thread(target=_ask, args=(lambda: connect(server, name), tally, kept, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=2 * REQUEST_SECONDS)
    assert not thread.is_alive()


def _ask(connect: Callable[[], AbstractContextManager[Ask]], tally: Tally, kept: bool, stop: threading.Event) -> None:
    began = time.monotonic()
    while not stop.is_set():
        with connect() as ask:
            while not stop.is_set():
                error = ask()
                if error:
                    tally.failures.append((round(time.monotonic() - began, 1), error))
                else:
                    tally.answered += 1
                stop.wait(PAUSE_SECONDS[kept])
                if not kept:
                    break


@contextmanager
def _http(server: Server, name: str) -> Iterator[Ask]:
    """http.client opens the connection again where the last answer said that it would be closed, and only there."""
    tensor = {"name": name, "datatype": "FP32", "shape": list(SAMPLE.shape), "data": SAMPLE.tolist()}
    body = json.dumps({"inputs": [tensor]})
    with closing(http.client.HTTPConnection(server.http, timeout=REQUEST_SECONDS)) as connection:

        def ask() -> str:
            try:
                connection.request("POST", f"/v2/models/{server.model}/infer", body)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                return repr(error)
            return "" if answer.status == 200 else f"{answer.status}: {text[:200]!r}"

        yield ask


@contextmanager
def _grpc(server: Server, name: str) -> Iterator[Ask]:
    tensor = tritonclient.grpc.InferInput(name, list(SAMPLE.shape), "FP32")
    tensor.set_data_from_numpy(SAMPLE)
    own = [("grpc.use_local_subchannel_pool", 1)]  # channels to one address share a connection otherwise
    with tritonclient.grpc.InferenceServerClient(server.grpc, channel_args=own) as client:

        def ask() -> str:
            try:
                client.infer(server.model, [tensor], client_timeout=REQUEST_SECONDS)
            except InferenceServerException as error:
                return str(error)
            return ""

        yield ask
