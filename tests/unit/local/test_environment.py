"""What a container of a manifest finds when it is a process: folders for mounts, values for references."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from slipway.api.kinds import Object
from slipway.api.tasks import OUT_DIR, STORE_DIR, TrainTask
from slipway.local.environment import (
    Allocation,
    ContainerConfigError,
    Sources,
    build_environment,
    expand_variables,
    make_mounts,
    move_long_task_to_file,
    pod_folder,
    remove_pod_folder,
    short_scratch_path,
    translate_paths,
)
from slipway.local.state import StateFolder
from slipway.plan.taskinput import TaskInput
from slipway.runtime.pod import read_task
from support.local import a_pod

SOURCES = Sources(
    {("ConfigMap", "default", "code"): {"train.py": b"print()"}, ("Secret", "default", "key"): {"key": b"s"}}
)


def variables(env: list[Object], pod: Object | None = None, **mounts: Path) -> dict[str, str]:
    container = {"name": "main", "env": env}
    return build_environment(
        pod or a_pod(), container, mounts=mounts, message=Path("/pod/message"), sources=SOURCES, allocation=Allocation()
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/tmp", "/pod/tmp"),
        ("/tmp/a", "/pod/tmp/a"),
        ("--repository=/tmp/models", "--repository=/pod/tmp/models"),
        ('{"path": "/tmp/train.py"}', '{"path": "/pod/tmp/train.py"}'),
        ("/tmpfiles", "/tmpfiles"),
        ("/var/tmp", "/var/tmp"),
        ("store:///tmp/x", "store:///tmp/x"),
        ("/tmp/deep/x", "/pod/deep/x"),
    ],
)
def test_a_mount_path_is_replaced_only_where_it_stands_as_a_path(text: str, expected: str):
    mounts = {"/tmp": Path("/pod/tmp"), "/tmp/deep": Path("/pod/deep")}
    assert translate_paths(text, mounts) == expected


def test_what_replaces_a_path_is_not_replaced_again():
    assert translate_paths("/data", {"/data": Path("/tmp/data"), "/tmp": Path("/elsewhere")}) == "/tmp/data"


def test_volumes_are_folders_and_a_sub_path_is_a_folder_of_the_claim(tmp_path: Path):
    pod = a_pod(
        volumes=[
            {"name": "store", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "code", "configMap": {"name": "code"}},
            {"name": "scratch", "emptyDir": {}},
        ]
    )
    container = {
        "volumeMounts": [
            {"name": "store", "mountPath": STORE_DIR, "readOnly": True},
            {"name": "store", "mountPath": OUT_DIR, "subPath": "steps/1"},
            {"name": "code", "mountPath": "/workspace/"},
            {"name": "scratch", "mountPath": "/tmp"},
        ]
    }
    mounts = make_mounts(pod, container, StateFolder(tmp_path), SOURCES)
    assert mounts[OUT_DIR] == mounts[STORE_DIR] / "steps/1"
    assert (mounts["/workspace"] / "train.py").read_bytes() == b"print()"
    assert mounts["/tmp"].is_dir()
    assert not mounts["/tmp"].is_relative_to(mounts[STORE_DIR])


def viewing(tmp_path: Path, name: str) -> Path:
    """The store as a container finds it that mounts that one folder of a claim."""
    pod = a_pod(volumes=[{"name": "store", "persistentVolumeClaim": {"claimName": "data"}}])
    mount = {"name": "store", "mountPath": f"{STORE_DIR}/{name}", "subPath": name, "readOnly": True}
    container = {"name": "main", "volumeMounts": [mount]}
    state = StateFolder(tmp_path)
    mounts = make_mounts(pod, container, state, SOURCES)
    assert make_mounts(pod, container, state, SOURCES) == mounts
    assert mounts[f"{STORE_DIR}/{name}"] == mounts[STORE_DIR] / name
    return mounts[STORE_DIR]


def test_of_a_store_a_process_finds_its_inputs_alone(tmp_path: Path):
    claim = StateFolder(tmp_path).claim(a_pod(volumes=[])["metadata"]["namespace"], "data")
    for name in ("steps/1/artifact", "steps/2/artifact"):
        (claim / name).mkdir(parents=True)
        (claim / name / "manifest.json").write_text(name)
    view = viewing(tmp_path, "steps/1")
    assert [path.relative_to(view).as_posix() for path in view.rglob("*.json")] == ["steps/1/artifact/manifest.json"]
    assert (view / "steps/1/artifact/manifest.json").samefile(claim / "steps/1/artifact/manifest.json")


def test_a_missing_input_is_an_empty_folder_as_a_kubelet_makes_one(tmp_path: Path):
    view = viewing(tmp_path, "steps/1")
    assert list(view.rglob("*")) == [view / "steps", view / "steps/1"]


def test_an_input_that_is_a_link_out_of_the_claim_is_refused(tmp_path: Path):
    claim = StateFolder(tmp_path).claim(a_pod(volumes=[])["metadata"]["namespace"], "data")
    claim.mkdir(parents=True)
    (claim / "models").symlink_to(tmp_path)
    with pytest.raises(ContainerConfigError, match="is a link that leads out of the claim"):
        viewing(tmp_path, "models")


def test_a_config_map_that_no_file_has_is_named(tmp_path: Path):
    pod = a_pod(volumes=[{"name": "code", "configMap": {"name": "other"}}])
    container = {"volumeMounts": [{"name": "code", "mountPath": "/workspace"}]}
    with pytest.raises(ContainerConfigError, match="ConfigMap other is in no file"):
        make_mounts(pod, container, StateFolder(tmp_path), SOURCES)


@pytest.mark.parametrize("depth", [1, 12])
def test_a_socket_can_be_made_in_the_scratch_folder_however_deep_the_state_lies(tmp_path: Path, depth: int):
    state, pod = StateFolder(tmp_path.joinpath(*["a-folder"] * depth)), a_pod()
    folder = pod_folder(pod, state) / "slipway-tmp"
    folder.mkdir(parents=True)
    scratch = short_scratch_path(pod, folder, state)
    assert scratch == short_scratch_path(pod, folder, state)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(scratch / "pymp-abcdefghlistener-abcdefgh"))
    assert len(list(folder.iterdir())) == 1
    remove_pod_folder(pod, state)
    assert not scratch.exists()
    assert not scratch.is_symlink()


def test_the_downward_api_gives_labels_annotations_and_the_address():
    paths = {
        "UID": "metadata.labels['batch.kubernetes.io/controller-uid']",
        "INDEX": "metadata.annotations['batch.kubernetes.io/job-completion-index']",
        "IP": "status.podIP",
    }
    found = variables([{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in paths.items()])
    assert (found["UID"], found["INDEX"], found["IP"]) == ("job", "1", "127.64.0.101")


def test_a_field_that_a_process_has_not_is_refused():
    with pytest.raises(ContainerConfigError, match=r"spec\.nodeName"):
        variables([{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}])


def test_keys_of_secrets_become_variables_and_a_missing_optional_one_does_not():
    present = {"name": "GIVEN", "valueFrom": {"secretKeyRef": {"name": "key", "key": "key"}}}
    absent = {"name": "OTHER", "valueFrom": {"secretKeyRef": {"name": "none", "key": "token", "optional": True}}}
    found = variables([present, absent])
    assert found["GIVEN"] == "s"
    assert "OTHER" not in found


def test_nothing_of_this_process_environment_reaches_a_pod_but_how_python_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    monkeypatch.setenv("PYTHONPATH", "/here")
    found = variables([])
    assert "AWS_SECRET_ACCESS_KEY" not in found
    assert found["PYTHONPATH"] == "/here"


def test_the_runtime_is_told_where_its_folders_are():
    found = variables([], **{STORE_DIR: Path("/state/store")})
    assert found["SLIPWAY_STORE_DIR"] == "/state/store"
    assert found["SLIPWAY_TERMINATION_LOG"] == "/pod/message"


def test_agents_of_a_job_meet_where_they_are_told():
    task = {
        "task": "train",
        "entrypoint": {"module": {"name": "train"}},
        "nodes": 2,
        "processesPerNode": 1,
        "rendezvous": {"id": "job", "host": "job-0.job", "port": 29400},
    }
    container = {"name": "main", "env": [{"name": "SLIPWAY_TASK", "value": json.dumps(task)}]}
    found = build_environment(
        a_pod(),
        container,
        mounts={},
        message=Path("/m"),
        sources=SOURCES,
        allocation=Allocation(("127.64.0.100", 31000), "1,2"),
    )
    moved = json.loads(found["SLIPWAY_TASK"])["rendezvous"]
    assert (moved["host"], moved["port"], moved["id"]) == ("127.64.0.100", 31000, "job")
    assert found["PET_LOCAL_ADDR"] == "127.64.0.101"
    assert found["CUDA_VISIBLE_DEVICES"] == "1,2"


def test_a_long_task_is_a_file_with_the_paths_and_the_rendezvous_of_this_machine(tmp_path: Path):
    task = TrainTask.model_validate(
        {
            "entrypoint": {"script": {"path": "/code/train.py", "args": ["\U0001f600" * 1024] * 16}},
            "nodes": 2,
            "processesPerNode": 1,
            "rendezvous": {"id": "job", "host": "job-0.job", "port": 29400},
        }
    )
    given = TaskInput.of(task)
    pod = a_pod(volumes=[*given.volumes, {"name": "code", "emptyDir": {}}])
    pod["metadata"]["annotations"] |= given.annotations
    container = {
        "name": "main",
        "env": [{"name": "SLIPWAY_TASK", "value": given.value}],
        "volumeMounts": [*given.mounts, {"name": "code", "mountPath": "/code"}],
    }
    mounts = make_mounts(pod, container, StateFolder(tmp_path), SOURCES)
    assert (mounts["/var/lib/slipway/task"] / "task.json").read_text() == given.text  # as a kubelet writes it
    allocation = Allocation(("127.64.0.100", 31000), "")
    found = build_environment(pod, container, mounts=mounts, message=Path("/m"), sources=SOURCES, allocation=allocation)
    found = move_long_task_to_file(found, tmp_path / "own")
    assert max(map(len, found.values())) < 4096
    read = read_task(found)
    assert isinstance(read, TrainTask)
    assert (read.rendezvous.host, read.rendezvous.port) == ("127.64.0.100", 31000)
    assert read.entrypoint.script is not None
    assert read.entrypoint.script.path == str(mounts["/code"] / "train.py")
    assert read.entrypoint.script.args == task.entrypoint.script.args


@pytest.mark.parametrize(
    ("text", "expected"), [("$(A)/x", "1/x"), ("$(B)", "$(B)"), ("$$(A)", "$(A)"), ("cost: $5", "cost: $5")]
)
def test_references_to_variables_are_expanded_as_kubernetes_does(text: str, expected: str):
    assert expand_variables(text, {"A": "1"}) == expected
