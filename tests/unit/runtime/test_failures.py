"""Reports of failed workers: the cause among several, in few bytes, with rank, exception and message."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slipway.api.errors import ArtifactError
from slipway.api.reports import MAX_REPORT_BYTES, encode_report, parse_report
from slipway.runtime.failures import Terminated, WorkerEnd, failed, first_failure, is_lost_connection, record

T0 = datetime(2026, 1, 1, tzinfo=UTC)
GLOO = "[../gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:42885"


def recorded(path: Path, error: BaseException, rank: int, exit_code: int = 1) -> WorkerEnd:
    """A worker that wrote this down."""
    record(error, path)
    return WorkerEnd(rank, exit_code, T0, json.loads(path.read_text()))


def deep(levels: int) -> None:
    if levels == 0:
        raise ValueError("sample 17 is " + "x" * 5000 + " at the end")
    deep(levels - 1)


def test_a_long_traceback_becomes_a_short_report(tmp_path: Path):
    try:
        deep(300)
    except ValueError as error:
        record(error, tmp_path / "error.json")
    data = json.loads((tmp_path / "error.json").read_text())
    report = failed(first_failure([WorkerEnd(1, 1, T0, data)]))
    encoded = encode_report(report)
    assert len(encoded) <= MAX_REPORT_BYTES
    told = parse_report(encoded)
    assert told is not None
    assert told.error is not None
    assert (told.error.exception, told.error.rank, told.error.exit_code) == ("ValueError", 1, 1)
    assert told.error.message.startswith("sample 17 is xxx")
    assert told.error.message.endswith(" at the end")


def test_a_lost_connection_is_a_consequence_even_when_it_is_noted_first(tmp_path: Path):
    lost = recorded(tmp_path / "0", RuntimeError(GLOO), rank=0)
    cause = recorded(tmp_path / "1", KeyError("label"), rank=1)
    error = first_failure([lost, cause]).error
    assert (error.exception, error.message, error.rank) == ("KeyError", "'label'", 1)
    alone = first_failure([lost]).error
    assert alone.exception == "PeerLost"
    assert "Connection closed by peer" in alone.message


def test_the_earliest_of_two_causes_is_reported(tmp_path: Path):
    first = recorded(tmp_path / "0", ValueError("first"), rank=3)
    second = recorded(tmp_path / "1", ValueError("second"), rank=0)
    assert first_failure([second, first]).error.message == "first"


def test_workers_that_the_agent_ended_are_not_the_cause():
    ended = WorkerEnd(rank=0, exit_code=-15, at=T0)
    killed = WorkerEnd(rank=1, exit_code=-9, at=T0 + timedelta(seconds=1))
    error = first_failure([ended, killed]).error
    assert (error.exception, error.rank, error.exit_code) == ("SIGKILL", 1, 137)
    assert "memory limit" in error.message


def test_a_worker_without_an_error_file_is_reported_by_its_exit_code():
    error = first_failure([WorkerEnd(rank=2, exit_code=7, at=T0)]).error
    assert (error.exit_code, error.rank) == (7, 2)
    assert "exited with code 7" in error.message


def test_what_torch_itself_recorded_is_understood():
    """A script with torch's own @record, under plain torchrun's format."""
    data = {"message": {"message": "ValueError: odd: 3", "extraInfo": {"py_callstack": "...", "timestamp": "1"}}}
    error = first_failure([WorkerEnd(rank=0, exit_code=1, at=T0, data=data)]).error
    assert (error.exception, error.message, error.rank) == ("ValueError", "odd: 3", 0)


@pytest.mark.parametrize(
    ("name", "message", "lost"),
    [
        ("RuntimeError", GLOO, True),
        ("DistBackendError", "NCCL communicator was aborted on rank 0", True),
        ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied", False),
        ("ValueError", "Connection closed by peer", False),
    ],
)
def test_only_collectives_lose_peers(name: str, message: str, lost: bool):
    assert is_lost_connection(name, message) is lost


def test_sigterm_is_reported_by_its_name():
    error = failed(Terminated(15)).error
    assert error is not None
    assert (error.exception, error.exit_code) == ("SIGTERM", 143)


def test_a_message_that_no_text_can_hold_is_reported_with_escapes():
    report = failed(ArtifactError("the folder holds only \udcff.dat"))
    assert report.error is not None
    assert report.error.message == "the folder holds only \\udcff.dat"
