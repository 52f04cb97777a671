"""Manifests from files: every error of every file, with its line, its field and the cure."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from slipway.api.trainingjob import TrainingJob
from slipway.manifests import BadManifests, Manifests, read_manifests

JOB = """\
apiVersion: slipway.dev/v1alpha1
kind: TrainingJob
metadata:
  name: digits
spec:
  entrypoint: {module: {name: team.train}}
"""
DEPLOYMENT = """\
apiVersion: slipway.dev/v1alpha1
kind: ModelDeployment
metadata:
  name: digits
spec:
  model: {trainingJob: digits}
"""
EXAMPLES = Path(__file__).parents[3] / "examples"


def read(tmp_path: Path, text: str, name: str = "a.yaml", **options: str) -> Manifests:
    path = tmp_path / name
    path.write_text(text)
    return read_manifests([str(path)], **options)


def errors(tmp_path: Path, text: str, name: str = "a.yaml", **options: str) -> list[str]:
    """Each as LINE:COLUMN: what."""
    with pytest.raises(BadManifests) as raised:
        read(tmp_path, text, name, **options)
    return [line.removeprefix(f"{tmp_path / name}:").strip() for line in raised.value.lines]


def job(**fields: str) -> str:
    return JOB + "".join(f"  {name}: {text}\n" for name, text in fields.items())


WRONG = {
    "a field that is misspelt": (job(node="2"), ["7:3: spec.node: unknown field; did you mean nodes?"]),
    "a field in another place": (
        job(epochs="2"),
        ["7:3: spec.epochs: unknown field; spec.entrypoint.recipe.epochs has that name: check the indentation"],
    ),
    "a text where a number belongs": (
        job(nodes="two"),
        ['7:3: spec.nodes: "two" is not a whole number from 1 to 1,000'],
    ),
    "a number in quotes": (
        job(nodes='"2"'),
        ['7:3: spec.nodes: "2" is not a whole number from 1 to 1,000; write it without quotes: 2'],
    ),
    "a number out of its bounds": (job(nodes="0"), ["7:3: spec.nodes: 0 is not a whole number from 1 to 1,000"]),
    "a broken duration": (
        job(activeDeadline="1.5h"),
        ['7:3: spec.activeDeadline: "1.5h" is not a length of time such as 90s, 10m, 12h or 7d'],
    ),
    "what YAML takes for true": (
        job(image="on"),
        ['7:3: spec.image: true is not a name of an image; YAML reads on as true: write it in quotes: "on"'],
    ),
    "a quantity that is none": (
        job(resources="{memory: 2gb}"),
        ["7:15: spec.resources.memory: '2gb' is not a quantity such as 4, 500m or 16Gi"],
    ),
    "one value where a list belongs": (
        job(pools="gpu"),
        ['7:3: spec.pools: "gpu" is not a list of at most 1 items; write a list: [...]'],
    ),
    "a word that is none of those known": (
        job(data="[{name: train, dataset: digit}]"),
        ['7:24: spec.data[0].dataset: "digit" is not one of digits; did you mean digits?'],
    ),
    "a rule of several fields": (
        JOB.replace("module: {name: team.train}", "recipe: {model: {}}"),
        ["5:1: spec.data: data must contain a source named train, which a recipe trains on"],
    ),
    "a field that is required": (
        JOB.replace("  entrypoint: {module: {name: team.train}}\n", "  nodes: 2\n"),
        ["5:1: spec.entrypoint: is missing; add a mapping with script, module, recipe"],
    ),
    "two that are the same in a list": (
        job(data="[{name: a, dataset: digits}, {name: a, dataset: digits}]"),
        ["7:3: spec.data: two items have the name 'a'; give each its own"],
    ),
    "several at once": (
        job(nodes="0", node="1", suspend='"true"'),
        [
            "7:3: spec.nodes: 0 is not a whole number from 1 to 1,000",
            "8:3: spec.node: unknown field; did you mean nodes?",
            '9:3: spec.suspend: "true" is not true or false; write it without quotes: true',
        ],
    ),
    "a kind that is misspelt": (
        JOB.replace("TrainingJob", "TrainJob"),
        ["2:1: kind: slipway.dev/v1alpha1 has no kind TrainJob; did you mean TrainingJob?"],
    ),
    "the short name of a kind": (
        JOB.replace("TrainingJob", "md"),
        ["2:1: kind: slipway.dev/v1alpha1 has no kind md; did you mean ModelDeployment?"],
    ),
    "a version that is not served": (
        JOB.replace("v1alpha1", "v1"),
        ["1:1: apiVersion: slipway.dev/v1 is not supported; use slipway.dev/v1alpha1"],
    ),
    "our kind under another's version": (
        JOB.replace("slipway.dev/v1alpha1", "batch/v1"),
        ["1:1: apiVersion: batch/v1 is not supported; use slipway.dev/v1alpha1"],
    ),
    "no apiVersion": (
        JOB.partition("\n")[2],
        ["1:1: apiVersion: is missing; for Slipway write slipway.dev/v1alpha1"],
    ),
    "no kind": (
        JOB.replace("kind: TrainingJob\n", ""),
        [
            "1:1: kind: is missing; for Slipway write one of TrainingJob, ModelDeployment, ArtifactStore, GPUPool,"
            " CompressionPlugin"
        ],
    ),
    "no name": (
        JOB.replace("  name: digits\n", "  labels: {}\n"),
        ["3:1: metadata.name: is missing; add metadata.name"],
    ),
    "a name that is made": (
        JOB.replace("name: digits", "generateName: digits-"),
        ["3:1: metadata.name: generateName works with `kubectl create` only; add metadata.name"],
    ),
    "a name that no Service can have": (
        JOB.replace("name: digits", "name: Digits"),
        [
            '4:3: metadata.name: "Digits" is not a valid name: it must start with a letter, have only lower-case'
            " letters, digits and -, and at most 40 characters: Services and host names of pods contain it"
        ],
    ),
    "a name that is a number": (
        JOB.replace("name: digits", "name: 42"),
        ['4:3: metadata.name: 42 is not a text; write it in quotes: "42"'],
    ),
    "a misspelt field of metadata": (
        JOB.replace("  name: digits", "  name: digits\n  lables: {}"),
        ["5:3: metadata.lables: unknown field; did you mean labels?"],
    ),
    "a label that is no text": (
        JOB.replace("  name: digits", "  name: digits\n  labels: {gpu: yes}"),
        ['5:12: metadata.labels.gpu: true is not a text; write it in quotes: "yes"'],
    ),
    "a namespace that is none": (
        JOB.replace("  name: digits", "  name: digits\n  namespace: Team_A"),
        ['5:3: metadata.namespace: "Team_A" is not a valid namespace: use lower-case letters, digits and -'],
    ),
    "a list instead of an object": (
        "- a\n- b\n",
        ["1:1: a list of 2 is not an object; start with apiVersion, kind and metadata"],
    ),
    "a field that stands twice": (
        job(nodes="1").replace("spec:", "spec:\n  nodes: 2"),
        ["8:3: duplicate field 'nodes', first in line 6; remove one"],
    ),
    "a tab": (JOB + "\tnodes: 2\n", ["7:1: YAML does not allow tabs as indentation; use spaces"]),
    "a number that JSON lacks": (job(nodes=".inf"), ["7:10: .inf is not a number of JSON; use a finite number"]),
    "an alias without an anchor": (
        job(nodes="*many"),
        [
            "7:10: invalid YAML: found undefined alias; an alias (*name) needs its anchor (&name) before it, in the"
            " same document"
        ],
    ),
    "a tag of Python's": (
        job(nodes="!!python/int 2"),
        ["7:10: the tag !!python/int is not supported; remove it"],
    ),
    "a Kustomization in a file": (
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n",
        ["2:1: kind: a Kustomization is not an object of a cluster; use its folder with -f"],
    ),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_with_its_line_its_field_and_the_cure(tmp_path: Path, text: str, said: list[str]) -> None:
    found = errors(tmp_path, text)
    assert found == said


def test_every_error_of_every_document_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{job(nodes='0')}---\n{JOB}\tx: 1\n---\n{DEPLOYMENT}  store: 7\n")
    (tmp_path / "b.yaml").write_text(DEPLOYMENT + "  serving: {replica: 2}\n")
    with pytest.raises(BadManifests) as raised:
        read_manifests([str(tmp_path)])
    places = [line.removeprefix(f"{tmp_path}/").split(": ")[0] for line in raised.value.lines]
    assert places == ["a.yaml:7:3", "a.yaml:15:1", "a.yaml:23:3", "b.yaml:7:13"]


def test_right_files_become_typed_objects_with_the_defaults_of_the_api_server(tmp_path: Path) -> None:
    (item,) = read(tmp_path, job(nodes="2.0")).items
    assert isinstance(item.model, TrainingJob)
    assert item.object["metadata"] == {"name": "digits", "namespace": "default"}
    assert (item.object["spec"]["nodes"], item.object["spec"]["store"]) == (2, "default")
    assert str(item.place_of("spec.nodes")) == f"{tmp_path / 'a.yaml'}:7:3"


def test_the_items_of_lists_are_objects_of_their_own(tmp_path: Path) -> None:
    body = {"kind": "TrainingJob", "apiVersion": "slipway.dev/v1alpha1", "metadata": {"name": "a"}}
    bad = {**body, "spec": {"entrypoint": {"module": {"name": "a.b"}}, "nodes": 0}}
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [bad]}, indent=1)
    assert errors(tmp_path, text, "list.json") == ["17:5: spec.nodes: 0 is not a whole number from 1 to 1,000"]


def test_objects_of_other_kinds_are_passed_on_as_they_are(tmp_path: Path) -> None:
    (item,) = read(tmp_path, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {mode: 0644}\n").items
    assert (item.model, item.object["data"], item.object["metadata"]["namespace"]) == (None, {"mode": 420}, "default")


def test_two_of_one_kind_and_name_are_told_with_both_places(tmp_path: Path) -> None:
    (told,) = errors(tmp_path, f"{JOB}---\n{JOB}")
    assert told == (
        f"11:3: metadata.name: TrainingJob digits is already defined at {tmp_path / 'a.yaml'}:1:1; rename or remove one"
    )


def test_namesakes_of_other_namespaces_or_kinds_are_two_objects(tmp_path: Path) -> None:
    other = JOB.replace("  name: digits", "  name: digits\n  namespace: other")
    assert len(read(tmp_path, f"{JOB}---\n{other}---\n{DEPLOYMENT}").items) == 3


def test_a_namespace_that_was_asked_for_is_everybodys(tmp_path: Path) -> None:
    other = JOB.replace("  name: digits", "  name: digits\n  namespace: other")
    assert read(tmp_path, JOB, namespace="team").objects[0]["metadata"]["namespace"] == "team"
    assert errors(tmp_path, other, namespace="team") == [
        '5:3: metadata.namespace: "other" differs from -n (team); remove one of them'
    ]


def test_a_number_that_looks_decimal_and_is_octal_is_warned_of(tmp_path: Path) -> None:
    found = read(tmp_path, job(nodes="010"))
    assert found.objects[0]["spec"]["nodes"] == 8
    assert [str(one) for one in found.warnings] == [
        f"{tmp_path / 'a.yaml'}:7:3: spec.nodes: YAML reads 010 as 8 (octal)"
    ]


def test_anchors_and_merges_are_followed_and_errors_in_them_point_to_where_they_are_written(tmp_path: Path) -> None:
    text = JOB.replace("spec:", "spec:\n  <<: &common {nodes: 0}")
    assert errors(tmp_path, text)[0].startswith("6:16: spec.nodes: 0 is not")


def test_a_few_aliases_that_stand_for_a_great_deal_are_refused(tmp_path: Path) -> None:
    layers = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    (told,) = errors(tmp_path, "a0: &a0 [x]\n" + layers)
    assert "more than 200,000 values" in told


def test_an_alias_inside_of_its_own_anchor_is_refused(tmp_path: Path) -> None:
    (told,) = errors(tmp_path, "a: &a [*a]\n")
    assert told == "1:4: the alias refers to a value that contains it; write the value instead"


def test_a_folder_is_read_by_name_and_with_what_is_below_it_only_where_asked(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "c.yml").write_text(DEPLOYMENT)
    (tmp_path / "a.yaml").write_text(JOB)
    (tmp_path / "notes.txt").write_text("none of ours")
    assert len(read_manifests([str(tmp_path)]).items) == 1
    assert len(read_manifests([str(tmp_path)], recursive=True).items) == 2


@pytest.mark.parametrize(
    ("name", "said", "absent"),
    [
        ("none.yaml", "no such file or folder", True),
        ("empty", "no file ends with .yaml, .yml, .json; use -R to read subfolders as well", False),
        ("latin.yaml:1:1", "is not text in UTF-8 (byte 0); convert it", False),
        ("comments.yaml", "contains no object; check the file names", False),
    ],
)
def test_what_cannot_be_read_is_told_by_its_name(tmp_path: Path, name: str, said: str, absent: bool) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "latin.yaml").write_bytes("é".encode("latin-1"))
    (tmp_path / "comments.yaml").write_text("# nothing\n---\n")
    with pytest.raises(BadManifests) as raised:
        read_manifests([str(tmp_path / name.partition(":")[0])])
    assert (raised.value.lines, raised.value.absent) == ((f"{tmp_path / name}: {said}",), absent)


def test_standard_input_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(job(nodes="0")))
    with pytest.raises(BadManifests, match=r"^<stdin>:7:3: spec.nodes"):
        read_manifests(["-", "-"])


# --- Kustomizations ----------------------------------------------------------------------------------------------


def kustomization(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kustomization.yaml").write_text(f"kind: Kustomization\n{text}")
    return folder


def test_a_kustomization_that_lists_is_read_with_its_namespace(tmp_path: Path) -> None:
    base = kustomization(tmp_path / "base", "resources: [job.yaml]\n")
    (base / "job.yaml").write_text(JOB)
    overlay = kustomization(tmp_path / "overlay", "namespace: prod\nresources: [../base]\n")
    assert read_manifests([str(overlay)]).objects[0]["metadata"]["namespace"] == "prod"


def test_the_config_map_of_the_example_is_made_as_kustomize_makes_it() -> None:
    found = {(obj["kind"], obj["metadata"]["name"]): obj for obj in read_manifests([str(EXAMPLES / "digits")]).objects}
    assert set(found) == {
        ("TrainingJob", "digits-script"),
        ("ModelDeployment", "digits-script"),
        ("ConfigMap", "digits-train"),
    }
    assert found["ConfigMap", "digits-train"]["data"] == {"train.py": (EXAMPLES / "digits/train.py").read_text()}


def test_what_reaches_beyond_its_folders_is_named_with_the_command_that_does_it_knowingly(tmp_path: Path) -> None:
    folder = kustomization(
        tmp_path / "k", "generators: [g.yaml]\nresources: [https://example.org/x.yaml, none.yaml, 7]\n"
    )
    with pytest.raises(BadManifests) as raised:
        read_manifests([str(folder)])
    build = f"run `kubectl kustomize {folder} | slipway ... -f -`"
    assert [line.removeprefix(f"{folder}/kustomization.yaml:") for line in raised.value.lines] == [
        f"2:1: generators: may run programs or fetch charts; {build}",
        f"3:13: resources: https://example.org/x.yaml is remote, and nothing is fetched; {build}",
        "3:41: resources: none.yaml does not exist; correct the path",
        "3:52: resources: each item must be the path of a file or folder",
    ]


def test_patches_images_and_prefixes_are_those_of_kustomize_and_errors_name_the_file_of_the_object(
    tmp_path: Path,
) -> None:
    base = kustomization(tmp_path / "base", "resources: [job.yaml]\n")
    (base / "job.yaml").write_text(JOB)
    patch = 'patches: [{patch: \'[{"op":"add","path":"/spec/nodes","value":3}]\', target: {kind: TrainingJob}}]\n'
    overlay = kustomization(tmp_path / "overlay", f"namePrefix: prod-\nresources: [../base]\n{patch}")
    (found,) = read_manifests([str(overlay)]).items
    assert (found.object["metadata"]["name"], found.object["spec"]["nodes"]) == ("prod-digits", 3)
    assert "annotations" not in found.object["metadata"]
    assert str(found.place_of("spec.entrypoint")) == f"{base / 'job.yaml'}:6:3"
    (base / "job.yaml").write_text(job(node="2"))
    with pytest.raises(BadManifests) as raised:
        read_manifests([str(overlay)])
    assert raised.value.lines[0].startswith(f"{base / 'job.yaml'}:7:3: spec.node: unknown field")


def test_kustomizations_that_list_each_other_are_named(tmp_path: Path) -> None:
    kustomization(tmp_path / "b", "resources: [../a]\n")
    with pytest.raises(BadManifests, match="include each other"):
        read_manifests([str(kustomization(tmp_path / "a", "resources: [../b]\n"))])
