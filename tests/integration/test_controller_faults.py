"""The operator process killed at its writes, started too early, and left without watches; on a real kube-apiserver."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from slipway.api.kinds import WATCHED
from support.apiserver import ApiServer, install_crds, running
from support.operator_process import running_operator
from support.training_cluster import TrainingCluster, wait_for
from support.watch_proxy import watch_proxy


@pytest.fixture
def cluster(apiserver: ApiServer) -> TrainingCluster:
    return TrainingCluster(apiserver)


CRASHES = [
    "before:patch_status:TrainingJob:1",
    "after:patch_status:TrainingJob:1",
    "before:apply:Service:1",
    "after:apply:Service:1",
    "before:create:Job:1",
    "after:create:Job:1",
    "before:patch_status:TrainingJob:2",
    "after:patch_status:TrainingJob:2",
]


@pytest.mark.parametrize("point", CRASHES)
def test_an_operator_killed_at_a_write_goes_on_where_it_was(
    apiserver: ApiServer, cluster: TrainingCluster, tmp_path: Path, point: str
) -> None:
    flags = ("--stub", "--no-leader-election", "--namespace", cluster.namespace)
    cluster.train()
    with running_operator(apiserver.kubeconfig, tmp_path / "first", *flags, "--crash", point) as first:
        assert first.wait(60) == -signal.SIGKILL
    before = [job["metadata"]["uid"] for job in cluster.items(cluster.jobs)]
    with running_operator(apiserver.kubeconfig, tmp_path / "second", *flags):
        status = cluster.wait_for_phase("Running")
        (job,) = cluster.items(cluster.jobs)
        assert before in ([], [job["metadata"]["uid"]])
        assert [attempt["jobUID"] for attempt in status["attempts"]] == [job["metadata"]["uid"]]
        assert len(cluster.items(cluster.services)) == 1


def test_it_waits_for_its_crds(tmp_path: Path) -> None:
    with running() as server:
        log = tmp_path / "log"
        with running_operator(server.kubeconfig, log, "--stub", "--no-leader-election") as operator:
            wait_for(lambda: "CRDs are missing" in log.read_text(), "a word about the CRDs")
            assert not operator.answers("readyz")
            assert operator.answers("healthz")
            install_crds(server)
            operator.wait_until_ready()


def test_what_vanished_while_watches_were_broken_is_noticed_when_they_begin_again(
    apiserver: ApiServer, cluster: TrainingCluster, tmp_path: Path
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    flags = ("--stub", "--no-leader-election", "--namespace", cluster.namespace, "--resync-seconds", "100000")
    with watch_proxy(apiserver, kubeconfig) as proxy, running_operator(kubeconfig, tmp_path / "log", *flags):
        cluster.train()
        cluster.wait_for_phase("Running")
        proxy.cut()
        assert proxy.cut_watches == len(WATCHED)
        (service,) = cluster.items(cluster.services)
        apiserver.must("DELETE", f"{cluster.services}/{service['metadata']['name']}")
        cluster.train("unseen")
        proxy.gone()
        cluster.wait_for_phase("Running", "unseen")
        wait_for(lambda: len(cluster.items(cluster.services)) == 2, "the Service again")
