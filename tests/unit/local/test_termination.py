"""A container's termination message, as the kubelet would have it."""

from __future__ import annotations

from pathlib import Path

from slipway.local.container import read_termination_message

FALLBACK = {"terminationMessagePolicy": "FallbackToLogsOnError"}


def message_of(
    tmp_path: Path, *, file: str = "", log: str = "", exit_code: int = 1, container: object = FALLBACK
) -> str:
    (tmp_path / "message").write_text(file)
    (tmp_path / "log").write_text(log)
    return read_termination_message(container, tmp_path / "message", tmp_path / "log", exit_code)


def test_the_file_goes_before_the_log(tmp_path: Path):
    assert message_of(tmp_path, file="report", log="noise") == "report"


def test_only_the_end_of_a_long_file_is_kept(tmp_path: Path):
    assert message_of(tmp_path, file="a" * 5000 + "end") == ("a" * 5000 + "end")[-4096:]


def test_a_failed_container_that_wrote_none_leaves_the_end_of_its_log(tmp_path: Path):
    lines = [f"line {number}\n" for number in range(100)]
    assert message_of(tmp_path, log="".join(lines)) == "".join(lines[-80:])


def test_a_container_that_succeeded_leaves_nothing_of_its_log(tmp_path: Path):
    assert message_of(tmp_path, log="noise", exit_code=0) == ""


def test_without_the_policy_the_log_is_not_taken(tmp_path: Path):
    assert message_of(tmp_path, log="noise", container={}) == ""
