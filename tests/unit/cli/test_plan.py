"""`slipway plan` from files alone; against a cluster: tests/integration/test_plan.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from slipway.cli.main import app
from support.local_runs import written
from support.manifests import script_training

DIGITS = Path(__file__).parents[3] / "examples" / "digits"
RECIPE = tuple(word for name in ("store", "training", "deployment") for word in ("-f", str(DIGITS / f"{name}.yaml")))


def plan(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["plan", *words])
    assert result.exit_code == code, result.output
    return result


def tree(*words: str) -> list[str]:
    return [line.strip("│├└─ ") for line in plan(*words, "--verbose").stdout.splitlines()]


def test_each_resource_says_in_a_few_aligned_lines_what_is_reused_made_and_served() -> None:
    assert plan(*RECIPE).stdout.splitlines() == [
        "+ GPUPool gpu",
        "+ ArtifactStore default    will be Ready",
        "+ TrainingJob digits       will be Ready",
        "    makes    prepare-train, prepare-test",
        "    trains   2 nodes of pool gpu x 1 process",
        "+ ModelDeployment digits   will be Ready",
        "    takes    the model of TrainingJob digits, when it has succeeded",
        "    reuses   prepare-train, prepare-evaluation of TrainingJob digits",
        "    makes    convert-baseline, step-0-prune-structured, convert, evaluate-baseline,",
        "             step-1-quantize-int8, evaluate-candidate, compare, package",
        "    serves   revision digits-<md hash>-<revision>: 1 replica of Triton",
        "",
        "Not managed by Slipway: PersistentVolumeClaim slipway-store.",
        "31 objects would be made: 3 NetworkPolicy, 12 Step, 2 Service, 11 Job, 1 ControllerRevision, 1 Deployment,"
        " 1 PodDisruptionBudget.",
    ]


def test_what_is_wrong_is_explained_once_with_its_file_and_line() -> None:
    result = plan(*RECIPE[2:4], code=1)
    assert "+ TrainingJob digits   waits: StoreNotFound" in result.stdout.splitlines()
    said = 'TrainingJob digits: StoreNotFound: spec.store: there is no ArtifactStore "default"'
    assert (result.stdout.count("there is no"), result.stderr.count(said)) == (0, 1)


def test_the_verbose_plan_is_a_tree_of_the_whole_chain_with_reasons() -> None:
    lines = tree(*RECIPE)
    for line in (
        "+ TrainingJob digits: will be Ready",
        "on pool gpu, the only one of spec.pools: nodes with accelerator=fake; 1 nvidia.com/gpu a pod",
        "2 nodes x 1 process (one for each device of a pod, or 1) = 2 ranks; each pod asks for cpu 500m, memory 2Gi",
        "export-onnx 1.0.0: module -> onnx; inserted: the gate compares with the uncompressed model as onnx",
        "export-onnx 1.0.0: module -> onnx; inserted: what prune-structured gives is module,"
        " and quantize-int8 takes onnx",
        "prepare-train: uses the result of step digits-<tj hash>-s-<prepare-train>",
        "after step-1-quantize-int8, prepare-evaluation",
        "rolls out revision digits-<md hash>-<revision>: 1 replica of Triton",
    ):
        assert line in lines
    assert lines[-1].startswith("31 objects would be made: 3 NetworkPolicy, 12 Step, 2 Service, 11 Job,")


def test_yaml_is_what_the_operator_would_write_in_that_order_with_names_for_what_is_unknown() -> None:
    objects = [one for one in yaml.safe_load_all(plan(*RECIPE, "-o", "yaml").stdout) if one]
    kinds = [one["kind"] for one in objects]
    assert kinds.index("ControllerRevision") < kinds.index("Deployment")
    jobs = [one["metadata"]["name"] for one in objects if one["kind"] == "Job"]
    assert (len(jobs), jobs[0], jobs[-1]) == (
        11,
        "digits-s-<tj prepare-train>-1",
        "digits-s-<md package>-1",
    )
    assert len({(one["kind"], one["metadata"]["name"]) for one in objects}) == len(objects) == 31
    training = next(one for one in objects if one["metadata"]["name"] == "digits-<tj hash>-1" and one["kind"] == "Job")
    assert training["metadata"]["ownerReferences"][0]["uid"] == "<uid of TrainingJob digits>"
    assert not {"status", "uid", "resourceVersion"} & {*training, *training["metadata"]}
    step = next(one for one in objects if "<md convert>" in one["metadata"]["name"])
    (task,) = [json.loads(env["value"]) for env in _env(step) if env["name"] == "SLIPWAY_TASK"]
    assert task["model"]["digest"] == (
        "sha256:<digest of what step-0-prune-structured of ModelDeployment digits makes>"
    )


def _env(job: dict) -> list[dict]:
    return job["spec"]["template"]["spec"]["containers"][0]["env"]


def test_no_uid_and_no_digest_that_nobody_can_know_is_shown() -> None:
    text = plan(*RECIPE, "-o", "yaml").stdout
    assert "00000000-0000-0000" not in text
    assert not [word for word in text.replace('"', " ").split() if word.startswith("sha256:") and "<" not in word]


def with_arguments(folder: Path, *words: str) -> tuple[str, ...]:
    """The example's store, and a TrainingJob of a script with these arguments."""
    _, job = script_training("long", "", entrypoint={"script": {"path": "/code/train.py", "args": list(words)}})
    return (*RECIPE[:2], "-f", str(written(folder, job)))


def test_a_task_that_travels_in_a_file_is_shown_in_its_annotation(tmp_path: Path) -> None:
    words = ["x" * 1024] * 60
    objects = [one for one in yaml.safe_load_all(plan(*with_arguments(tmp_path, *words), "-o", "yaml").stdout) if one]
    (job,) = [one for one in objects if one["kind"] == "Job"]
    task = json.loads(job["spec"]["template"]["metadata"]["annotations"]["slipway.dev/task"])
    assert task["entrypoint"]["script"]["args"] == words
    assert task["rendezvous"]["id"] == "long-<tj hash>-1"
    (value,) = [one["value"] for one in _env(job) if one["name"] == "SLIPWAY_TASK"]
    assert value == "sha256:<digest of slipway.dev/task>"


def test_what_no_pod_could_be_given_is_told_by_file_and_line(tmp_path: Path) -> None:
    result = plan(*with_arguments(tmp_path, *["\U0001f600" * 1024] * 20), code=1)
    assert (
        f"{tmp_path / 'objects.yaml'}:8:7: TrainingJob long: InvalidSpec: spec.entrypoint.script.args: "
        in result.stderr
    )
    assert "the maximum is 229376; put large values into a file" in result.stderr
    assert "Job long" not in result.stdout.replace("TrainingJob long", "")


def test_json_says_how_each_resource_ends_and_each_object() -> None:
    found = json.loads(plan(*RECIPE, "-o", "json").stdout)
    ends = [(one["kind"], one["name"], one["ends"]) for one in found["resources"]]
    assert ends == [
        ("ArtifactStore", "default", "ready"),
        ("TrainingJob", "digits", "ready"),
        ("ModelDeployment", "digits", "ready"),
    ]
    assert (found["good"], len(found["changes"])) == (True, 4 + 31)
    network = {one["kind"] for one in found["changes"] if one["name"] == "digits-<tj hash>"}
    assert network == {"Service", "NetworkPolicy"}


def test_plan_loads_neither_torch_nor_a_client_of_kubernetes() -> None:
    heavy = ("torch", "kopf", "kubernetes", "aiohttp", "numpy", "onnx", "structlog", "rich")
    code = f"""
import sys
from slipway.cli.main import app
sys.argv = ["slipway", "plan", *{RECIPE!r}]
try:
    app()
except SystemExit as end:
    assert not end.code, end.code
print([name for name in {heavy!r} if name in sys.modules])
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


def test_the_script_of_the_users_own_is_planned_from_the_kustomization() -> None:
    lines = tree("-f", str(DIGITS / "store.yaml"), "-f", str(DIGITS))
    assert "+ TrainingJob digits-script: will be Ready" in lines
    assert "Not managed by Slipway: PersistentVolumeClaim slipway-store, ConfigMap digits-train." in lines


def test_a_suspended_job_is_inactive_and_what_needs_it_waits(tmp_path: Path) -> None:
    text = (DIGITS / "training.yaml").read_text().replace("spec:", "spec:\n  suspend: true")
    (tmp_path / "a.yaml").write_text(text)
    store = ("-f", str(DIGITS / "store.yaml"), "-f", str(tmp_path / "a.yaml"))
    line = "+ TrainingJob digits: will be inactive: Suspended: spec.suspend is true; set it to false to go on"
    assert line in tree(*store)
    result = plan(*store, "-f", str(DIGITS / "deployment.yaml"), code=1)
    assert "ModelDeployment digits: ModelNotReady: TrainingJob digits is Suspended" in result.stderr


@pytest.mark.parametrize(
    ("serving", "said"),
    [("{replicas: 0}", "ScaledToZero"), ("{replicas: 3}", "3 replicas of Triton")],
)
def test_replicas_are_as_the_spec_wants_them(tmp_path: Path, serving: str, said: str) -> None:
    text = (DIGITS / "deployment.yaml").read_text().partition("  serving:")[0] + f"  serving: {serving}\n"
    (tmp_path / "a.yaml").write_text(text)
    out = plan(*RECIPE[:4], "-f", str(tmp_path / "a.yaml")).stdout
    assert said in out


def test_a_plugin_of_the_files_goes_before_the_one_that_is_shipped(tmp_path: Path) -> None:
    manifest = CliRunner().invoke(app, ["plugin", "manifest", "quantize-int8", "--image", "mine:7"]).stdout
    (tmp_path / "plugin.yaml").write_text(manifest)
    made = yaml.safe_load_all(plan(*RECIPE, "-f", str(tmp_path / "plugin.yaml"), "-o", "yaml").stdout)
    images = [one["spec"]["image"] for one in made if one and one["kind"] == "Step"]
    assert images.count("mine:7") == 1


def test_numbers_that_are_octal_are_warned_of_and_planned_as_they_are_read(tmp_path: Path) -> None:
    text = (DIGITS / "training.yaml").read_text().replace("nodes: 2 ", "nodes: 010 ")
    (tmp_path / "a.yaml").write_text(text)
    result = plan(*RECIPE[:2], "-f", str(tmp_path / "a.yaml"))
    assert f"warning: {tmp_path / 'a.yaml'}:13:3: spec.nodes: YAML reads 010 as 8 (octal)" in result.stderr
    assert "8 nodes of pool gpu x 1 process" in result.stdout


def test_a_bucket_is_tried_by_a_pod_before_anything_else(tmp_path: Path) -> None:
    text = (DIGITS / "store.yaml").read_text()
    s3 = "s3: {bucket: models, secretRef: {name: keys}}"
    (tmp_path / "a.yaml").write_text(text.replace("persistentVolumeClaim:\n    claimName: slipway-store", s3))
    lines = tree("-f", str(tmp_path / "a.yaml"), *RECIPE[2:])
    at = lines.index("in bucket models")
    assert lines[at + 1 : at + 3] == [
        "check-store: Job default-<store hash>-check-1",
        "lists, reads and writes the bucket",
    ]
    assert "+ ModelDeployment digits: will be Ready" in lines


APART = """\
apiVersion: slipway.dev/v1alpha1
kind: ArtifactStore
metadata: {name: apart}
spec:
  heldOut: true
  persistentVolumeClaim: {claimName: slipway-store}
"""


def evaluated_in(store: str, folder: Path) -> Path:
    """The example's deployment, with its evaluation data in that store."""
    text = (DIGITS / "deployment.yaml").read_text().replace("  evaluation:\n", f"  evaluation:\n    store: {store}\n")
    (path := folder / "deployment.yaml").write_text(text)
    return path


def test_evaluation_data_in_a_store_of_its_own_is_planned_there(tmp_path: Path) -> None:
    (tmp_path / "apart.yaml").write_text(APART)
    lines = tree(*RECIPE[:4], "-f", str(tmp_path / "apart.yaml"), "-f", str(evaluated_in("apart", tmp_path)))
    assert "+ ModelDeployment digits: will be Ready" in lines
    assert "on claim slipway-store; only for evaluation data" in lines
    assert [line for line in lines if line.startswith("gate: ") and " on digits (test) in ArtifactStore apart;" in line]


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (
            "apart",
            'StoreNotFound: spec.evaluation.store: there is no ArtifactStore "apart" in this namespace; create it',
        ),
        (
            "default",
            'StoreMisused: spec.evaluation.store: ArtifactStore "default" is open to all pods; name a store with',
        ),
    ],
)
def test_a_store_for_evaluation_data_that_is_missing_or_open_is_told_where_it_is_named(
    store: str, said: str, tmp_path: Path
) -> None:
    path = evaluated_in(store, tmp_path)
    result = plan(*RECIPE[:4], "-f", str(path), code=1)
    line = path.read_text().splitlines().index(f"    store: {store}") + 1
    assert f"error: {path}:{line}:5: ModelDeployment digits: {said}" in result.stderr


def test_a_run_is_said_to_make_the_default_store_and_no_store_for_evaluation_data(tmp_path: Path) -> None:
    made = "; `slipway run` makes this one itself"
    assert made in plan("-f", str(DIGITS / "training.yaml"), code=1).stderr
    result = plan(*RECIPE[:4], "-f", str(evaluated_in("apart", tmp_path)), code=1)
    assert "if the cluster has it: name its file too" in result.stderr
    assert made not in result.stderr
