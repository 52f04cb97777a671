"""The operator process against a real kube-apiserver; a TrainingJob becomes a Service and a Job (stub planner)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.apiserver import ApiServer
from support.operator_process import OperatorProcess, running_operator
from support.training_cluster import TrainingCluster, wait_for


@pytest.fixture
def cluster(apiserver: ApiServer) -> TrainingCluster:
    return TrainingCluster(apiserver)


@pytest.fixture(scope="module")
def operator(apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """One operator for the tests that let it live; without a Lease, and looking for missed changes all the time."""
    log = tmp_path_factory.mktemp("operator") / "log"
    flags = ("--stub", "--no-leader-election", "--resync-seconds", "0.5")
    with running_operator(apiserver.kubeconfig, log, *flags) as started:
        started.wait_until_ready()
        yield started


def writes(operator: OperatorProcess) -> float:
    samples = operator.metrics().items()
    return sum(count for name, count in samples if "requests_total" in name and 'method="GET"' not in name)


def test_a_training_job_becomes_its_children_and_ends_with_them(
    operator: OperatorProcess, cluster: TrainingCluster
) -> None:
    cluster.train()
    status = cluster.wait_for_phase("Running")
    (job,) = cluster.items(cluster.jobs)
    assert status["attempts"][0]["jobUID"] == job["metadata"]["uid"]
    assert len(cluster.items(cluster.services)) == 1
    cluster.finish_job()
    cluster.wait_for_phase("Succeeded")
    assert [event["reason"] for event in cluster.items(cluster.events)] == ["Started"]
    assert operator.process.poll() is None


def test_nothing_of_kopf_is_stored_on_objects(operator: OperatorProcess, cluster: TrainingCluster) -> None:
    cluster.train()
    cluster.wait_for_phase("Running")
    for path in (cluster.training_jobs, cluster.jobs, cluster.services):
        for obj in cluster.items(path):
            assert "finalizers" not in obj["metadata"]
            assert "annotations" not in obj["metadata"]
            assert "kopf" not in str(obj)
    assert operator.process.poll() is None


def test_a_quiet_cluster_is_not_written_to(operator: OperatorProcess, cluster: TrainingCluster) -> None:
    cluster.train()
    cluster.wait_for_phase("Running")
    before = writes(operator)
    lists = operator.metrics()
    method = next(name for name in lists if "requests_total" in name and 'code="200"' in name and '"GET"' in name)
    # Three comparisons with everything that the API server has, of 13 kinds each.
    wait_for(lambda: operator.metrics()[method] > lists[method] + 39, "three resyncs")
    assert writes(operator) == before


def test_a_child_that_a_user_deleted_is_made_again(operator: OperatorProcess, cluster: TrainingCluster) -> None:
    cluster.train()
    cluster.wait_for_phase("Running")
    (service,) = cluster.items(cluster.services)
    cluster.server.must("DELETE", f"{cluster.services}/{service['metadata']['name']}")
    made = wait_for(lambda: cluster.items(cluster.services), "the Service again")[0]
    assert made["metadata"]["uid"] != service["metadata"]["uid"]
    assert operator.process.poll() is None


def test_a_child_that_a_user_changed_is_fixed(operator: OperatorProcess, cluster: TrainingCluster) -> None:
    cluster.train()
    cluster.wait_for_phase("Running")
    (service,) = cluster.items(cluster.services)
    path = f"{cluster.services}/{service['metadata']['name']}"
    change = {"spec": {"selector": {"slipway.dev/training-job": "other"}}}
    cluster.server.must("PATCH", path, change, content_type="application/merge-patch+json")
    wait_for(
        lambda: cluster.server.must("GET", path)["spec"]["selector"] == service["spec"]["selector"], "the selector"
    )
    assert operator.process.poll() is None


def test_its_metrics_have_controller_runtimes_names(operator: OperatorProcess, cluster: TrainingCluster) -> None:
    cluster.train()
    cluster.wait_for_phase("Running")
    samples = operator.metrics()
    assert samples['controller_runtime_reconcile_total{controller="trainingjob",result="success"}'] >= 1
    assert samples['workqueue_adds_total{name="trainingjob"}'] >= 1
    assert samples['leader_election_master_status{name="slipway-test"}'] == 1
    wait_for(lambda: operator.metrics()['workqueue_depth{name="trainingjob"}'] == 0, "an empty queue")
