"""The chain's pods on a folder, a bucket, and two: whatever keeps the artifacts, they are the same, bit by bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slipway.api.tasks import PrepareTask
from support.agents import Agents, recipe, trained, training_task
from support.seaweed import BUCKET, HELD_OUT_BUCKET, OF_EVALUATION, OF_PLUGINS, Seaweed
from support.stores import AnyStore, RemoteStore, do, made

TESTS = Path(__file__).parents[1]
PREFIX, APART = "chain", "apart"


@pytest.fixture(scope="module")
def chains(seaweed: Seaweed, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the chain made on each store."""
    folder, disk = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("disk")
    stores: dict[str, AnyStore] = {
        "folder": folder,
        "bucket": seaweed.store(disk, prefix=PREFIX),
        "two buckets": seaweed.store(disk, OF_PLUGINS, prefix=APART),
    }
    secret = {"name": "evaluation"}
    apart = {"two buckets": seaweed.store(disk, OF_EVALUATION, bucket=HELD_OUT_BUCKET, prefix=APART, secretRef=secret)}
    return {name: chain_on(store, tmp_path_factory.mktemp("logs"), apart.get(name)) for name, store in stores.items()}


def chain_on(store: AnyStore, logs: Path, apart: RemoteStore | None) -> dict[str, Any]:
    """Data, two torchrun nodes, and everything after them. apart: the bucket of the test data, if another."""
    refs = {
        split: made(do(place, split, PrepareTask.model_validate({"dataset": "digits", "split": split}))).to_wire()
        for split, place in (("train", store), ("test", apart or store))
    }
    data = [{"name": name, "artifact": ref} for name, ref in refs.items() if name == "train" or apart is None]
    agents = Agents(store, "training", training_task(recipe(epochs=3), data, nodes=2, processes=1), logs / "agents")
    try:
        model = trained(agents)
    finally:
        agents.end()
    where: dict[str, Any] = {"folder": str(store)}
    if isinstance(store, RemoteStore):
        where = {"folder": str(store.disk / "chain"), "remote": {"s3": store.s3, "keys": store.keys}}
        where |= {"apart": {"s3": apart.s3, "keys": apart.keys}} if apart else {}
    asked = {**where, **refs, "model": model.to_wire()}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "support.chain_runs"],
        input=json.dumps(asked),
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    made_there: dict[str, Any] = json.loads(done.stdout)
    made_there["digests"] |= {"model": model.digest, **{name: ref["digest"] for name, ref in refs.items()}}
    return made_there


def test_a_bucket_and_a_folder_hold_the_same_artifacts(chains: dict[str, dict[str, Any]]):
    for name in ("bucket", "two buckets"):
        assert chains[name]["digests"] == chains["folder"]["digests"]
        assert chains[name]["counts"] == chains["folder"]["counts"]


@pytest.mark.parametrize("kind", ["folder", "bucket", "two buckets"])
def test_what_a_serving_pod_fetched_is_what_was_packed(chains: dict[str, dict[str, Any]], kind: str):
    assert chains[kind]["fetched"] == chains[kind]["digests"]["repository"]


def test_a_pod_leaves_nothing_in_the_bucket_but_artifacts_and_reports(chains: dict[str, Any], seaweed: Seaweed):
    keys = [key.split(f"/{PREFIX}/")[1] for key in seaweed.files.find(f"artifacts/{PREFIX}")]
    whole = {key.removesuffix("/manifest.json") for key in keys if key.endswith("/manifest.json")}
    assert len(whole) == len(chains["bucket"]["digests"]) + 2  # and two sets of predictions
    kept = [key for key in keys if "/reports/" in key]
    assert sorted(kept) == [f"training/reports/uid-{index}.json" for index in (0, 1)]
    assert [key for key in keys if key not in kept and not any(key.startswith(f"{path}/") for path in whole)] == []


def test_held_out_data_and_the_answers_to_it_lie_in_the_second_bucket_which_the_first_ones_key_does_not_open(
    chains: dict[str, Any], seaweed: Seaweed
):
    assert chains["two buckets"]["digests"]["test"]
    folders = {
        bucket: sorted({key.split("/")[2] for key in seaweed.files.find(f"{bucket}/{APART}")})
        for bucket in (BUCKET, HELD_OUT_BUCKET)
    }
    assert folders[HELD_OUT_BUCKET] == ["evaluate-baseline", "evaluate-int8", "test"]
    assert set(folders[BUCKET]) == {"train", "training", "baseline", "pruned", "graph", "int8", "package"}
    key = seaweed.files.find(f"{HELD_OUT_BUCKET}/{APART}/test")[0]
    assert seaweed.files_by(OF_EVALUATION).cat_file(key)
    with pytest.raises(PermissionError):
        seaweed.files_by(OF_PLUGINS).cat_file(key)
