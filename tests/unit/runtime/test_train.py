"""Steps of a pod before torchrun starts."""

from __future__ import annotations

import socket

import pytest

from slipway.api.errors import SlipwayError, SpecError
from slipway.api.tasks import Rendezvous, TrainTask
from slipway.runtime.train import await_host, check, own_address, worker_environment


@pytest.mark.parametrize(
    ("host", "index", "address"),
    [
        ("digits-1a2b-1-0.digits-1a2b-1", 0, "digits-1a2b-1-0.digits-1a2b-1"),
        ("digits-1a2b-1-0.digits-1a2b-1", 12, "digits-1a2b-1-12.digits-1a2b-1"),
        ("localhost", 1, "localhost"),
        ("127.0.0.1", 1, "127.0.0.1"),
        ("node-10.example", 1, "node-10.example"),
    ],
)
def test_a_pod_knows_its_name_by_that_of_index_0(host: str, index: int, address: str):
    assert own_address(host, index) == address


def test_index_0_sorts_first_so_that_it_gets_rank_0():
    names = [own_address("job-0.service", index) for index in range(12)]
    assert min(names) == names[0]


def recipe(batch_size: int, nodes: int, processes: int) -> TrainTask:
    return TrainTask.model_validate(
        {
            "entrypoint": {"recipe": {"model": {}, "batchSize": batch_size}},
            "nodes": nodes,
            "processesPerNode": processes,
            "rendezvous": {"id": "one", "host": "localhost"},
        }
    )


def test_a_batch_smaller_than_the_ranks_is_refused_by_field_and_cure():
    check(recipe(batch_size=6, nodes=3, processes=2))
    with pytest.raises(SpecError, match=r"spec\.entrypoint\.recipe\.batchSize: 5 samples .* 6 ranks; raise it to 6"):
        check(recipe(batch_size=5, nodes=3, processes=2))


def test_a_host_that_never_listens_is_named():
    with socket.socket() as taken:  # bound, not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(SlipwayError, match=rf"index 0 did not listen at 127\.0\.0\.1:{port} within 0 s"):
            await_host(Rendezvous(id="one", host="127.0.0.1", port=port, timeout_seconds=0), pause_seconds=0.01)


def test_a_host_that_listens_is_met():
    with socket.create_server(("127.0.0.1", 0)) as server:
        await_host(Rendezvous(id="one", host="127.0.0.1", port=server.getsockname()[1], timeout_seconds=5))


def test_workers_use_one_thread_unless_the_user_sets_another_number(tmp_path):
    assert worker_environment({}, tmp_path, None)["OMP_NUM_THREADS"] == "1"
    assert worker_environment({}, tmp_path, "4")["OMP_NUM_THREADS"] == "4"
