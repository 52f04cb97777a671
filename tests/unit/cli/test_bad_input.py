"""What users get wrong: one clear error for each mistake, the exit code that --help tells, and never a traceback."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner, Result

from slipway.cli.main import app
from support.builders import store, training_job
from support.kubehttp import KubeHttp

Slipway = Callable[..., Result]

JOB = """\
apiVersion: slipway.dev/v1alpha1
kind: TrainingJob
metadata: {name: digits}
spec:
  entrypoint: {module: {name: team.train}}
"""
STORE = """\
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: claim}
spec: {accessModes: [ReadWriteMany]}
---
apiVersion: slipway.dev/v1alpha1
kind: ArtifactStore
metadata: {name: default}
spec: {persistentVolumeClaim: {claimName: claim}}
"""
DEPLOYMENT = """\
apiVersion: slipway.dev/v1alpha1
kind: ModelDeployment
metadata: {name: digits}
spec:
  model: {trainingJob: digits}
  compression: {steps: [{plugin: quantize-int8}], data: {dataset: digits}}
  evaluation: {data: {dataset: digits, split: test}}
"""
PLAN = "plan -f a.yaml"
EXAMPLE = Path(__file__).parents[3] / "examples" / "digits" / "training.yaml"


class Case(NamedTuple):
    """files: by name. words: the command line. said: what the error must hold; of several lines, each one."""

    words: str
    code: int
    said: tuple[str, ...]
    files: dict[str, str | None] = {}  # noqa: RUF012 - never changed


def of(words: str, code: int, *said: str, **files: str | None) -> Case:
    return Case(words, code, said, {name.replace("_", "."): text for name, text in files.items()})


def manifest(*said: str, text: str) -> Case:
    return of(PLAN, 2, *said, a_yaml=text)


FILES = {
    "a file that is not there": of("plan -f none.yaml", 3, "none.yaml: no such file or folder"),
    "no file at all": of("plan", 2, "--filename"),
    "a folder without manifests": of("plan -f .", 2, ".: no file ends with .yaml, .yml, .json"),
    "a file of comments": manifest("a.yaml: contains no object; check the file names", text="# later\n"),
    "an address": of("plan -f https://example.org/a.yaml", 2, "URLs are not read"),
    "YAML with a tab": manifest("a.yaml:6:1: YAML does not allow tabs as indentation", text=JOB + "\tnodes: 1\n"),
    "YAML with a bracket too many": manifest("a.yaml:7:1: invalid YAML", text=JOB + "  nodes: [1\n"),
    "JSON that is cut off": of("plan -f a.json", 2, "a.json:1:", "invalid JSON", a_json='{"items": ['),
    "a field that stands twice": manifest(
        "a.yaml:7:3: duplicate field 'nodes', first in line 6", text=JOB + "  nodes: 1\n  nodes: 2\n"
    ),
    "a kind that is misspelt": manifest("did you mean TrainingJob?", text=JOB.replace("TrainingJob", "TraningJob")),
    "a version that is not served": manifest("use slipway.dev/v1alpha1", text=JOB.replace("v1alpha1", "v1beta1")),
    "a field that is misspelt": manifest("a.yaml:6:3: spec.node: ", "did you mean nodes?", text=JOB + "  node: 2\n"),
    "a text for a number": manifest('spec.nodes: "two" is not a whole number', text=JOB + "  nodes: two\n"),
    "a number out of its bounds": manifest("spec.nodes: 0 is not a whole number from 1", text=JOB + "  nodes: 0\n"),
    "a time that is none": manifest("such as 90s, 10m, 12h or 7d", text=JOB + "  activeDeadline: 1 hour\n"),
    "a field that is missing": manifest("spec.entrypoint: is missing", text=f"{JOB.partition('  entry')[0]}  nodes: 1"),
    "a name that cannot be": manifest("metadata.name", "start with a letter", text=JOB.replace("digits", "9digits")),
    "two namesakes": manifest("TrainingJob digits is already defined at a.yaml:1:1", text=f"{JOB}---\n{JOB}"),
    "another namespace than -n": of(
        f"{PLAN} -n team", 2, '"other" differs from -n (team)',
        a_yaml=JOB.replace("{name: digits}", "{name: digits, namespace: other}"),
    ),
    "a namespace that cannot be": of(f"{PLAN} -n Team_A", 2, "is not a valid namespace", a_yaml=JOB),
    "kustomizations in a circle": of(
        "plan -f a", 2, "kustomizations include each other", **{"a/kustomization_yaml": "resources: [../a]\n"}
    ),
    "what kustomize runs programs for": of(
        "plan -f a", 2, "helmCharts:", "kubectl kustomize a", **{"a/kustomization_yaml": "helmCharts: [{name: x}]\n"}
    ),
    "--exit-code without --live": of(f"{PLAN} --exit-code", 2, "--exit-code and --context need --live", a_yaml=JOB),
    "a shape that no plan has": of(f"{PLAN} -o table", 2, "table", a_yaml=JOB),
}  # fmt: skip
PLANS = {
    "a store that is nowhere": of(
        PLAN, 1, "a.yaml:4:1: TrainingJob digits: StoreNotFound", "`slipway run` makes this one itself",
        "or plan with --live", a_yaml=JOB,
    ),
    "a job that is nowhere": of(
        PLAN, 1, "a.yaml:15:3: ModelDeployment digits: ModelNotReady", 'no TrainingJob "digits"',
        a_yaml=f"{STORE}---\n{DEPLOYMENT}",
    ),
    "a plugin that is nowhere": of(
        PLAN, 1, 'there is no CompressionPlugin "quantise"',
        a_yaml=f"{STORE}---\n{JOB}---\n{DEPLOYMENT.replace('quantize-int8', 'quantise')}",
    ),
    "a parameter that the plugin has not": of(
        PLAN, 1, "spec.compression.steps[0].params",
        a_yaml=f"{STORE}---\n{JOB}---\n{DEPLOYMENT.replace('quantize-int8', 'quantize-int8, params: {bits: 4}')}",
    ),
    "steps in an order that cannot be": of(
        PLAN, 1, "spec.compression.steps[1]", "put prune-structured before",
        a_yaml=f"{STORE}---\n{JOB}---\n{DEPLOYMENT}".replace(
            "{plugin: quantize-int8}", "{plugin: quantize-int8}, {plugin: prune-structured, params: {ratio: 0.5}}"
        ),
    ),
    "evaluation on training data": of(
        PLAN, 1, "spec.evaluation.data: is the train data of trainingJob/digits", "name held-out data",
        a_yaml=f"{STORE}---\n{JOB}  data: [{{name: train, dataset: digits, split: test}}]\n---\n"
        + DEPLOYMENT.replace(", data: {dataset: digits}}", "}"),
    ),
    "a claim that cannot be shared": of(
        PLAN, 1, "ClaimNotShared", a_yaml=STORE.replace("ReadWriteMany", "ReadWriteOnce"),
    ),
}  # fmt: skip
CLUSTER = {
    "no cluster": of("status digits", 4, "no credentials for a cluster", "set KUBECONFIG to a readable file"),
    "no cluster for --live": of(f"{PLAN} --live", 4, "no credentials for a cluster", a_yaml=JOB),
    "no cluster for the doctor": of("doctor", 4, "no credentials for a cluster"),
    "a kind that nobody has": of("status pod/digits", 2, "trainingjob/NAME (tj) or modeldeployment/NAME (md)"),
    "a time-out that is no number": of("status -w --timeout soon", 2, "--timeout", "number"),
    "a time-out below zero": of("status -w --timeout -1", 2, "--timeout", "0"),
    "a time-out without --watch": of("status --timeout 1", 2, "--timeout needs --watch"),
    "a name and all namespaces": of("status digits -A", 2, "leave out --all-namespaces or the name"),
    "no samples": of("predict digits", 2, "use either --input or --dataset"),
    "no model": of("predict --dataset digits", 2, "use either the name of a ModelDeployment or --url"),
    "server and a run": of("predict --url h:1 --local --dataset digits", 2, "--url does not work with --local"),
    "a file of samples that is not there": of("predict digits --input none.npy", 3, "none.npy"),
    "a plugin that is not installed": of("plugin manifest nonesuch", 3, 'plugin "nonesuch" is not installed'),
    "a command that is misspelt": of("stauts", 2, "stauts"),
    "an option that nobody has": of("status --al", 2, "--al"),
    "an option without its value": of("plan -f", 2, "-f"),
}  # fmt: skip
RUN = "run -f a.yaml --once"
RUNS = {
    "nothing to run": of("run", 2, "--filename"),
    "nothing there to run": of("run -f none.yaml", 3, "none.yaml: no such file or folder"),
    "what cannot be run": of(RUN, 2, "a.yaml:6:3: spec.nodes: 0 is not", a_yaml=JOB + "  nodes: 0\n"),
    "a state folder that is a file": of(
        f"{RUN} --state x", 1, "x cannot be written (File exists); use another --state", a_yaml=JOB, x=""
    ),
    "a state folder that was cut off": of(
        f"{RUN} --state s", 1, "objects.json cannot be read", "use another --state",
        **{"a_yaml": JOB, "s/objects_json": "{"},
    ),
    "a time-out of a run below zero": of(f"{RUN} --timeout -1", 2, "--timeout", a_yaml=JOB),
    "devices that are not here": of(
        RUN, 2, "spec.pools", "--cpu",
        a_yaml=JOB + "  pools: [gpu]\n---\napiVersion: slipway.dev/v1alpha1\nkind: GPUPool\nmetadata: {name: gpu}\n"
        "spec: {nodeSelector: {a: b}, resource: {perPod: 64}}\n",
    ),
}  # fmt: skip
CASES = {**FILES, **PLANS, **CLUSTER, **RUNS}


def invoke(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("KUBECONFIG", str(folder / "none"))
    for name, text in case.files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text or "")
    return CliRunner().invoke(app, case.words.split())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_mistake_is_one_clear_error_with_its_exit_code(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = invoke(case, tmp_path, monkeypatch)
    assert (result.exit_code, result.exception is None or isinstance(result.exception, SystemExit)) == (case.code, True)
    for part in case.said:
        assert part in result.stderr
    assert "Traceback" not in result.output
    if result.stderr.startswith("error:"):
        assert all(re.match(r"(error|warning): ", line) for line in result.stderr.splitlines())


def test_there_are_at_least_thirty_mistakes() -> None:
    assert len(CASES) >= 30


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.yaml").write_text(JOB)
    monkeypatch.setattr("slipway.manifests.files.os.open", refused)
    result = CliRunner().invoke(app, ["plan", "-f", str(tmp_path / "a.yaml")])
    assert (result.exit_code, result.stderr) == (
        2,
        f"error: {tmp_path / 'a.yaml'}: cannot be read: permission denied\n",
    )


def test_a_disk_without_space_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text(JOB)

    def full(_path: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    state = tmp_path / "state"
    result = CliRunner().invoke(app, ["run", "-f", str(tmp_path / "a.yaml"), "--state", str(state)])
    said = f"error: the state folder {state} cannot be written (No space left on device); use another --state\n"
    assert (result.exit_code, result.stderr) == (1, said)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("status", "nobody"), 3, "no TrainingJob or ModelDeployment 'nobody' in namespace 'team'"),
        (("status", "--context", "elsewhere"), 4, "elsewhere"),
        (("plan", "-f", "a.yaml", "--live"), 2, "give --runtime-image and --serving-image"),
    ],
)
def test_what_the_cluster_lacks_is_named(
    slipway: Slipway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(JOB)
    result = slipway(KubeHttp([[training_job(), store()]]), *words)
    assert (result.exit_code, said in result.stderr) == (code, True), result.stderr


def test_a_cluster_without_our_kinds_says_to_install_them(slipway: Slipway) -> None:
    for words in (["status"], ["plan", "-f", str(EXAMPLE), "--live"]):
        result = slipway(KubeHttp([[]], refuse=404), *words)
        assert (result.exit_code, "does not know" in result.stderr) == (3, True)
