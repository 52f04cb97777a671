"""Which pods speak for a Job: those that the Job controller makes of its template, and no other."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from slipway.api.kinds import JOB, POD, Object
from slipway.api.tasks import task_digest
from slipway.plan.jobs.pods import name_prefix, pods_of, workload_of
from slipway.plan.observation import Observation, Snapshot
from slipway.plan.training import plan_training
from slipway.reconcile.cache import Cache, trimmed
from support.builders import (
    NAMESPACE,
    SETTINGS,
    T0,
    pod,
    prune_plugin,
    quantize_plugin,
    store,
    succeeded,
    training_job,
)
from support.deployments import DIGITS, counting, world_with
from support.training import TrainingWorld
from support.world import World, task_of

HONEST = {"n": 540, "baselineRight": 520, "lost": 0, "gained": 0}


def job_of_comparison() -> Object:
    world = world_with()
    for _ in range(40):
        world.settle(DIGITS)
        for job in [obj for key, obj in world.objects.items() if key.kind == JOB]:
            if task_of(job)["task"] == "compare":
                return job
        world.step()
    raise AssertionError("nothing is compared")


def job_of_training(nodes: int = 2) -> Object:
    return TrainingWorld(nodes=nodes).plan().job()


def changed(of: Object, change: Callable[[Object], Any]) -> Object:
    made = copy.deepcopy(pod(of, exit_code=0))
    change(made)
    return made


def main(of: Object) -> Object:
    return next(one for one in of["spec"]["containers"] if one["name"] == "main")


def variable(of: Object, name: str) -> Object:
    return next(one for one in main(of)["env"] if one["name"] == name)


FORGED: dict[str, Callable[[Object], Any]] = {
    "a name of its own": lambda p: p["metadata"].update(name="a-forged"),
    "the name of another index": lambda p: p["metadata"].update(name=p["metadata"]["name"].replace("-0-", "-1-")),
    "no suffix": lambda p: p["metadata"].update(name=p["metadata"]["name"].rsplit("-", 1)[0]),
    "another namespace": lambda p: p["metadata"].update(namespace="elsewhere"),
    "another controller": lambda p: p["metadata"]["ownerReferences"][0].update(uid="other"),
    "no controller": lambda p: p["metadata"]["ownerReferences"][0].pop("controller"),
    "another Job's label": lambda p: p["metadata"]["labels"].update({"batch.kubernetes.io/job-name": "other"}),
    "no index": lambda p: p["metadata"]["labels"].pop("batch.kubernetes.io/job-completion-index"),
    "an index beyond the Job's": lambda p: (
        p["metadata"]["labels"].update({"batch.kubernetes.io/job-completion-index": "7"}),
        p["metadata"].update(name=p["metadata"]["name"].replace("-0-", "-7-")),
    ),
    "another image": lambda p: main(p).update(image="evil.example/runtime:1"),
    "the image's name with more behind it": lambda p: main(p).update(image=main(p)["image"] + " image=x"),
    "another command": lambda p: main(p).update(command=["sh", "-c", "echo"]),
    "arguments": lambda p: main(p).update(args=["-c", "print()"]),
    "another folder to start in": lambda p: main(p).update(workingDir="/evil"),
    "a hook that starts beside it": lambda p: main(p).update(lifecycle={"postStart": {"exec": {"command": ["sh"]}}}),
    "another task": lambda p: variable(p, "SLIPWAY_TASK").update(value="{}"),
    "PYTHONPATH": lambda p: main(p)["env"].append({"name": "PYTHONPATH", "value": "/evil"}),
    "LD_PRELOAD": lambda p: main(p)["env"].append({"name": "LD_PRELOAD", "value": "/evil.so"}),
    "variables of a Secret": lambda p: main(p).update(envFrom=[{"secretRef": {"name": "evil"}}]),
    "another store": lambda p: main(p)["env"].append({"name": "SLIPWAY_STORE", "value": '{"bucket": "evil"}'}),
    "another claim": lambda p: p["spec"]["volumes"][0].update(persistentVolumeClaim={"claimName": "evil"}),
    "a folder of the node for the store": lambda p: p["spec"].update(
        volumes=[{"name": p["spec"]["volumes"][0]["name"], "hostPath": {"path": "/"}}, *p["spec"]["volumes"][1:]]
    ),
    "other code in the place of ours": lambda p: (
        main(p)["volumeMounts"].append({"name": "code", "mountPath": "/usr/lib/python3/slipway/runtime/evaluation.py"}),
        p["spec"]["volumes"].append({"name": "code", "configMap": {"name": "evil"}}),
    ),
    "a sidecar on its volumes": lambda p: p["spec"]["containers"].append(
        {"name": "spy", "image": "spy", "volumeMounts": [{"name": "slipway-out", "mountPath": "/x"}]}
        if any(v["name"] == "slipway-out" for v in p["spec"]["volumes"])
        else {"name": "spy", "image": "spy", "volumeMounts": [{"name": "slipway-tmp", "mountPath": "/x"}]}
    ),
    "an init container on its volumes": lambda p: p["spec"].update(
        initContainers=[{"name": "spy", "volumeMounts": [{"name": "slipway-tmp", "mountPath": "/x"}]}]
    ),
    "processes shared with a sidecar": lambda p: p["spec"].update(shareProcessNamespace=True),
    "no container that works": lambda p: p["spec"].update(containers=[]),
}
ADMITTED: dict[str, Callable[[Object], Any]] = {
    "nothing": lambda p: p,
    "a sidecar of a mesh": lambda p: p["spec"]["containers"].append({"name": "proxy", "image": "mesh/proxy:1"}),
    "an init container of a mesh": lambda p: p["spec"].update(initContainers=[{"name": "mesh-init"}]),
    "certificates of the company": lambda p: (
        main(p)["volumeMounts"].append({"name": "ca", "mountPath": "/etc/ssl/certs"}),
        p["spec"]["volumes"].append({"name": "ca", "configMap": {"name": "ca"}}),
    ),
    "a proxy": lambda p: main(p)["env"].append({"name": "HTTPS_PROXY", "value": "http://proxy"}),
    "the index that the Job controller adds": lambda p: main(p)["env"].append({"name": "JOB_COMPLETION_INDEX"}),
    "the node's system folders": lambda p: (
        main(p)["volumeMounts"].append({"name": "host-usr", "mountPath": "/usr", "readOnly": True}),
        p["spec"]["volumes"].append({"name": "host-usr", "hostPath": {"path": "/usr"}}),
    ),
    "tolerations and a node": lambda p: p["spec"].update(nodeName="one", tolerations=[{"operator": "Exists"}]),
}


def trusted(job: Object, *pods: Object, **settings: Any) -> tuple[list[str], list[str]]:
    """By name, as the operator's own cache and a plain snapshot show them alike; and why the others are not."""
    cache = Cache()
    for number, obj in enumerate([job, *pods]):
        version = {"resourceVersion": str(number + 5), "uid": obj["metadata"]["uid"] + str(number) if number else None}
        cache.put({**obj, "metadata": {**obj["metadata"], **{k: v for k, v in version.items() if v}}})
    seen = cache.get(JOB, NAMESPACE, job["metadata"]["name"])
    assert seen is not None
    given = replace(SETTINGS, **settings)
    found, plain = (
        pods_of(seen, Observation(cache, given, T0)),
        pods_of(job, Observation(Snapshot([job, *pods]), given, T0)),
    )
    names = [obj["metadata"]["name"] for obj in found.trusted]
    assert names == [obj["metadata"]["name"] for obj in plain.trusted]
    assert list(found.refused) == list(plain.refused)
    return names, list(found.refused)


@pytest.mark.parametrize("job", [job_of_comparison(), job_of_training()], ids=["a task", "an attempt"])
@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_a_pod_that_is_not_what_its_job_says_is_not_believed(job: Object, change: Callable[[Object], Any]) -> None:
    forged = changed(job, change)
    names, _ = trusted(job, forged)
    assert names == []
    if forged["metadata"]["name"] != pod(job)["metadata"]["name"]:
        names, _ = trusted(job, pod(job), forged)
        assert names == [pod(job)["metadata"]["name"]]


@pytest.mark.parametrize("job", [job_of_comparison(), job_of_training()], ids=["a task", "an attempt"])
@pytest.mark.parametrize("change", ADMITTED.values(), ids=ADMITTED)
def test_what_admission_legitimately_adds_leaves_a_pod_believed(job: Object, change: Callable[[Object], Any]) -> None:
    assert trusted(job, changed(job, change)) == ([pod(job)["metadata"]["name"]], [])


def test_a_pod_with_another_long_task_is_not_believed() -> None:
    """Its text lies in an annotation, which anybody may edit later; the variable that names its digest nobody can."""
    args = ["x" * 1024] * 60
    job = TrainingWorld(nodes=2, entrypoint={"script": {"path": "/a.py", "args": args}}).plan().job()
    other = task_digest(b"another")
    assert trusted(job, changed(job, lambda p: variable(p, "SLIPWAY_TASK").update(value=other)))[0] == []
    edited = changed(job, lambda p: p["metadata"].update(annotations={"slipway.dev/task": "{}"}))
    assert trusted(job, edited) == ([pod(job)["metadata"]["name"]], [])  # its runtime refuses the text


def test_of_two_pods_that_claim_one_index_neither_is_believed() -> None:
    job = job_of_training()
    twin = changed(job, lambda p: p["metadata"].update(name=p["metadata"]["name"][:-1] + "z"))
    names, refused = trusted(job, pod(job), twin, pod(job, 1))
    assert names == [pod(job, 1)["metadata"]["name"]]
    assert "claim an index that one pod has" in refused[0]


@pytest.mark.parametrize(
    ("wanted", "found", "same"),
    [
        ("registry.example/slipway/runtime:1", "mirror.example/slipway/runtime:1", True),
        ("registry.example/slipway/runtime:1", "mirror.example/registry.example/slipway/runtime:1", True),
        ("slipway/runtime:1", "mirror.example/slipway/runtime:1", True),
        ("slipway/runtime:1", "mirror.example/runtime:1", False),
        ("slipway/runtime:1", "mirror.example.evil/slipway/runtime:1", False),
        ("slipway/runtime:1", "mirror.example/slipway/runtime:2", False),
    ],
)
def test_a_mirror_must_be_named_before_images_of_it_are_believed(wanted: str, found: str, same: bool) -> None:
    job = job_of_comparison()
    job["spec"]["template"]["spec"]["containers"][0]["image"] = wanted
    mirrored = changed(job, lambda p: main(p).update(image=found))
    names, refused = trusted(job, mirrored)
    assert names == []
    assert "name the mirror in the chart's image.mirrors" in refused[0]
    assert bool(trusted(job, mirrored, image_mirrors=("mirror.example",))[0]) == same


def test_long_names_of_jobs_are_cut_as_the_api_server_cuts_them() -> None:
    assert name_prefix("a" * 63, 0) == "a" * 55 + "-0-"
    assert name_prefix("a" * 63, None) == "a" * 58
    assert name_prefix("digits", 12) == "digits-12-"


def test_what_a_trimmed_object_runs_is_what_the_whole_one_runs() -> None:
    job = job_of_training()
    one = pod(job)
    assert workload_of(trimmed(job)) == workload_of(job) == workload_of(one) == workload_of(trimmed(one))
    assert workload_of(trimmed(trimmed(one))) == workload_of(one)


def forging(namespace: str) -> World:
    """The candidate loses 300 of 540 samples; a pod that another user made says that it loses none."""
    world = world_with()
    world.behaviour = counting(lost=300)
    forged = False
    for _ in range(60):
        world.settle(DIGITS)
        for job in [obj for key, obj in world.objects.items() if key.kind == JOB]:
            if task_of(job)["task"] == "compare" and not forged:
                told = pod(job, exit_code=0, message=succeeded(counts=HONEST), at=world.now)
                told["metadata"].update(name="a-forged", uid="forged", namespace=namespace)
                world.put(told)
                forged = True
        if not world.step():
            break
    assert forged
    return world


@pytest.mark.parametrize("namespace", [NAMESPACE, "elsewhere"])
def test_a_foreign_pod_turns_no_refusal_into_a_model_that_serves(namespace: str) -> None:
    world = forging(namespace)
    assert world.status(DIGITS)["phase"] == "Failed"
    assert world.condition(DIGITS, "Ready")[1] == "GateRefused"


def test_the_cache_shows_no_child_of_another_namespace() -> None:
    job = job_of_comparison()
    cache = Cache()
    for namespace, version in ((NAMESPACE, "5"), ("elsewhere", "6")):
        one = pod(job)
        one["metadata"].update(namespace=namespace, resourceVersion=version, uid=namespace)
        cache.put(one)
    found = cache.owned(POD, NAMESPACE, job["metadata"]["uid"])
    assert [obj["metadata"]["namespace"] for obj in found] == [NAMESPACE]


def mounted(path: str) -> Callable[[Object], Any]:
    """Puts a ConfigMap there in the pods of a Job."""

    def change(job: Object) -> None:
        spec = job["spec"]["template"]["spec"]
        main(job["spec"]["template"])["volumeMounts"].append({"name": "code", "mountPath": path})
        spec["volumes"].append({"name": "code", "configMap": {"name": "evil"}})

    return change


FORGED_JOBS: dict[str, Callable[[Object], Any]] = {
    "another image": lambda j: main(j["spec"]["template"]).update(image="evil.example/runtime:1"),
    "other code in the place of ours": mounted("/usr/lib/python3/slipway/runtime/evaluation.py"),
    "a module that is found first": mounted("/home/evil"),
    "no label of ours": lambda j: j["metadata"].update(labels={}),
    "pods without a label of ours": lambda j: j["spec"]["template"]["metadata"].update(labels={}),
    "a container that came along": lambda j: j["spec"]["template"]["spec"]["containers"].append({"name": "spy"}),
    "a container that comes first": lambda j: j["spec"]["template"]["spec"].update(initContainers=[{"name": "spy"}]),
}


@pytest.mark.parametrize("change", FORGED_JOBS.values(), ids=FORGED_JOBS)
def test_a_job_that_a_user_made_in_our_name_is_reported_and_never_followed(change: Callable[[Object], Any]) -> None:
    world = world_with()
    world.settle(DIGITS)
    (key, *others) = [key for key in world.objects if key.kind == JOB]
    forged = copy.deepcopy(world.objects[key])
    for job in (key, *others):  # as if the operator had died before it made them
        world.objects.pop(job)
    change(forged)
    world.put(forged)
    world.settle(DIGITS)
    status, reason, message = world.condition(DIGITS, "Ready")
    assert (status, reason) == ("False", "NameConflict")
    assert f"Job {key.name} has this Step as its owner and is not the one that Slipway creates" in message
    world.remove(key)
    world.run(DIGITS)
    assert world.status(DIGITS)["phase"] == "Ready"


def test_where_no_pod_of_a_job_is_believed_its_owner_says_why() -> None:
    world = World(plan_training, training_job(), store())
    key = next(iter(world.objects))
    world.settle(key)
    (job,) = [obj for obj in world.objects.values() if obj["kind"] == "Job"]
    rewritten = changed(job, lambda p: main(p).update(image="mirror.example/runtime:1"))
    rewritten["status"] = {"phase": "Pending"}
    world.put(rewritten)
    world.now = max(world.wake_at or T0, T0)
    world.settle(key)
    assert "its image is mirror.example/runtime:1" in world.condition(key, "Ready")[2]


def test_a_third_party_plugin_runs_in_no_pod_that_decides() -> None:
    third = "third.example/party:1"
    world = world_with(quantize_plugin(image=third), prune_plugin(image=third))
    world.run(DIGITS)
    jobs = [obj for key, obj in world.objects.items() if key.kind == JOB]
    ran = {task_of(job)["task"] for job in jobs if main({"spec": job["spec"]["template"]["spec"]})["image"] == third}
    assert ran == {"compress"}
