"""`slipway status`, `logs` and `predict` with --local: of a run at work, one that has ended, one that was killed."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from slipway.api.kinds import SERVICE, Key, Object, key_of
from slipway.cli.commands.local_run import ContainerFailures, address_lines, state_option
from slipway.cli.commands.status import active_only
from slipway.cli.connections import connect
from slipway.cli.connections import local as local_connection
from slipway.cli.connections.logs import Selection, Source, started_containers
from slipway.cli.connections.resources import find_resources
from slipway.cli.main import app, complete
from slipway.cli.rendering.errors import CommandError
from slipway.cluster.twin import WatchEvent
from slipway.local.pod import render_disruption
from slipway.local.snapshot import write_run_info
from slipway.local.state import StateFolder, is_locked, open_state_folder
from support import statuses
from support.local_state import at_work, left, write_log
from support.statuses import rank_pod

TRAINING, SERVING = statuses.finished_training(), statuses.serving_deployment()
NAMESPACE = TRAINING["metadata"]["namespace"]
SERVICE_KEY = Key(SERVICE, NAMESPACE, "digits")
HTTP = {(SERVICE_KEY, "http"): "127.0.0.1:8123"}

Local = Callable[..., Result]
Follow = Callable[[Source, list[str]], Awaitable[None]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_connection, "EVERY_SECONDS", 0.01)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def local(root: Path) -> Local:
    """`local("status", "digits")`."""

    def run(*words: str) -> Result:
        result = CliRunner().invoke(app, [*words, f"--namespace={NAMESPACE}", f"--state={root}"])
        assert "Traceback" not in result.output
        return result

    return run


async def endpoint(root: Path, deployment: Object, protocol: str = "http") -> str:
    async with connect(None, NAMESPACE, root) as connection, connection.endpoint(deployment, protocol) as place:
        return place.address


def test_the_status_of_what_is_brought_on_is_that_of_a_cluster_without_a_remark(root: Path, local: Local):
    with at_work(left(root, TRAINING, SERVING), TRAINING, SERVING):
        result = local("status", "digits")
    assert (result.exit_code, result.stderr) == (0, "")
    assert all(word in result.stdout for word in ("Attempts", "Revisions", "passed: accuracy 0.9704 -> 0.9685"))


def test_the_address_that_status_names_is_one_that_this_machine_reaches(root: Path, local: Local):
    with at_work(left(root, TRAINING, SERVING), SERVING, addresses=HTTP):
        for words in (("status", "md/digits"), ("status", "md/digits", "-o", "json")):
            said = local(*words).stdout
            assert "http://127.0.0.1:8123" in said
            assert "team.svc" not in said
    assert "http://" not in local("status", "md/digits").stdout  # nothing answers where nothing runs


def test_what_a_run_left_is_shown_with_the_word_that_nothing_runs(root: Path, local: Local):
    left(root, TRAINING, SERVING)
    result = local("status", "-o", "json")
    assert result.exit_code == 0
    assert result.stderr.startswith(f"nothing runs in {root}, and this is how the last run left it at ")
    assert '"kind": "List"' in result.stdout


def test_what_a_killed_run_said_of_itself_is_not_believed(root: Path, local: Local):
    state = left(root, SERVING)
    write_run_info(state, os.getpid(), [key_of(SERVING)], HTTP)
    assert "nothing runs in" in local("status").stderr
    with pytest.raises(CommandError, match="nothing runs in"):
        asyncio.run(endpoint(root, SERVING))
    with open_state_folder(root):
        assert not state.run.exists()


def test_what_the_run_at_work_was_not_given_is_told_apart(root: Path, local: Local):
    with at_work(left(root, TRAINING, SERVING), TRAINING):
        listed, watched, named = local("status"), local("status", "--watch"), local("status", "md/digits", "-w")
        with pytest.raises(CommandError, match="in no file of the one at work: modeldeployment/digits"):
            asyncio.run(endpoint(root, SERVING))
    assert "in no file of the one at work: modeldeployment/digits\n" in listed.stderr
    assert watched.exit_code == 0
    assert "modeldeployment" not in watched.stdout
    assert (named.exit_code, named.stdout) == (4, "")


def test_nothing_is_waited_for_where_nothing_runs(root: Path, local: Local):
    left(root, SERVING)
    result = local("status", "--watch")
    assert result.exit_code == 4
    assert "nothing runs in" in result.stderr


async def test_what_settled_before_its_run_ended_has_settled_and_nothing_else_is_waited_for(root: Path):
    for job, ends in ((TRAINING, True), (statuses.running_training(), False)):
        state = left(root, job)
        with at_work(state, job):
            connection = await local_connection.open_state(root, NAMESPACE)
            look = active_only(partial(find_resources, connection.cluster, NAMESPACE, None), connection)
            (seen,) = await look()
        if ends:
            assert await look() == [seen]
        else:
            with pytest.raises(CommandError, match="nothing runs in"):
                await look()


async def test_a_run_that_is_only_beginning_is_waited_for(root: Path):
    state = left(root, SERVING)
    with open_state_folder(root):
        asking = asyncio.create_task(endpoint(root, SERVING))
        done, _ = await asyncio.wait([asking], timeout=0.1)
        assert not done
        write_run_info(state, os.getpid(), [key_of(SERVING)], HTTP)
        assert await asking == "127.0.0.1:8123"


def test_a_model_is_found_by_its_name_through_the_port_of_its_service(root: Path):
    with at_work(left(root, SERVING), SERVING, addresses=HTTP):
        assert asyncio.run(endpoint(root, SERVING)) == "127.0.0.1:8123"
        with pytest.raises(CommandError, match="service digits has no port for grpc"):
            asyncio.run(endpoint(root, SERVING, "grpc"))
    compressing = statuses.compressing_deployment()
    with at_work(left(root, compressing), compressing), pytest.raises(CommandError, match="does not serve a model yet"):
        asyncio.run(endpoint(root, compressing))


def test_to_ask_whether_a_run_is_at_work_never_keeps_one_from_beginning(root: Path):
    assert not is_locked(root)
    with open_state_folder(root):
        assert is_locked(root)
    assert not is_locked(root)


def test_logs_are_read_from_files_behind_the_prefixes_of_a_cluster(root: Path, local: Local):
    zero, one = rank_pod(0), rank_pod(1)
    state = left(root, TRAINING, zero, one)
    write_log(state, zero, "epoch 1", "epoch 2", "ä")
    write_log(state, one, "epoch 1")
    assert sorted(local("logs", "tj/digits").stdout.splitlines()) == [
        "[0] epoch 1",
        "[0] epoch 2",
        "[0] ä",
        "[1] epoch 1",
    ]
    assert local("logs", "tj/digits", "--tail", "1").stdout == "[0] ä\n[1] epoch 1\n"
    assert local("logs", "tj/digits", "--tail", "0").stdout == ""
    refused = local("logs", "tj/digits", "--timestamps")
    assert refused.exit_code == 2
    assert "--timestamps does not work with --local" in refused.stderr


@pytest.fixture
def follow(root: Path) -> Follow:
    async def said_by(source: Source, said: list[str]) -> None:
        async with connect(None, NAMESPACE, root) as connection, connection.logs() as logs:
            async for line in logs.lines(source, follow=True, after="", tail=None):
                said.append(line.text)  # noqa: PERF401 - seen by the test as it comes

    return said_by


async def test_a_log_is_followed_until_its_container_or_its_run_has_ended(root: Path, follow: Follow):
    pod = rank_pod(0)
    state = left(root, TRAINING, pod)
    path = write_log(state, pod, "begun")
    (source,) = started_containers([pod], Selection())
    said: list[str] = []
    with at_work(state, TRAINING):
        following = asyncio.create_task(follow(source, said))
        while not said:
            await asyncio.sleep(0.01)
        with path.open("a") as file:
            file.write("half")
        pod["status"]["containerStatuses"][0]["state"] = {"terminated": {"exitCode": 0}}
        left(root, TRAINING, pod)
        await asyncio.wait_for(following, 10)
    assert said == ["begun", "half"]


async def test_the_log_of_an_init_container_is_followed_too(root: Path, follow: Follow):
    pod = statuses.pod("digits-r1-abc", {"slipway.dev/role": "serve"})
    (init,) = pod["status"]["initContainerStatuses"] = pod["status"]["containerStatuses"]
    init["state"] = {"terminated": {"exitCode": 0}}
    pod["status"]["containerStatuses"] = [{**init, "name": "triton", "state": {"waiting": {}}}]
    state = left(root, SERVING, pod)
    write_log(state, pod, "fetched")
    (source,) = started_containers([pod], Selection())
    said: list[str] = []
    with at_work(state, SERVING):
        await asyncio.wait_for(follow(source, said), 10)
    assert said == ["fetched"]


def test_a_folder_in_which_no_run_has_been_is_named(root: Path, local: Local):
    for words in (["status"], ["logs", "digits"]):
        result = local(*words)
        assert result.exit_code == 3
        assert f"no local run has been in {root}" in result.stderr
    assert not root.exists()


def test_a_local_run_has_no_context(local: Local):
    assert local("status", "--context", "kind").exit_code == 2


def test_the_folder_is_that_of_the_run_unless_one_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    left(tmp_path / ".slipway", TRAINING)
    left(tmp_path / "other", SERVING)

    def listed() -> str:
        return CliRunner().invoke(app, ["status", "--local", f"--namespace={NAMESPACE}"]).stdout

    assert "trainingjob/digits" in listed()
    monkeypatch.setenv("SLIPWAY_STATE", "other")
    assert "modeldeployment/digits" in listed()


def test_without_a_cluster_the_local_run_is_named_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    without = CliRunner().invoke(app, ["status"])
    left(tmp_path / ".slipway", TRAINING)
    result = CliRunner().invoke(app, ["status"])
    assert (without.exit_code, result.exit_code) == (4, 4)
    assert "--local" not in without.stderr
    assert result.stderr.splitlines()[-1].endswith("use --local")


def test_the_commands_that_a_run_names_can_be_pasted_whatever_its_folder_is_called():
    folder = Path("/data/my state")
    _, predict, status = address_lines(HTTP, state_option(folder))
    for line, command in ((predict, "predict"), (status, "status")):
        words = shlex.split(line)
        assert words[:2] == ["slipway", command]
        assert words[words.index("--state") + 1] == str(folder)


def test_names_of_a_local_run_are_completed(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    left(root, TRAINING)
    assert complete(["status", f"--state={root}", f"--namespace={NAMESPACE}", "tj/"]) == ["tj/digits"]


def test_a_container_that_fails_is_told_once_and_one_that_was_deleted_never(tmp_path: Path):
    ends = ContainerFailures(StateFolder(tmp_path))
    pod = statuses.pod("digits-r1-abc", {"slipway.dev/role": "serve"})
    status = pod["status"]["containerStatuses"][0]
    assert ends(WatchEvent("MODIFIED", pod)) == []
    status["state"] = {"terminated": {"exitCode": 137}}
    (line,) = ends(WatchEvent("MODIFIED", pod))
    assert "pod/digits-r1-abc container main ended with exit code 137; its log: " in line
    assert line.endswith("main.0.log")
    assert ends(WatchEvent("MODIFIED", pod)) == []
    status["restartCount"] = 1
    assert len(ends(WatchEvent("MODIFIED", pod))) == 1
    status["restartCount"] = 2
    pod["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    assert ends(WatchEvent("MODIFIED", pod)) == []


def test_a_container_that_the_end_of_the_run_ends_has_not_failed(tmp_path: Path):
    pod = rank_pod(0)
    pod["status"]["containerStatuses"][0]["state"] = {"terminated": {"exitCode": 143}}
    pod["status"]["conditions"].append(render_disruption())
    assert ContainerFailures(StateFolder(tmp_path))(WatchEvent("MODIFIED", pod)) == []
