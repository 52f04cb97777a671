"""The three objects of an attempt: an Indexed Job, the headless Service that names its pods, and a NetworkPolicy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from slipway.api.artifacts import ArtifactRef, store_path
from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.base import Model
from slipway.api.entrypoint import Entrypoint
from slipway.api.kinds import NETWORK_POLICY, SERVICE, Object
from slipway.api.tasks import DATA_ENV, OUT_DIR, OUTPUT_ENV, STORE_DIR, DataRef, Rendezvous, TrainTask
from slipway.api.trainingjob import Attempt, TrainingJobSpec
from slipway.plan.parent import ATTEMPT_LABEL, ROLE_LABEL, Parent
from slipway.plan.plan import Settings
from slipway.plan.pods import RUNTIME_COMMAND, Placement, container, job, pod_template, task_env
from slipway.plan.storemount import StoreMount
from slipway.plan.training.attempts import folder

ROLE = "train"
RENDEZVOUS_PORT = 29400
RENDEZVOUS_SECONDS = 600
"""How long agents wait for each other, image pulls included."""
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
"""Set by the Job controller; the Job's name holds the parent's UID, so a namesake's pods are never meant."""

_SHM = "/dev/shm"  # noqa: S108 - tensors pass between processes there; a runtime gives 64 MiB otherwise

# torchrun guesses whether it hosts the rendezvous by asking the DNS for its own name, which may not know it yet: so
# the pod of index 0 is told. exec: torchrun is then PID 1, gets the signals, and its end is the container's.
_TORCHRUN = (
    '[ "$JOB_COMPLETION_INDEX" = 0 ] && host=1 || host=0; '
    'export PET_RDZV_CONF="is_host=$host,read_timeout={seconds},join_timeout={seconds}" '
    'PET_LOCAL_ADDR="{job}-$JOB_COMPLETION_INDEX.{job}"; exec torchrun "$@"'
)


def service(parent: Parent, attempt: Attempt) -> Object:
    """`<job>-<index>.<service>` resolves to each pod, before it is ready: agents meet while none is."""
    port = {"name": "rendezvous", "port": RENDEZVOUS_PORT, "protocol": "TCP", "targetPort": RENDEZVOUS_PORT}
    return parent.child(
        SERVICE,
        attempt.job,
        _labels(attempt),
        spec={
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {JOB_NAME_LABEL: attempt.job},
            "ports": [port],
        },
    )


def network_policy(parent: Parent, attempt: Attempt) -> Object:
    """Only the attempt's own pods may reach its pods: who reaches the rendezvous can run code there (a pickle).

    All ports: gloo and NCCL take ephemeral ones.
    """
    own = {"podSelector": {"matchLabels": {JOB_NAME_LABEL: attempt.job}}}
    spec = {**own, "policyTypes": ["Ingress"], "ingress": [{"from": [own]}]}
    return parent.child(NETWORK_POLICY, attempt.job, _labels(attempt), spec=spec)


def training_job(
    parent: Parent,
    spec: TrainingJobSpec,
    attempt: Attempt,
    *,
    store: ArtifactStoreSpec,
    placement: Placement,
    data: Mapping[str, ArtifactRef],
    settings: Settings,
) -> Object:
    """The Job of one attempt: a pod for each node, each with one torchrun agent.

    In the runtime image PID 1 runs torchrun and seals what it leaves. An image of the user's runs plain torchrun and
    sees of the attempt's folder only `output`, so that it cannot leave an artifact that was never sealed.
    """
    out = folder(parent, attempt.number)
    command: Sequence[str]
    if spec.image is None:
        mount, grace_seconds = StoreMount(store, out), 30
        command, env = RUNTIME_COMMAND, task_env(_task(spec, attempt, data), mount)
    else:
        # torchrun itself gives its workers 30 s from SIGTERM on (pytorch #119856).
        mount, grace_seconds = StoreMount(store, f"{out}/output"), 40
        command, env = _torchrun(spec.entrypoint, attempt), _torchrun_env(attempt, data)
    main = container(
        spec.image or settings.runtime_image,
        command,
        pull_policy=settings.image_pull_policy,
        env=env,
        mounts=[*mount.mounts, {"name": "slipway-shm", "mountPath": _SHM}],
        resources=spec.resources,
        devices=placement.devices,
        template=spec.pod_template,
    )
    shm = {"name": "slipway-shm", "emptyDir": {"medium": "Memory"}}
    template = pod_template(
        [main],
        labels={**parent.labels, **_labels(attempt)},
        store=mount,
        volumes=[shm],
        placement=placement,
        template=spec.pod_template,
        restartPolicy="Never",
        subdomain=attempt.job,
        terminationGracePeriodSeconds=grace_seconds,
    )
    return job(parent, attempt.job, template, role=ROLE, pods=attempt.nodes)


def _labels(attempt: Attempt) -> dict[str, str]:
    return {ROLE_LABEL: ROLE, ATTEMPT_LABEL: str(attempt.number)}


def _task(spec: TrainingJobSpec, attempt: Attempt, data: Mapping[str, ArtifactRef]) -> Model:
    return TrainTask(
        entrypoint=spec.entrypoint,
        data=tuple(DataRef(name=name, artifact=ref) for name, ref in data.items()),
        nodes=attempt.nodes,
        processes_per_node=attempt.processes_per_node,
        rendezvous=Rendezvous(
            id=attempt.job,
            host=_host(attempt),
            port=RENDEZVOUS_PORT,
            timeout_seconds=RENDEZVOUS_SECONDS,
        ),
    )


def _host(attempt: Attempt) -> str:
    return f"{attempt.job}-0.{attempt.job}"


def _torchrun(entrypoint: Entrypoint, attempt: Attempt) -> list[str]:
    """A recipe never gets here: it needs the runtime image (a rule of the spec)."""
    start = _TORCHRUN.format(seconds=RENDEZVOUS_SECONDS, job=attempt.job)
    shell = ["/bin/sh", "-c", start, "torchrun"]
    if entrypoint.script is not None:
        return [*shell, entrypoint.script.path, *entrypoint.script.args]
    module = entrypoint.module
    return [*shell, "-m", module.name, *module.args] if module else shell


def _torchrun_env(attempt: Attempt, data: Mapping[str, ArtifactRef]) -> list[Object]:
    """torchrun reads each of its options from PET_<OPTION>; nothing of the node count stands in the command."""
    paths = {name: f"{STORE_DIR}/{store_path(ref.uri)}" for name, ref in data.items()}
    values = {
        "PET_NNODES": str(attempt.nodes),
        "PET_NPROC_PER_NODE": str(attempt.processes_per_node),
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": f"{_host(attempt)}:{RENDEZVOUS_PORT}",
        "PET_RDZV_ID": attempt.job,
        "PET_MAX_RESTARTS": "0",
        OUTPUT_ENV: OUT_DIR,
        DATA_ENV: json.dumps(paths, sort_keys=True),
        "PYTHONUNBUFFERED": "1",
    }
    return [{"name": name, "value": value} for name, value in values.items()]
