"""The front end of a serving pod: the bytes that it forwards to Triton, and the requests that it refuses."""

from __future__ import annotations

import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.plan.deployment import manifests
from slipway.runtime.serving import frontend
from slipway.runtime.serving.frontend import Client, Drain, RequestError, Requests, behind, flag

HEAD = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: m\r\n"
WITH_LENGTH = HEAD + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n3;x=y\r\nell\r\n1\r\no\r\n0\r\nTrailer: t\r\n\r\n"
BARE = b"GET /v2/health/live HTTP/1.1\r\n\r\n"


def handed_on(*pieces: bytes) -> tuple[bytes, int]:
    """All that Triton gets, and how many requests that is."""
    requests, out, ended = Requests(), b"", 0
    for piece in pieces:
        more, count = requests.feed(piece)
        out, ended = out + more, ended + count
    assert requests.complete
    return out, ended


def test_a_request_passes_as_it_is():
    assert handed_on(WITH_LENGTH) == (WITH_LENGTH, 1)
    assert handed_on(BARE) == (BARE, 1)


def test_a_chunked_request_gets_a_length():
    assert handed_on(CHUNKED) == (WITH_LENGTH, 1)


@given(st.lists(st.sampled_from([WITH_LENGTH, CHUNKED, BARE]), min_size=1, max_size=5), st.data())
def test_where_the_bytes_are_cut_makes_no_difference(sent: list[bytes], data: st.DataObject):
    whole = b"".join(sent)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1))))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    expected = b"".join(WITH_LENGTH if one == CHUNKED else one for one in sent)
    assert handed_on(*pieces) == (expected, len(sent))


@pytest.mark.parametrize("size", [1, 1000, 100_000])
def test_a_body_reaches_triton_in_large_pieces_however_it_is_sent(size: int):
    body, requests = b"x" * 1_000_000, Requests()
    pieces = [HEAD + b"Content-Length: %d\r\n\r\n" % len(body)]
    pieces += [body[at : at + size] for at in range(0, len(body), size)]
    out = [more for piece in pieces if (more := requests.feed(piece)[0])]
    assert b"".join(out) == b"".join(pieces)
    assert min(len(one) for one in out[:-1]) >= frontend.PIECE_BYTES
    assert requests.complete


@pytest.mark.parametrize(
    ("framing", "status"),
    [
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "400"),
        (b"Content-Length: 5\r\nContent-Length: 5\r\n", "400"),
        (b"Content-Length: 5, 5\r\n", "400"),
        (b"Content-Length: -5\r\n", "400"),
        (b"Content-Length : 5\r\n", "400"),
        (b"Content-Length:\r\n 5\r\n", "400"),
        (b"A: b\nTransfer-Encoding: chunked\r\n", "400"),
        (b"A: b\rTransfer-Encoding: chunked\r\n", "400"),
        (b"Transfer-Encoding: gzip, chunked\r\n", "400"),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "400"),
        (b"Content-Length: 67108865\r\n", "413"),
        (b"Content-Length: " + b"9" * 5000 + b"\r\n", "413"),
        (b"A: " + b"b" * frontend.MAX_HEAD_BYTES, "431"),
    ],
)
def test_what_two_readers_could_understand_differently_is_refused(framing: bytes, status: str):
    with pytest.raises(RequestError) as refused:
        Requests().feed(HEAD + framing + b"\r\nhello")
    assert refused.value.status.startswith(status)


@pytest.mark.parametrize(
    ("chunks", "status"),
    [
        (b"-1\r\n", "400"),
        (b"0x5\r\nhello\r\n", "400"),
        (b"4\r\nhello\r\n", "400"),
        (b"1" * frontend.MAX_HEAD_BYTES, "400"),
        (b"4000001\r\n", "413"),
        (b"3000000\r\n" + b"x" * 0x3000000 + b"\r\n1000001\r\n", "413"),
    ],
)
def test_chunks_that_lie_or_are_too_many_are_refused(chunks: bytes, status: str):
    with pytest.raises(RequestError) as refused:
        Requests().feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    assert refused.value.status.startswith(status)


def test_a_client_that_waits_for_leave_gets_it_and_triton_is_not_asked():
    requests = Requests()
    requests.feed(HEAD + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    assert requests.awaited
    assert requests.feed(b"hello") == (WITH_LENGTH, 1)


class Wire:
    """Stands for a transport: keeps what is written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False


def answered(
    drain: Drain, *, age: float = 0.0, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
) -> bytes:
    client = Client(drain)
    client.opened = time.monotonic() - age
    client.transport, client._upstream = Wire(), Wire()  # type: ignore[assignment]
    client.data_received(WITH_LENGTH)
    client.answer(answer)
    client.answer(b"HTTP/1.1 of the body")
    return client.transport.written  # type: ignore[attr-defined, no-any-return]


def test_answers_tell_clients_to_leave_while_the_pod_drains_and_once_connections_are_old():
    drain = Drain(("", 0))
    plain = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 of the body"
    told = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 of the body"
    assert answered(drain) == plain
    assert answered(drain, age=frontend.MAX_CONNECTION_SECONDS + 1) == told
    drain.began = time.monotonic()
    assert answered(drain) == told


def test_triton_listens_for_http_on_this_machine_alone_and_restricts_by_a_key_of_each_start():
    command = ["tritonserver", "--http-port=8000", "--grpc-port=8001", "--http-address=0.0.0.0"]
    made, again = behind(command, "127.0.0.1", 4711), behind(command, "127.0.0.1", 4711)
    assert flag(made, "http-address", "") == "127.0.0.1"
    assert flag(made, "http-port", "") == "4711"
    assert flag(made, "metrics-address", "") == "0.0.0.0"  # noqa: S104
    assert sum(word.startswith("--http-port") for word in made) == 1
    keys = {
        flag(one, name, "") for one in (made, again) for name in ("http-restricted-api", "grpc-restricted-protocol")
    }
    assert len(keys) == 2
    assert all(key.startswith("shared-memory,model-repository,statistics,trace,logging:") for key in keys)


def test_every_busy_connection_gets_connection_close_before_idle_ones_are_closed():
    assert manifests.DRAIN_SECONDS == frontend.DRAIN_SECONDS
    assert frontend.IDLE_SECONDS > 1.1 * frontend.MAX_CONNECTION_SECONDS  # gRPC's age has a jitter of a tenth
    assert frontend.IDLE_SECONDS < frontend.DRAIN_SECONDS


def test_connections_are_counted_by_the_address_that_they_came_to():
    with socket.create_server(("127.9.9.9", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.9.9.9", port)):
            assert frontend.established("127.9.9.9", port) == 1
            assert frontend.established("0.0.0.0", port) == 1  # noqa: S104
            assert frontend.established("127.9.9.8", port) == 0
        server.accept()[0].close()
