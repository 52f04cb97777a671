"""Held-out data: no pod with a plugin's code reads it, by the mounts of its manifest, and the status says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from slipway.api.kinds import JOB, NETWORK_POLICY, Object
from slipway.api.tasks import OUT_DIR, OUT_URI_ENV, STORE_DIR, PrepareTask
from slipway.plan.egress import EGRESS_LABEL
from slipway.runtime.datasets import read_arrays
from slipway.sdk.artifact import read_artifact, write_artifact
from slipway.sdk.manifest import MANIFEST, ONNX_FILE
from support.builders import DIGEST, bucket_store, store, succeeded
from support.deployments import DIGITS, world_with
from support.graphs import content_of, mlp_graph, random_features
from support.stores import do, made
from support.views import Played, View, files_seen
from support.world import World, does_its_work, env_of, task_of

EVALUATION: dict[str, Any] = {"data": {"dataset": "digits", "split": "test"}}


def splits_seen(view: View) -> list[tuple[str, Path]]:
    """Data sets that the code finds in its pod: which split, and where."""
    found = []
    for path in files_seen(view, MANIFEST):
        body = json.loads(path.read_text())
        if body["content"]["state"] == "dataset":
            found.append((body["provenance"]["parameters"].get("split", "?"), path.parent))
    return found


def memorising(folder: Path) -> bytes:
    """A graph that knows the samples of a data set by heart, and nothing else: its nearest neighbour's class."""
    arrays = load_file(folder / "data.safetensors")
    rows = arrays["inputs"].astype(np.float32).reshape(len(arrays["inputs"]), -1) / 255
    # |x - r|^2 is smallest where x.r - |r|^2 / 2 is largest; sharpened, the softer rest adds nothing.
    weight, bias = rows.T * 50, (-(rows * rows).sum(1) * 25).astype(np.float32)
    vote = np.eye(10, dtype=np.float32)[arrays["targets"]]
    return mlp_graph([(weight.astype(np.float32), bias - 400), (vote, np.zeros(10, np.float32))], (28, 28))


def leaving(view: View, graph: bytes, **claims: Any) -> Object:
    """The report of a plugin's pod that left that graph. claims: what it says of it."""
    left = write_artifact(view.path(OUT_DIR) / "artifact", content_of((28, 28), 10), {ONNX_FILE: graph})
    uri = f"{view.environment[OUT_URI_ENV]}/artifact"
    return succeeded({"uri": uri, "digest": left.digest, "state": "onnx", "sizeBytes": left.size_bytes, **claims})


def given_model(view: View) -> bytes:
    """The model that the pod was given, as it is."""
    return next(path for path in files_seen(view, ONNX_FILE)).read_bytes()


def stalled(world: World) -> str:
    return str(world.condition(DIGITS, "Stalled"))


def world_on(disk: Path, *objects: Object, **spec: Any) -> World:
    """A deployment of a real classifier that lies in the claim of its store."""
    claim = disk / "claims/artifacts"
    train = read_arrays(read_artifact(claim / "data" / "artifact", made(do(claim, "data", TRAIN)).digest))
    model = write_artifact(claim / "models/one", content_of((28, 28), 10), {ONNX_FILE: random_features(train)})
    wanted: dict[str, Any] = {
        "model": {"stored": {"uri": "store:///models/one", "digest": model.digest, "state": "onnx"}},
        "compression": {"steps": [{"plugin": "quantize-int8"}], "data": {"dataset": "digits", "split": "train"}},
        "evaluation": EVALUATION,
        **spec,
    }
    return world_with(*objects, without=("digits-training",), **wanted)


TRAIN = PrepareTask(dataset="digits", split="train")


def test_a_plugin_that_searches_its_pod_for_the_held_out_targets_finds_none(tmp_path: Path) -> None:
    seen: list[str] = []

    def hostile(view: View) -> Object:
        found = splits_seen(view)
        seen.extend(split for split, _ in found)
        test = next((folder for split, folder in found if split == "test"), found[0][1])
        return leaving(view, memorising(test))

    world = world_on(tmp_path)
    world.behaviour = Played(tmp_path, hostile)
    world.run(DIGITS)
    assert seen == ["train"]
    gate = world.status(DIGITS)["revisions"][0]["gate"]
    assert gate["heldOutReadable"] is False
    assert gate["counts"]["n"] == 540
    assert not gate["passed"] or gate["accuracyCandidate"] < 1


def test_a_link_that_one_step_leaves_does_not_show_the_next_one_the_held_out_data(tmp_path: Path) -> None:
    """A kubelet follows links in a subPath: what is mounted is nothing that the step before could replace."""
    seen: list[str] = []

    def hostile(view: View) -> Object:
        seen.extend(split for split, _ in splits_seen(view))
        (out := view.path(OUT_DIR)).mkdir(parents=True, exist_ok=True)
        for folder in sorted((tmp_path / "claims/artifacts/steps").iterdir()):
            if (folder / "artifact" / "data.safetensors").exists() and not (out / "artifact").is_symlink():
                (out / "artifact").symlink_to(f"../{folder.name}/artifact")
        uri = f"{view.environment[OUT_URI_ENV]}/artifact"
        return succeeded({"uri": uri, "digest": DIGEST, "state": "onnx"})

    steps = [{"plugin": "quantize-int8"}, {"plugin": "quantize-int8", "params": {"again": 1}}]
    data = {"stored": {"uri": "store:///data/artifact", "digest": made(do(tmp_path / "x", "data", TRAIN)).digest}}
    world = world_on(tmp_path, compression={"steps": steps, "data": data})
    world.behaviour = Played(tmp_path, hostile)
    world.run(DIGITS)
    assert len(seen) >= 2
    assert set(seen) == {"train"}


@pytest.mark.parametrize("lie", ["uri", "size", "metrics"])
def test_what_a_plugin_says_of_its_result_is_not_taken(lie: str, tmp_path: Path) -> None:
    claims: dict[str, Any] = {"size": {"sizeBytes": 1}, "uri": {"uri": "store:///data/artifact"}}.get(lie, {})

    def lying(view: View) -> Object:
        report = leaving(view, given_model(view), **claims)
        return {**report, "metrics": {"accuracy": 1.0}} if lie == "metrics" else report

    world = world_on(tmp_path)
    world.behaviour = Played(tmp_path, lying)
    world.run(DIGITS)
    status = world.status(DIGITS)
    step = next(one for one in world.steps() if one["name"].startswith("step-0"))
    if lie == "uri":
        assert "outside of its own folder" in stalled(world)
        return
    size = (tmp_path / "claims/artifacts/models/one" / ONNX_FILE).stat().st_size
    assert status["sizes"] == {"floatBytes": size, "compressedBytes": size}
    assert status["revisions"][0]["model"]["sizeBytes"] == size
    assert "sizeBytes" not in step["artifact"]
    assert "metrics" not in step


# --- What may not lie where -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "held_out"),
    [("data", "data/test"), ("data/train", "data"), ("data/all", "data/all")],
    ids=["inside of it", "around it", "the same"],
)
def test_evaluation_data_in_a_folder_that_a_step_reads_is_refused(step: str, held_out: str) -> None:
    other = f"sha256:{'9' * 64}"
    world = world_with(
        compression={
            "steps": [{"plugin": "quantize-int8"}],
            "data": {"stored": {"uri": f"store:///{step}", "digest": DIGEST}},
        },
        evaluation={"data": {"stored": {"uri": f"store:///{held_out}", "digest": other}}},
    )
    world.run(DIGITS)
    assert "must not overlap with training or calibration data" in stalled(world)
    assert not [job for job in world.objects.values() if job["kind"] == "Job" and task_of(job)["task"] == "evaluate"]


def test_evaluation_data_that_a_parameter_names_is_refused() -> None:
    held_out = {"uri": "store:///held", "digest": DIGEST}
    steps = [{"plugin": "quantize-int8", "params": {"teacher": {**held_out}}}]
    data = {"dataset": "digits", "split": "train"}
    world = world_with(compression={"steps": steps, "data": data}, evaluation={"data": {"stored": held_out}})
    world.run(DIGITS)
    assert "lies in held of the store" in stalled(world)


@pytest.mark.parametrize("kept", ["kept", None], ids=["the store of its own inside of the claim", "the whole claim"])
def test_a_store_of_its_own_on_the_same_claim_is_refused_where_a_step_reads_the_data(kept: str | None) -> None:
    """Another path leads to the same folder: a step would mount it by the store that all pods are given."""
    held_out = {"uri": "store:///data/test", "digest": DIGEST}
    teacher = {"uri": "store:///kept/data/test" if kept else "store:///data/test", "digest": DIGEST}
    data = {"dataset": "digits", "split": "train"}
    apart = store("evaluation")
    folder = {"subPath": kept} if kept else {}
    apart["spec"] |= {"heldOut": True, "persistentVolumeClaim": {"claimName": "artifacts", **folder}}
    world = world_with(
        apart,
        compression={"steps": [{"plugin": "quantize-int8", "params": {"teacher": teacher}}], "data": data},
        evaluation={"store": "evaluation", "data": {"stored": held_out}},
    )
    world.run(DIGITS)
    assert "must not overlap with training or calibration data" in stalled(world)


def test_evaluation_data_that_the_model_was_trained_with_is_refused_whatever_calibrates_the_steps() -> None:
    calibration = {"stored": {"uri": "store:///data/x", "digest": DIGEST}}
    world = world_with(
        compression={"steps": [{"plugin": "quantize-int8"}], "data": calibration},
        evaluation={"data": {"dataset": "digits", "split": "train"}},
    )
    world.run(DIGITS)
    assert "is the train data of trainingJob/" in stalled(world)


# --- A store of its own -----------------------------------------------------------------------------------------


def held_out_store(name: str = "evaluation", **more: Any) -> Object:
    """On another claim."""
    found = store(name, claim="held-out")
    return {**found, "spec": {**found["spec"], "heldOut": True, **more}}


def held_out_bucket(**s3: Any) -> Object:
    found = bucket_store("evaluation", **{"bucket": "held-out", "secretRef": {"name": "evaluation-keys"}, **s3})
    return {**found, "spec": {**found["spec"], "heldOut": True}}


def test_evaluation_in_a_store_of_its_own_on_a_claim_works_and_leaves_what_it_finds_there(tmp_path: Path) -> None:
    seen: list[str] = []

    def honest(view: View) -> Object:
        seen.extend(split for split, _ in splits_seen(view))
        return leaving(view, given_model(view))

    world = world_on(tmp_path, held_out_store(), evaluation={**EVALUATION, "store": "evaluation"})
    world.behaviour = Played(tmp_path, honest)
    world.run(DIGITS)
    status = world.status(DIGITS)
    assert status["phase"] == "Ready", status
    assert status["revisions"][0]["gate"]["heldOutReadable"] is False
    assert seen == ["train"]
    kept = {path.parent.name for path in (tmp_path / "claims/artifacts").rglob("predictions.safetensors")}
    assert not kept
    assert list((tmp_path / "claims/held-out").rglob("predictions.safetensors"))


def secrets_by_role(world: World) -> dict[str, set[str]]:
    """Names of the Secrets that the pods of each Job are given."""
    world.run(DIGITS)
    found: dict[str, set[str]] = {}
    for spec, role in ((job["spec"]["template"]["spec"], role_of(job)) for job in jobs_of(world)):
        variables = [one for container in spec["containers"] for one in container["env"]]
        refs = [one.get("valueFrom", {}).get("secretKeyRef", {}).get("name") for one in variables]
        found.setdefault(role, set()).update(name for name in refs if name)
    return found


def jobs_of(world: World) -> list[Object]:
    return [obj for key, obj in world.objects.items() if key.kind == JOB]


def role_of(job: Object) -> str:
    return str(job["metadata"]["labels"]["slipway.dev/role"])


def test_the_secret_of_the_held_out_bucket_is_given_to_what_decides_alone() -> None:
    evaluation = {**EVALUATION, "store": "evaluation"}
    world = world_with(bucket_store(), held_out_bucket(), evaluation=evaluation)
    given = secrets_by_role(world)
    with_it = {role for role, names in given.items() if "evaluation-keys" in names}
    assert with_it == {"prepare-evaluation", "evaluate-baseline", "evaluate-candidate", "compare", "package"}
    assert given["compare"] == given["prepare-evaluation"] == {"evaluation-keys"}
    assert {"step-0-prune-structured", "step-1-quantize-int8", "convert", "convert-baseline"} & with_it == set()
    assert world.status(DIGITS)["revisions"][0]["gate"]["heldOutReadable"] is False


def test_the_pods_of_plugins_may_not_connect_to_the_held_out_bucket() -> None:
    """One policy is for all pods of a deployment's tasks that have it, and knows the main store alone."""
    main = bucket_store(endpoint="http://10.0.0.1:8333")
    apart = held_out_bucket(endpoint="http://10.0.0.2:8333")
    world = world_with(main, apart, evaluation={**EVALUATION, "store": "evaluation"})
    policies: dict[str, str] = {}

    def seen(task: Object, job: Object) -> Object:
        policies[role_of(job)] = json.dumps([obj for key, obj in world.objects.items() if key.kind == NETWORK_POLICY])
        return does_its_work(task, job)

    world.behaviour = seen
    world.run(DIGITS)
    assert "10.0.0.1/32" in policies["step-0-prune-structured"]
    assert not {role for role, policy in policies.items() if "10.0.0.2" in policy}
    labelled = {role_of(job) for job in jobs_of(world) if EGRESS_LABEL in job["spec"]["template"]["metadata"]["labels"]}
    assert {role_of(job) for job in jobs_of(world)} - labelled == {
        "prepare-evaluation", "evaluate-baseline", "evaluate-candidate", "compare", "package",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("objects", "evaluation", "readable"),
    [
        ((), EVALUATION, False),
        ((bucket_store(),), EVALUATION, True),
        ((bucket_store(), held_out_bucket()), {**EVALUATION, "store": "evaluation"}, False),
        ((bucket_store(), held_out_store()), {**EVALUATION, "store": "evaluation"}, False),
        ((held_out_bucket(),), {**EVALUATION, "store": "evaluation"}, False),
        ((bucket_store(), held_out_bucket(secretRef={"name": "keys"})), {**EVALUATION, "store": "evaluation"}, True),
    ],
    ids=["claim", "bucket", "two buckets", "bucket and claim", "claim and bucket", "two buckets, one key"],
)
def test_the_gate_says_whether_a_plugin_could_read_the_held_out_data(
    objects: tuple[Object, ...], evaluation: Object, readable: bool
) -> None:
    world = world_with(*objects, evaluation=evaluation)
    world.run(DIGITS)
    assert world.status(DIGITS)["revisions"][0]["gate"]["heldOutReadable"] is readable


def test_other_evaluation_data_stores_are_other_evaluations() -> None:
    world = world_with(bucket_store(), held_out_bucket())
    world.run(DIGITS)
    assert world.status(DIGITS)["revisions"][0]["gate"]["heldOutReadable"] is True
    world.edit(DIGITS, lambda spec: spec["evaluation"].update(store="evaluation"))
    world.run(DIGITS)
    assert world.status(DIGITS)["revisions"][0]["gate"]["heldOutReadable"] is False
    assert world.status(DIGITS)["phase"] == "Ready"


def test_what_is_not_held_out_is_the_same_task_beside_a_store_of_its_own() -> None:
    """Else a TrainingJob's data would be prepared again, and every step after it run again."""
    digests = []
    for evaluation in (EVALUATION, {**EVALUATION, "store": "evaluation"}):
        world = world_with(held_out_store(), evaluation=evaluation)
        world.run(DIGITS)
        digests.append({task["name"]: task["digest"] for task in world.steps()})
    differ = {name for name in digests[0] if digests[0][name] != digests[1][name]}
    assert differ == {"prepare-evaluation", "evaluate-baseline", "evaluate-candidate", "compare", "package"}


def test_a_store_for_evaluation_data_that_was_never_there_is_not_said_to_be_gone() -> None:
    world = world_with()
    world.run(DIGITS)
    world.edit(DIGITS, lambda spec: spec["evaluation"].update(store="evaluation"))
    world.run(DIGITS)
    said = str(world.condition(DIGITS, "Ready"))
    assert 'spec.evaluation.store: there is no ArtifactStore "evaluation" in this namespace; create it' in said


def test_a_held_out_store_serves_nothing_else_and_another_one_is_not_held_out() -> None:
    world = world_with(held_out_store("default"))
    world.run(DIGITS)
    assert "is only for evaluation data" in stalled(world)
    world = world_with(store("evaluation"), evaluation={**EVALUATION, "store": "evaluation"})
    world.run(DIGITS)
    assert "is open to all pods" in stalled(world)


def test_the_store_of_a_step_is_never_mounted_whole() -> None:
    world = world_with()
    world.run(DIGITS)
    for job in jobs_of(world):
        for mount in job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]:
            assert mount["mountPath"] != STORE_DIR
            assert mount["name"] != "slipway-store" or mount["subPath"]
    assert env_of(jobs_of(world)[0])
