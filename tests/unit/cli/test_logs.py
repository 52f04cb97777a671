"""`slipway logs`: whose lines, under which prefix, in which order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from typer.testing import Result

from slipway.api.errors import Forbidden
from slipway.api.kinds import Object
from slipway.cli.connections.logs import Line, Selection, Source, print_merged, started_containers
from support import statuses
from support.kubehttp import KubeHttp
from support.statuses import rank_pod, step_pod

Slipway = Callable[..., Result]


def log(*lines: tuple[int, str]) -> str:
    """Lines as the API server gives them with timestamps=true: the second of the day, and the text."""
    return "".join(f"2026-03-01T12:00:{second:02}.000000000Z {text}\n" for second, text in lines)


def prefixes(pods: Sequence[Object], **selection: object) -> list[str]:
    return [source.prefix for source in started_containers(pods, Selection(**selection))]  # type: ignore[arg-type]


def test_ranks_stand_behind_their_index_and_steps_behind_their_role() -> None:
    pods = [rank_pod(1), rank_pod(0), step_pod("prepare-train", started=5)]
    assert prefixes(pods) == ["prepare-train", "0", "1"]


def test_only_the_newest_attempt_is_shown_unless_another_is_asked_for() -> None:
    pods = [rank_pod(0, 1), rank_pod(0, 2), rank_pod(1, 2), step_pod("prepare-train")]
    assert [s.pod for s in started_containers(pods, Selection())] == [
        "digits-t-prepare-train",
        "digits-2-0",
        "digits-2-1",
    ]
    assert [s.pod for s in started_containers(pods, Selection(attempt=1))] == ["digits-1-0"]


def test_a_step_is_chosen_by_its_name_and_readers_of_lost_reports_only_then() -> None:
    pods = [rank_pod(0), step_pod("evaluate-baseline"), step_pod("recover")]
    assert prefixes(pods) == ["evaluate-baseline", "0"]
    assert prefixes(pods, step="evaluate-baseline") == ["evaluate-baseline"]
    assert prefixes(pods, step="recover") == ["recover"]


def test_serving_pods_are_told_apart_by_the_end_of_their_names() -> None:
    pods = [statuses.pod(f"digits-r1-{end}", {"slipway.dev/role": "serve"}) for end in ("abcde", "fghij")]
    assert prefixes(pods) == ["serve/abcde", "serve/fghij"]


def test_a_container_that_has_not_started_has_no_log_and_one_that_restarted_is_another_source() -> None:
    waiting = rank_pod(0)
    waiting["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ContainerCreating"}}
    assert prefixes([waiting]) == []
    again = rank_pod(0)
    again["status"]["containerStatuses"][0]["restartCount"] = 1
    assert len({*started_containers([rank_pod(0)], Selection()), *started_containers([again], Selection())}) == 2


def test_a_container_that_waits_for_its_next_start_shows_the_log_of_its_last_one() -> None:
    pod = rank_pod(0)
    (status,) = pod["status"]["containerStatuses"]
    ran = started_containers([pod], Selection())
    status["lastState"] = {"terminated": {"exitCode": 1, "startedAt": "2026-03-01T12:00:00Z"}}
    status["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert started_containers([pod], Selection()) == ran


def test_the_logs_of_all_ranks_are_merged_by_time(slipway: Slipway) -> None:
    logs = {"digits-1-0": log((1, "epoch 1"), (3, "epoch 2")), "digits-1-1": log((2, "epoch 1"))}
    server = KubeHttp([[statuses.running_training(), rank_pod(0), rank_pod(1)]], logs)
    result = slipway(server, "logs", "tj/digits")
    assert result.stdout == "[0] epoch 1\n[1] epoch 1\n[0] epoch 2\n"
    assert {query["container"] for query in server.queries} == {"main"}


async def test_where_one_log_is_refused_no_other_is_left_being_read() -> None:
    left = []

    class OneRefuses:
        async def lines(self, source: Source, **_: object) -> AsyncIterator[Line]:
            if source.prefix == "1":
                raise Forbidden("no")
            try:
                await asyncio.Event().wait()
                yield Line("", "")
            finally:
                left.append(source.prefix)

    with pytest.raises(Forbidden):
        await print_merged(
            OneRefuses(), started_containers([rank_pod(0), rank_pod(1)], Selection()), lambda *_: None, None
        )
    assert left == ["0"]


def test_timestamps_and_tail_are_passed_on(slipway: Slipway) -> None:
    server = KubeHttp([[statuses.running_training(), rank_pod(0)]], {"digits-1-0": log((1, "a b"))})
    result = slipway(server, "logs", "digits", "--timestamps", "--tail", "5")
    assert result.stdout == "[0] 2026-03-01T12:00:01.000000000Z a b\n"
    assert server.queries[0]["tailLines"] == "5"


def test_a_line_may_be_longer_than_any_buffer(slipway: Slipway) -> None:
    long = "x" * 3_000_000
    server = KubeHttp([[statuses.running_training(), rank_pod(0)]], {"digits-1-0": log((1, long), (2, "end"))})
    assert slipway(server, "logs", "tj/digits").stdout == f"[0] {long}\n[0] end\n"


def test_following_takes_up_pods_as_they_appear_and_ends_when_the_resource_has_settled(slipway: Slipway) -> None:
    states = [
        [statuses.running_training()],
        [statuses.running_training(), rank_pod(0)],
        [statuses.running_training(), rank_pod(0), rank_pod(1)],
        [statuses.finished_training(), rank_pod(0), rank_pod(1)],
    ]
    logs = {"digits-1-0": log((1, "zero")), "digits-1-1": log((2, "one"))}
    result = slipway(KubeHttp(states, logs), "logs", "tj/digits", "--follow")
    assert result.exit_code == 0
    assert result.stdout == "[0] zero\n[1] one\n"


@pytest.mark.parametrize("words", [[], ["--attempt", "7"], ["--step", "seal"]], ids=["", "attempt", "step"])
def test_no_log_to_show_is_one_line_and_exit_code_3(slipway: Slipway, words: list[str]) -> None:
    result = slipway(KubeHttp([[statuses.running_training()]]), "logs", "tj/digits", *words)
    assert result.exit_code == 3
    assert result.stderr.startswith("error: trainingjob/digits: no started container ")
    assert all(word.lstrip("-") in result.stderr for word in words)
