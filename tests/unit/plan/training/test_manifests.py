"""What the three objects of an attempt say."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from slipway.api.kinds import JOB, NETWORK_POLICY, SERVICE, Key, Kind, Object, key_of
from slipway.api.reports import parse_report
from slipway.api.tasks import TrainTask, parse_task
from support.builders import DIGEST, NAMESPACE, RECIPE, SETTINGS, bucket_store, pool, stored_data
from support.restricted import breaches
from support.training import TrainingWorld
from support.world import env_of

MINE: dict[str, Any] = {"image": "mine:1", "entrypoint": {"script": {"path": "/src/train.py", "args": ["--lr", "0.1"]}}}


def job_of(*objects: Object, **spec: Any) -> Object:
    return TrainingWorld(*objects, **spec).plan().job()


def pod_spec(job: Object) -> Object:
    spec: Object = job["spec"]["template"]["spec"]
    return spec


def main(job: Object) -> Object:
    (container,) = pod_spec(job)["containers"]
    return dict(container)


def child(kind: Kind, world: TrainingWorld) -> Object:
    return world.objects[Key(kind, NAMESPACE, world.attempts[-1]["job"] if kind == JOB else world.peers)]


def test_the_job_is_indexed_and_never_retries_by_itself() -> None:
    job = job_of(nodes=3)
    spec = {
        name: job["spec"][name] for name in ("completionMode", "completions", "parallelism", "backoffLimitPerIndex")
    }
    assert spec == {"completionMode": "Indexed", "completions": 3, "parallelism": 3, "backoffLimitPerIndex": 0}
    assert [rule["action"] for rule in job["spec"]["podFailurePolicy"]["rules"]] == ["FailIndex", "FailJob"]
    assert job_of(nodes=1)["spec"]["backoffLimit"] == 0
    assert "ttlSecondsAfterFinished" not in job["spec"]
    assert pod_spec(job)["restartPolicy"] == "Never"


def test_every_child_is_controlled_by_the_training_job_and_labelled() -> None:
    world = TrainingWorld(nodes=2).plan()
    for kind in (JOB, SERVICE, NETWORK_POLICY):
        meta = child(kind, world)["metadata"]
        (owner,) = meta["ownerReferences"]
        assert owner == {
            "apiVersion": "slipway.dev/v1alpha1",
            "kind": "TrainingJob",
            "name": "digits",
            "uid": "uid-of-digits",
            "controller": True,
        }
        assert meta["labels"]["slipway.dev/training-job"] == "digits"
        assert meta["labels"]["slipway.dev/role"] == "train"


def test_a_namesake_made_later_gets_other_names() -> None:
    names = {job_of()["metadata"]["name"]}
    world = TrainingWorld()
    world.objects[world.key]["metadata"]["uid"] = "another"
    names.add(world.plan().job()["metadata"]["name"])
    assert len(names) == 2


def test_the_longest_names_still_make_hostnames() -> None:
    world = TrainingWorld(name="a" * 40, nodes=1000, restarts={"max": 1000}).plan()
    world.set_status(world.key, {**world.status(world.key), "attempts": [{**world.attempts[0], "number": 9999}]})
    longest = f"{world.job()['metadata']['name'][:-1]}9999-999"
    assert len(longest) <= 63


def test_pods_are_named_by_a_headless_service_before_they_are_ready() -> None:
    world = TrainingWorld(nodes=2).plan()
    service = child(SERVICE, world)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    labels = world.job()["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert pod_spec(world.job())["subdomain"] == service["metadata"]["name"]


def test_only_pods_of_the_same_training_job_reach_its_pods() -> None:
    world = TrainingWorld(nodes=2).plan()
    own = {"podSelector": {"matchLabels": {"slipway.dev/peers": world.peers}}}
    assert child(NETWORK_POLICY, world)["spec"] == {**own, "policyTypes": ["Ingress"], "ingress": [{"from": [own]}]}


def test_the_runtime_image_gets_the_task() -> None:
    job = job_of(nodes=2, processesPerNode=3, data=[stored_data("train")])
    assert main(job)["command"] == ["python", "-m", "slipway.runtime"]
    assert main(job)["image"] == SETTINGS.runtime_image
    task = parse_task(env_of(job)["SLIPWAY_TASK"])
    name = job["metadata"]["name"]
    assert isinstance(task, TrainTask)
    assert (task.nodes, task.processes_per_node) == (2, 3)
    assert task.entrypoint.to_wire()["recipe"]["model"] == RECIPE["recipe"]["model"] | {
        "factory": "slipway.runtime.models:mlp"
    }
    assert (task.rendezvous.id, task.rendezvous.host, task.rendezvous.port) == (
        name,
        f"{name}-0.{name.removesuffix('-1')}",
        29400,
    )
    assert [(ref.name, ref.artifact.digest) for ref in task.data] == [("train", DIGEST)]


def test_each_attempt_has_a_folder_of_its_own_and_reads_its_data_alone() -> None:
    job = job_of()
    mounts = {mount["mountPath"]: mount for mount in main(job)["volumeMounts"] if mount["name"] == "slipway-store"}
    assert {path: (mount["subPath"], mount.get("readOnly", False)) for path, mount in mounts.items()} == {
        "/var/lib/slipway/store/data/train": ("data/train", True),
        "/var/lib/slipway/out": ("training/uid-of-digits/1", False),
    }
    assert env_of(job)["SLIPWAY_OUT_URI"] == "store:///training/uid-of-digits/1"


def test_prepared_data_are_handed_over_by_their_digest() -> None:
    world = TrainingWorld(data=[{"name": "train", "dataset": "digits"}]).plan()
    world.step()
    world.plan()
    (record,) = world.status(world.key)["data"]
    task = parse_task(env_of(world.job())["SLIPWAY_TASK"])
    assert isinstance(task, TrainTask)
    assert task.data[0].artifact.to_wire() == record["artifact"]


def test_a_users_image_runs_plain_torchrun_as_pid_1() -> None:
    job = job_of(nodes=2, processesPerNode=2, **MINE)
    shell, flag, start, *arguments = main(job)["command"]
    assert (main(job)["image"], shell, flag) == ("mine:1", "/bin/sh", "-c")
    assert start.endswith('exec torchrun "$@"')
    assert arguments == ["torchrun", "/src/train.py", "--lr", "0.1"]
    env, name = env_of(job), job["metadata"]["name"]
    assert {option: value for option, value in env.items() if option.startswith("PET_")} == {
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "2",
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": f"{name}-0.{name.removesuffix('-1')}:29400",
        "PET_RDZV_ID": name,
        "PET_MAX_RESTARTS": "0",
    }
    assert "SLIPWAY_TASK" not in env


@pytest.mark.parametrize(("index", "is_host"), [("0", "1"), ("1", "0"), ("12", "0")])
def test_the_shell_tells_each_pod_who_it_is_and_becomes_torchrun(index: str, is_host: str, tmp_path: Path) -> None:
    stub = tmp_path / "torchrun"
    stub.write_text('#!/bin/sh\necho "$$|$PET_RDZV_CONF|$PET_LOCAL_ADDR|$*"\nexit 7\n')
    stub.chmod(0o755)
    job = job_of(nodes=2, data=[], **MINE)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "JOB_COMPLETION_INDEX": index}
    with subprocess.Popen(main(job)["command"], env=env, stdout=subprocess.PIPE, text=True) as shell:
        said, _ = shell.communicate(timeout=30)
    name = job["metadata"]["name"]
    conf = f"is_host={is_host},read_timeout=600,join_timeout=600"
    service = name.removesuffix("-1")
    assert said.strip() == f"{shell.pid}|{conf}|{name}-{index}.{service}|/src/train.py --lr 0.1"
    assert shell.returncode == 7


@pytest.mark.parametrize("whole", [True, False])
def test_a_users_image_starts_only_if_its_inputs_are_whole(whole: bool, tmp_path: Path) -> None:
    """A kubelet makes an empty folder of a subPath that is not there."""
    (tmp_path / "torchrun").write_text("#!/bin/sh\necho started\n")
    (tmp_path / "torchrun").chmod(0o755)
    (tmp_path / "train").mkdir()
    if whole:
        (tmp_path / "train/manifest.json").touch()
    start = [word.replace("/var/lib/slipway/store/data", str(tmp_path)) for word in main(job_of(**MINE))["command"]]
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLIPWAY_TERMINATION_LOG": str(tmp_path / "message")}
    done = subprocess.run(start, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout.strip()) == ((0, "started") if whole else (1, ""))
    if not whole:
        report = parse_report((tmp_path / "message").read_bytes())
        assert report is not None
        assert report.error is not None
        assert report.error.exception == "InputMissing"
        assert report.error.message == f"there is no artifact at {tmp_path}/train"


def test_a_users_module_is_run_as_a_module() -> None:
    job = job_of(data=[], image="mine:1", entrypoint={"module": {"name": "mine.train", "args": ["x"]}})
    assert main(job)["command"] == ["torchrun", "-m", "mine.train", "x"]


@pytest.mark.parametrize("spec", [{}, MINE], ids=["recipe", "own image"])
def test_one_pod_alone_meets_nobody_over_the_network(spec: dict[str, Any]) -> None:
    world = TrainingWorld(nodes=1, processesPerNode=2, **spec).plan()
    assert world.networks() == []
    assert "subdomain" not in pod_spec(world.job())
    assert "slipway.dev/peers" not in world.job()["spec"]["template"]["metadata"]["labels"]
    env = env_of(world.job())
    assert env["GLOO_SOCKET_IFNAME"] == "lo"
    if spec:
        assert (env["PET_RDZV_CONF"], env["PET_LOCAL_ADDR"]) == ("store_type=file", "127.0.0.1")
        assert "PET_RDZV_ENDPOINT" not in env
    else:
        task = parse_task(env["SLIPWAY_TASK"])
        assert isinstance(task, TrainTask)
        assert task.rendezvous.host is None


def test_a_users_image_finds_its_data_and_sees_only_its_output_folder() -> None:
    job = job_of(data=[stored_data("train")], **MINE)
    env = env_of(job)
    assert json.loads(env["SLIPWAY_DATA"]) == {"train": "/var/lib/slipway/store/data/train"}
    (out,) = [mount for mount in main(job)["volumeMounts"] if mount["mountPath"] == env["SLIPWAY_OUTPUT_DIR"]]
    assert out["subPath"] == "training/uid-of-digits/1/output"


def test_the_users_output_is_sealed_from_the_folder_it_was_left_in() -> None:
    world = TrainingWorld(**MINE).plan().pods_run().succeeds()
    (seal,) = world.running_jobs()
    (out,) = [mount for mount in main(seal)["volumeMounts"] if mount["mountPath"] == "/var/lib/slipway/out"]
    assert out["subPath"] == "training/uid-of-digits/1"
    assert main(seal)["image"] == SETTINGS.runtime_image


def test_the_pool_says_where_and_with_which_devices() -> None:
    job = job_of(pool(), pools=["h100"], resources={"cpu": 4, "memory": "16Gi"})
    assert pod_spec(job)["nodeSelector"] == {"accelerator": "h100"}
    assert pod_spec(job)["tolerations"][:1] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    bounded = {"memory": "16Gi", "nvidia.com/gpu": "1"}
    assert main(job)["resources"] == {"requests": {"cpu": "4", **bounded}, "limits": bounded}


def test_the_pod_template_adds_to_the_pods_and_takes_nothing_away() -> None:
    template = {
        "labels": {"team": "vision"},
        "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}],
        "volumes": [{"name": "src", "configMap": {"name": "src"}}],
        "volumeMounts": [{"name": "src", "mountPath": "/src"}],
        "nodeSelector": {"zone": "a"},
        "serviceAccountName": "trainer",
    }
    job = job_of(pool(), pools=["h100"], podTemplate=template)
    assert job["spec"]["template"]["metadata"]["labels"].items() >= {
        ("team", "vision"),
        ("slipway.dev/training-job", "digits"),
        ("slipway.dev/attempt", "1"),
    }
    assert {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}} in main(job)["env"]
    assert {"/src", "/var/lib/slipway/out"} <= {mount["mountPath"] for mount in main(job)["volumeMounts"]}
    assert pod_spec(job)["nodeSelector"] == {"accelerator": "h100", "zone": "a"}
    assert pod_spec(job)["serviceAccountName"] == "trainer"
    assert pod_spec(job)["automountServiceAccountToken"] is False


def test_tasks_beside_the_training_get_none_of_its_variables_and_volumes() -> None:
    template = {
        "env": [{"name": "TOKEN", "value": "x"}],
        "volumes": [{"name": "src", "configMap": {"name": "src"}}],
        "volumeMounts": [{"name": "src", "mountPath": "/src"}],
        "imagePullSecrets": [{"name": "registry"}],
    }
    world = TrainingWorld(data=[{"name": "train", "dataset": "digits"}], podTemplate=template).plan()
    (prepare,) = world.running_jobs()
    assert "TOKEN" not in env_of(prepare)
    assert "src" not in {volume["name"] for volume in pod_spec(prepare)["volumes"]}
    assert pod_spec(prepare)["imagePullSecrets"] == [{"name": "registry"}]


def leaves_lost_nodes(seconds: int) -> list[Object]:
    """Tolerations of a Node that does not answer."""
    taints = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    common = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
    return [{"key": taint, **common} for taint in taints]


@pytest.mark.parametrize("data", [{}, {"data": [{"name": "train", "dataset": "digits"}]}], ids=["training", "task"])
def test_pods_leave_a_node_that_does_not_answer_after_half_a_minute(data: dict[str, Any]) -> None:
    world = TrainingWorld(**data).plan()
    assert pod_spec(world.running_jobs()[0])["tolerations"] == leaves_lost_nodes(30)


@pytest.mark.parametrize(
    "given", [[{"operator": "Exists"}], [{"key": "spot", "operator": "Exists"}]], ids=["all", "one"]
)
def test_they_leave_it_so_soon_too_where_other_taints_are_tolerated(given: list[Object]) -> None:
    spec = pod_spec(job_of(podTemplate={"tolerations": given}))
    assert spec["tolerations"] == [*given, *leaves_lost_nodes(30)]


def test_a_toleration_of_that_taint_by_its_name_is_the_users() -> None:
    spec = pod_spec(job_of(podTemplate={"tolerations": leaves_lost_nodes(600)}))
    assert spec["tolerations"] == leaves_lost_nodes(600)


@pytest.mark.parametrize("spec", [{}, {"data": [{"name": "train", "dataset": "digits"}]}], ids=["training", "task"])
def test_what_reads_a_lost_report_runs_where_its_writer_ran(spec: dict[str, Any]) -> None:
    where = {
        "imagePullSecrets": [{"name": "registry"}],
        "tolerations": [{"key": "spot", "operator": "Exists"}, *leaves_lost_nodes(30)],
        "nodeSelector": {"zone": "a"},
        "serviceAccountName": "trainer",
    }
    tolerations = [{"key": "spot", "operator": "Exists"}]
    template = {**where, "tolerations": tolerations, "env": [{"name": "TOKEN", "value": "x"}]}
    world = TrainingWorld(podTemplate=template, **spec).plan()
    (lost,) = world.running_jobs()
    world.passes(seconds=11)  # by then the UID of the Job of a Step is recorded, too
    world.remove(key_of(lost))
    (recover,) = world.plan().running_jobs()
    assert recover["metadata"]["name"] == f"{lost['metadata']['name']}-q1"
    assert {field: pod_spec(recover).get(field) for field in where} == where
    assert "TOKEN" not in env_of(recover)


def test_shared_memory_is_as_large_as_the_pods() -> None:
    job = job_of()
    assert {"name": "slipway-shm", "emptyDir": {"medium": "Memory"}} in pod_spec(job)["volumes"]
    assert {"name": "slipway-shm", "mountPath": "/dev/shm"} in main(job)["volumeMounts"]


@pytest.mark.parametrize("spec", [{}, MINE, {"pools": ["h100"], "nodes": 2}], ids=["recipe", "own image", "pool"])
def test_pods_keep_to_the_restricted_profile(spec: dict[str, Any]) -> None:
    assert breaches(pod_spec(job_of(pool(), **spec))) == []


def test_an_image_of_ones_own_needs_a_folder_that_pods_share() -> None:
    world = TrainingWorld(bucket_store(), **MINE).plan()
    assert world.attempts == []
    assert world.phase == "Failed"
    assert world.says("Stalled").startswith("True StoreNotShared: spec.image: ")
    assert "ArtifactStore default" in world.says("Stalled")
    assert "PersistentVolumeClaim" in world.says("Stalled")


def test_a_script_in_the_runtime_image_needs_none() -> None:
    job = job_of(bucket_store(), entrypoint={"script": {"path": "/src/train.py"}})
    assert env_of(job)["SLIPWAY_STORE"]
    assert not any("persistentVolumeClaim" in volume for volume in pod_spec(job)["volumes"])
    assert breaches(pod_spec(job)) == []
