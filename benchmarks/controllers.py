"""The bench in the place of the Job controller and the kubelets: pods appear, run, and end with a report."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

from benchmarks.client import Client
from slipway.api.kinds import JOB, POD, Kind, Object
from slipway.api.tasks import OUT_URI_ENV
from slipway.cluster.apiserver import collection_path
from slipway.plan.pods import CONTAINER
from support.builders import artifact, controlled, succeeded, wire_time
from support.world import env_of

PODS = 2


async def make_pods(client: Client, job: Object) -> list[Object]:
    """The pods of an Indexed Job, all at once; on a node, as if they were scheduled."""
    path = collection_path(POD, job["metadata"]["namespace"])
    indices = range(job["spec"]["completions"])
    return list(await asyncio.gather(*(client.post(path, _pod(job, index)) for index in indices)))


async def run_pods(client: Client, pods: list[Object]) -> None:
    state = {"running": {"startedAt": _now()}}
    status = _pod_status("Running", state, ready=True)
    await asyncio.gather(*(client.merge(_status_path(POD, pod), {"status": status}) for pod in pods))


async def finish(client: Client, job: Object, pods: list[Object]) -> None:
    """The pods end well, index 0 with an artifact in the Job's own folder; then the Job is complete."""
    own = env_of(job)[OUT_URI_ENV].removeprefix("store:///")
    for pod in pods:
        ended = {"exitCode": 0, "startedAt": _now(), "finishedAt": _now(), "reason": "Completed"}
        if pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "0":
            ended["message"] = json.dumps(succeeded(artifact("trained", folder=own), {"accuracy": 0.97}))
        status = _pod_status("Succeeded", {"terminated": ended}, ready=False)
        await client.merge(_status_path(POD, pod), {"status": status})
    now = _now()
    done = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("SuccessCriteriaMet", "Complete")]
    status = {
        "startTime": now,
        "completionTime": now,
        "succeeded": len(pods),
        "completedIndexes": f"0-{len(pods) - 1}" if len(pods) > 2 else "0,1" if len(pods) == 2 else "0",
        "uncountedTerminatedPods": {},
        "conditions": done,
    }
    await client.merge(_status_path(JOB, job), {"status": status})


def _pod(job: Object, index: int) -> Object:
    template, name = job["spec"]["template"], job["metadata"]["name"]
    labels = {
        **template["metadata"]["labels"],
        "batch.kubernetes.io/job-completion-index": str(index),
        "batch.kubernetes.io/job-name": name,
        "batch.kubernetes.io/controller-uid": job["metadata"]["uid"],
    }
    spec = {**template["spec"], "nodeName": f"node-{index}", "hostname": f"{name}-{index}"}
    owner = {**job, "apiVersion": JOB.api_version, "kind": JOB.kind}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{name}-{index}-x7k2p", "labels": labels}}
    return controlled({**pod, "spec": spec}, owner)


def _pod_status(phase: str, state: Object, *, ready: bool) -> Object:
    now, said = _now(), "True" if ready else "False"
    kinds = {"PodReadyToStartContainers": said, "Initialized": "True", "PodScheduled": "True"}
    kinds |= {"Ready": said, "ContainersReady": said}
    container = {
        "name": CONTAINER,
        "image": "slipway/runtime:test",
        "imageID": "slipway/runtime@sha256:" + "a" * 64,
        "containerID": "containerd://" + "b" * 64,
        "ready": ready,
        "started": ready,
        "restartCount": 0,
        "state": state,
    }
    return {
        "phase": phase,
        "hostIP": "10.0.0.1",
        "podIP": "10.0.1.1",
        "podIPs": [{"ip": "10.0.1.1"}],
        "startTime": now,
        "qosClass": "Burstable",
        "conditions": [
            {"type": kind, "status": status, "lastTransitionTime": now, "lastProbeTime": None}
            for kind, status in kinds.items()
        ],
        "containerStatuses": [container],
    }


def _status_path(kind: Kind, obj: Object) -> str:
    meta = obj["metadata"]
    return f"{collection_path(kind, meta['namespace'])}/{meta['name']}/status"


def _now() -> str:
    return wire_time(datetime.now(UTC))
