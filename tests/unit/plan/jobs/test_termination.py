"""Texts are those of torchrun 2.15, as the kubelet takes them from the end of a log."""

from __future__ import annotations

import json

import pytest

from slipway.plan.jobs.termination import TerminationMessage, parse_termination_message

LAUNCHER = """  File "/env/torch/distributed/launcher/api.py", line 386, in launch_agent
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
train.py FAILED
------------------------------------------------------------
Failures:
[1]:
  time      : 2026-11-24_04:09:19
  host      : localhost
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 5132)  (SIGTERM)
  error_file: <N/A>
  traceback : Signal 15 (SIGTERM) received by PID 5132
------------------------------------------------------------
Root Cause (first observed failure):
"""
END = "\n============================================================\n"
RECORDED = """[0]:
  time      : 2026-11-24_04:09:18
  host      : localhost
  rank      : 1 (local_rank: 1)
  exitcode  : 1 (pid: 5133)
  error_file: /tmp/torchelastic_6ietsr18/x_2cywq8ra/attempt_0/1/error.json
  traceback : Traceback (most recent call last):
    File "/src/train.py", line 12, in main
      deep()
      ^^^^^^
    File "/src/train.py", line 5, in deep
      raise ValueError("boom")
  ValueError: boom
"""
UNRECORDED = """[0]:
  time      : 2026-11-24_04:09:18
  host      : localhost
  rank      : 3 (local_rank: 1)
  exitcode  : 1 (pid: 5133)
  error_file: <N/A>
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html"""
KILLED = """[0]:
  time      : 2026-11-24_04:09:18
  host      : localhost
  rank      : 1 (local_rank: 1)
  exitcode  : -9 (pid: 5133)  (SIGKILL)
  error_file: <N/A>
  traceback : Signal 9 (SIGKILL) received by PID 5133"""
WORKER = "KeyError: 'pixels'\nW1124 04:09:32 5193 api.py:1028] Sending process 5623 closing signal SIGTERM\n"
FILE = {"message": {"message": "ValueError: boom", "extraInfo": {"py_callstack": "..."}, "errorCode": 2}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUNCHER + RECORDED + END, TerminationMessage("ValueError", "boom", rank=1, exit_code=1)),
        (LAUNCHER + KILLED + END, TerminationMessage("SIGKILL", "killed by SIGKILL", rank=1, exit_code=137)),
        (WORKER + LAUNCHER + UNRECORDED + END, TerminationMessage("KeyError", "'pixels'", rank=3, exit_code=1)),
        (LAUNCHER + UNRECORDED + END, TerminationMessage(rank=3, exit_code=1)),
        (json.dumps(FILE), TerminationMessage("ValueError", "boom", exit_code=2)),
        (json.dumps({"message": "no name"}), TerminationMessage(message="no name")),
        ("killed", TerminationMessage(message="killed")),
        ("", TerminationMessage()),
        ("{", TerminationMessage(message="{")),
        ("[" * 4000, TerminationMessage(message="[" * 4000)),
        ('{"message": 7}', TerminationMessage(message='{"message": 7}')),
    ],
    ids=[
        "a script with @record",
        "a worker killed by a signal",
        "a script without @record, its own last line still in the log",
        "a script without @record and nothing more",
        "torchrun's error file",
        "an error file without an exception's name",
        "a foreign text",
        "nothing",
        "half a file",
        "JSON nested too deep",
        "JSON of another shape",
    ],
)
def test_last_words_are_read_from(text: str, words: TerminationMessage) -> None:
    assert parse_termination_message(text) == words


def test_a_traceback_with_only_its_end_left_still_names_the_exception() -> None:
    cut = (LAUNCHER + RECORDED.replace("      deep()\n", "      deep()\n" * 2000) + END)[-400:]
    assert "rank" not in cut
    assert parse_termination_message(cut) == TerminationMessage("ValueError", "boom")


def test_a_message_of_several_lines_is_kept_whole() -> None:
    text = (
        LAUNCHER + RECORDED.replace("ValueError: boom", "mylib.errors.ShapeError: expected\n  (1, 2)\n  got (3,)") + END
    )
    words = parse_termination_message(text)
    assert (words.exception, words.message) == ("ShapeError", "expected\n(1, 2)\ngot (3,)")


def test_a_launcher_that_fails_itself_is_named_by_its_own_exception() -> None:
    text = (
        "Traceback (most recent call last):\n"
        '  File "/env/bin/torchrun", line 10, in <module>\n'
        "    sys.exit(main())\n"
        "torch.distributed.elastic.rendezvous.api.RendezvousConnectionError: The connection has failed.\n"
    )
    assert parse_termination_message(text) == TerminationMessage(
        "RendezvousConnectionError", "The connection has failed."
    )


def test_half_a_surrogate_pair_in_an_error_file_is_replaced():
    assert parse_termination_message(r'{"message": {"message": "ValueError: \ud800 boom"}}').message == "? boom"


@pytest.mark.parametrize("digits", ["9" * 10, "9" * 23, "9" * 2000])
def test_numbers_that_no_process_has_are_left_out(digits: str) -> None:
    told = f"  rank      : {digits} (local_rank: 0)\n  exitcode  : -{digits} ()\n"
    assert parse_termination_message(f"Root Cause (first observed failure):\n[0]:\n{told}") == TerminationMessage()
