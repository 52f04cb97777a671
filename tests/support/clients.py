"""Clients of a Triton that go on asking while a test changes what serves, and count what failed."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

REQUEST_SECONDS = 10
NEW_CONNECTION_SECONDS = 0.02
"""Between two connections: without it a minute uses up the ports of one client address."""
SAMPLE = [[[0.0] * 28] * 28]
"""One sample of the digits, [batch=1, 28, 28]."""


@dataclass
class Tally:
    """answered: requests with an answer. failures: when (s from the start) and how each of the others ended.

    retried: over a new connection.
    """

    answered: int = 0
    failures: list[str] = field(default_factory=list)
    retried: int = 0


@contextmanager
def asking(address: str, model: str, tally: Tally, *, keep_alive: bool) -> Iterator[None]:
    """A thread that asks without a pause until the end of the block.

    keep_alive: one connection for as long as it lasts, and once more over a new one where it broke, as HTTP clients
    with a pool do; otherwise a connection per request, and no second try.
    """
    stop = threading.Event()
    body = json.dumps({"inputs": [_input_of(address, model)]})
    thread = threading.Thread(target=_ask, args=(address, model, body, tally, keep_alive, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=2 * REQUEST_SECONDS)
    assert not thread.is_alive()


def _input_of(address: str, model: str) -> dict[str, object]:
    with closing(http.client.HTTPConnection(address, timeout=REQUEST_SECONDS)) as connection:
        connection.request("GET", f"/v2/models/{model}")
        (described,) = json.load(connection.getresponse())["inputs"]
    return {"name": described["name"], "datatype": described["datatype"], "shape": [1, 28, 28], "data": SAMPLE}


def _ask(address: str, model: str, body: str, tally: Tally, keep_alive: bool, stop: threading.Event) -> None:
    began = time.monotonic()
    with closing(http.client.HTTPConnection(address, timeout=REQUEST_SECONDS)) as connection:
        while not stop.is_set():
            error = _failure(connection, model, body)
            if error and keep_alive:
                connection.close()
                tally.retried += 1
                error = _failure(connection, model, body)
            if error:
                tally.failures.append(f"{time.monotonic() - began:.1f} s: {error}")
            else:
                tally.answered += 1
            if error or not keep_alive:
                connection.close()
                stop.wait(NEW_CONNECTION_SECONDS)


def _failure(connection: http.client.HTTPConnection, model: str, body: str) -> str:
    """Empty where the model answered."""
    try:
        connection.request("POST", f"/v2/models/{model}/infer", body)
        answer = connection.getresponse()
        text = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    return "" if answer.status == 200 else f"{answer.status}: {text[:200]!r}"
