"""`slipway run` with a bucket for a store: real torchrun, a real S3 service, no cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipway.api.artifacts import store_path
from support.local_runs import finished, objects, processes_of, written
from support.manifests import digits_training
from support.seaweed import ADMIN, Seaweed
from support.stores import pod_in


def files(seaweed: Seaweed, folder: Path, **s3: Any) -> tuple[Path]:
    """A short training on two nodes, its store and the store's Secret."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store"}, "stringData": ADMIN}
    store = {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "ArtifactStore",
        "metadata": {"name": "default"},
        "spec": {"s3": seaweed.spec(**s3)},
    }
    return (written(folder, secret, store, digits_training()),)


def test_two_nodes_train_into_a_bucket(seaweed: Seaweed, tmp_path: Path):
    state = tmp_path / "state"
    code, said = finished(state, files(seaweed, tmp_path, prefix="local"), "--cpu")
    assert code == 0, said
    (job,) = objects(state, "TrainingJob")
    made = job["status"]["artifact"]
    kept = pod_in(seaweed.store(tmp_path, prefix="local"), "reader").store
    assert kept.read(store_path(made["uri"]), made["digest"]).state == "module"
    assert processes_of(state) == {}


def test_a_missing_bucket_ends_the_run_by_name(seaweed: Seaweed, tmp_path: Path):
    code, said = finished(tmp_path / "state", files(seaweed, tmp_path, bucket="absent"), "--cpu")
    assert code == 1
    assert "spec.s3.bucket of the ArtifactStore: there is no bucket absent" in " ".join(said.split())
