"""The stand-in for the Deployment controller replaces pods without ever having fewer that are ready."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from slipway.api.kinds import Object
from slipway.local.controllers import sync_deployment

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def a_deployment(replicas: int = 2, image: str = "one") -> Object:
    spec = {
        "replicas": replicas,
        "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "progressDeadlineSeconds": 600,
        "template": {
            "metadata": {"labels": {"app": "digits"}},
            "spec": {"containers": [{"name": "triton", "image": image}]},
        },
    }
    meta = {"name": "digits-1", "namespace": "default", "uid": "deployment", "generation": 1}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def made(deployment: Object, *, ready: bool) -> list[Object]:
    """Pods as it makes them for an empty namespace, ready or not."""
    conditions = [{"type": "Ready", "status": str(ready)}]
    return [{**pod, "status": {"conditions": conditions}} for pod in sync_deployment(deployment, [], NOW).create]


def test_as_many_pods_are_made_as_replicas_are_wanted():
    writes = sync_deployment(a_deployment(3), [], NOW)
    assert len(writes.create) == 3
    assert writes.create[0]["metadata"]["labels"]["pod-template-hash"]
    assert writes.status["readyReplicas"] == 0


def test_only_ready_pods_count_as_ready():
    deployment = a_deployment()
    pods = [*made(deployment, ready=True)[:1], *made(deployment, ready=False)[:1]]
    status = sync_deployment(deployment, pods, NOW).status
    assert (status["readyReplicas"], status["updatedReplicas"]) == (1, 2)
    assert {c["type"]: c["status"] for c in status["conditions"]}["Available"] == "False"


def test_a_new_template_brings_one_pod_more_before_an_old_one_goes():
    old = made(a_deployment(), ready=True)
    newer = a_deployment(image="two")
    first = sync_deployment(newer, old, NOW)
    assert (len(first.create), len(first.delete)) == (1, 0)
    starting = [{**first.create[0], "status": {"conditions": [{"type": "Ready", "status": "False"}]}}]
    assert not sync_deployment(newer, old + starting, NOW).delete
    serving = [{**first.create[0], "status": {"conditions": [{"type": "Ready", "status": "True"}]}}]
    second = sync_deployment(newer, old + serving, NOW)
    assert (len(second.create), len(second.delete)) == (0, 1)


def test_scaling_down_gives_up_what_is_not_ready_first():
    deployment = a_deployment(1)
    ready, starting = made(a_deployment(2), ready=True)[:1], made(a_deployment(2), ready=False)[:1]
    (gone,) = sync_deployment(deployment, ready + starting, NOW).delete
    assert gone["metadata"]["name"] == starting[0]["metadata"]["name"]


def test_a_rollout_without_progress_is_told_after_its_deadline():
    deployment = a_deployment(1)
    pods = made(deployment, ready=False)
    deployment["status"] = sync_deployment(deployment, pods, NOW).status

    def progressing(at: datetime) -> str:
        status = sync_deployment(deployment, pods, at).status
        return next(c["status"] for c in status["conditions"] if c["type"] == "Progressing")

    assert progressing(NOW + timedelta(seconds=599)) == "True"
    assert progressing(NOW + timedelta(seconds=601)) == "False"


def test_pods_that_are_going_are_replaced_at_once():
    deployment = a_deployment(1)
    (pod,) = made(deployment, ready=True)
    pod["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    assert len(sync_deployment(deployment, [pod], NOW).create) == 1
