"""Manifests of an attempt: an Indexed Job, and for several nodes a headless Service, which names the pods of all
attempts, and a NetworkPolicy, which restricts access to them. Both are created once, before the first Job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from slipway.api.artifacts import MANIFEST, ArtifactRef, store_path
from slipway.api.artifactstore import ArtifactStoreSpec
from slipway.api.base import Model
from slipway.api.entrypoint import Entrypoint
from slipway.api.errors import InputMissing
from slipway.api.kinds import NETWORK_POLICY, SERVICE, Object
from slipway.api.tasks import (
    DATA_ENV,
    FOLDER_ENV,
    INDEX_ENV,
    LOOPBACK,
    OUT_DIR,
    OUTPUT_ENV,
    STORE_DIR,
    TERMINATION_LOG,
    DataRef,
    Rendezvous,
    TrainTask,
)
from slipway.api.trainingjob import Attempt, Replacement, TrainingJobSpec
from slipway.plan.egress import DNS, RESTRICTED
from slipway.plan.jobs.pods import INDEX_LABEL
from slipway.plan.owner import ATTEMPT_LABEL, PEERS_LABEL, REPLACEMENT_LABEL, ROLE_LABEL, Owner
from slipway.plan.plan import Settings
from slipway.plan.pods import CONTAINER, RUNTIME_COMMAND, Placement, container, job, pod_template, task_env
from slipway.plan.storemount import StoreMount
from slipway.plan.taskinput import TaskInput, literal, variable_json
from slipway.plan.training.attempts import folder

ROLE = "train"
RENDEZVOUS_PORT = 29400
RENDEZVOUS_SECONDS = 600
"""Time limit of the rendezvous, which includes image pulls."""
_SHM = "/dev/shm"  # noqa: S108 - tensors pass between processes there; a runtime gives 64 MiB otherwise

# torchrun detects whether it hosts the rendezvous by a DNS lookup of its own name, which may not exist yet: so the
# pod of index 0 gets is_host. exec: torchrun is then PID 1, gets the signals, and its end is the container's.
_TORCHRUN = (
    '[ "$JOB_COMPLETION_INDEX" = 0 ] && host=1 || host=0; '
    'export PET_RDZV_CONF="is_host=$host,read_timeout={seconds},join_timeout={seconds}" '
    'PET_LOCAL_ADDR="{job}-$JOB_COMPLETION_INDEX.{service}"; '
)

# Slipway's runtime does not check the inputs in a user's image: the script would see an empty folder.
_INPUTS = (
    'for input in {inputs}; do [ -f "$input/{manifest}" ] || {{ '
    """printf '{{"outcome":"failed","at":"%s","error":{{"exception":"{error}","message":"{problem} %s"}}}}' """
    '"`date -u +%Y-%m-%dT%H:%M:%SZ`" "$input" > "${{{log_env}:-{log}}}"; exit 1; }}; done; '
)


def peers_name(owner: Owner) -> str:
    """Return the name of the Service and the NetworkPolicy, with a hash of the owner's UID."""
    return owner.child_name()


def service(owner: Owner) -> Object:
    """Return the Service with which `<job>-<index>.<service>` resolves to each pod, before it is ready."""
    port = {"name": "rendezvous", "port": RENDEZVOUS_PORT, "protocol": "TCP", "targetPort": RENDEZVOUS_PORT}
    return owner.child(
        SERVICE,
        peers_name(owner),
        {ROLE_LABEL: ROLE},
        spec={
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": _peers(owner),
            "ports": [port],
        },
    )


def network_policy(owner: Owner, egress: Sequence[Object] | None = None) -> Object:
    """Return the policy with which only pods of the same TrainingJob reach each other.

    A client of the rendezvous can run code in the pod (a pickle). All ports are allowed: gloo and NCCL use ephemeral
    ones. egress: rules for further connections; None allows all.
    """
    own = {"podSelector": {"matchLabels": _peers(owner)}}
    spec: Object = {**own, "policyTypes": ["Ingress"], "ingress": [{"from": [own]}]}
    if egress is not None:
        spec |= {
            "policyTypes": ["Ingress", "Egress"],
            "egress": [DNS, {"to": [own]}, *(rule for rule in egress if rule != DNS)],
        }
    return owner.child(NETWORK_POLICY, peers_name(owner), {ROLE_LABEL: ROLE}, spec=spec)


def _peers(owner: Owner) -> dict[str, str]:
    return {PEERS_LABEL: peers_name(owner)}


def training_job(
    owner: Owner,
    spec: TrainingJobSpec,
    attempt: Attempt,
    *,
    store: ArtifactStoreSpec,
    placement: Placement,
    data: Mapping[str, ArtifactRef],
    settings: Settings,
) -> Object:
    """Return the Job of an attempt: a pod for each node, each with one torchrun agent.

    In the runtime image PID 1 runs torchrun and seals its output. A user's image runs plain torchrun and mounts only
    `output` of the attempt's folder, so that it cannot write an artifact that was never sealed.
    """
    out, task = folder(owner, attempt.number), _task(owner, spec, attempt, data)
    command: Sequence[str]
    given = TaskInput.of(task) if spec.image is None else None
    if given is not None:
        mount, grace_seconds = StoreMount(store).for_task(task, out), 30
        command, env = RUNTIME_COMMAND, task_env(given, mount)
    else:
        # torchrun kills its workers 30 s after SIGTERM (pytorch #119856).
        mount, grace_seconds = StoreMount(store).for_task(task, f"{out}/output"), 40
        paths = {name: f"{STORE_DIR}/{store_path(ref.uri)}" for name, ref in data.items()}
        command = _torchrun(owner, spec.entrypoint, attempt, paths.values())
        env = _torchrun_env(owner, attempt, paths)
    if attempt.nodes == 1:
        # No NetworkPolicy protects its ports. torch's TCPStore still listens at all addresses: it has no option.
        env = [*env, {"name": "GLOO_SOCKET_IFNAME", "value": "lo"}]
    main = container(
        spec.image or settings.runtime_image,
        command,
        pull_policy=settings.image_pull_policy,
        env=env,
        mounts=[*mount.mounts, *(given.mounts if given else ()), {"name": "slipway-shm", "mountPath": _SHM}],
        resources=spec.resources,
        devices=placement.devices,
        template=spec.pod_template,
    )
    shm = {"name": "slipway-shm", "emptyDir": {"medium": "Memory"}}
    subdomain: Object = {"subdomain": peers_name(owner)} if attempt.nodes > 1 else {}
    template = pod_template(
        [main],
        labels={
            **owner.labels,
            **_labels(attempt),
            **(_peers(owner) if subdomain or spec.egress == RESTRICTED else {}),
        },
        store=mount,
        task=given,
        volumes=[shm],
        placement=placement,
        template=spec.pod_template,
        restartPolicy="Never",
        terminationGracePeriodSeconds=grace_seconds,
        **subdomain,
    )
    return job(owner, attempt.job, template, role=ROLE, pods=attempt.nodes, fail_by_index=attempt.nodes > 1)


def replacement_job(owner: Owner, attempts_job: Object, replacement: Replacement) -> Object:
    """Return the Job of one pod that replaces a lost one. attempts_job: the result of `training_job`.

    The pod has the host name, the index and the labels of the lost one. The Job is not Indexed, since the controller
    would overwrite them.
    """
    template = attempts_job["spec"]["template"]
    index = str(replacement.index)
    labels = {
        **template["metadata"]["labels"],
        INDEX_LABEL: index,
        REPLACEMENT_LABEL: str(replacement.number),
    }
    containers = [
        {**one, "env": [{"name": INDEX_ENV, "value": index}, *one["env"]]} if one["name"] == CONTAINER else one
        for one in template["spec"]["containers"]
    ]
    hostname = f"{attempts_job['metadata']['name']}-{index}"
    made = {
        "metadata": {**template["metadata"], "labels": labels},
        "spec": {**template["spec"], "containers": containers, "hostname": hostname},
    }
    rendered = job(owner, replacement.job, made, role=ROLE, indexed=False)
    rendered["metadata"]["labels"][REPLACEMENT_LABEL] = str(replacement.number)
    return rendered


def _labels(attempt: Attempt) -> dict[str, str]:
    return {ROLE_LABEL: ROLE, ATTEMPT_LABEL: str(attempt.number)}


def _task(owner: Owner, spec: TrainingJobSpec, attempt: Attempt, data: Mapping[str, ArtifactRef]) -> Model:
    return TrainTask(
        entrypoint=spec.entrypoint,
        data=tuple(DataRef(name=name, artifact=ref) for name, ref in data.items()),
        nodes=attempt.nodes,
        processes_per_node=attempt.processes_per_node,
        rendezvous=Rendezvous(
            id=attempt.job,
            host=_host(owner, attempt),
            port=RENDEZVOUS_PORT,
            timeout_seconds=RENDEZVOUS_SECONDS,
        ),
    )


def _host(owner: Owner, attempt: Attempt) -> str | None:
    """Return the host of the rendezvous, the pod of index 0; None for a single pod."""
    return f"{attempt.job}-0.{peers_name(owner)}" if attempt.nodes > 1 else None


def _torchrun(owner: Owner, entrypoint: Entrypoint, attempt: Attempt, inputs: Iterable[str]) -> list[str]:
    """Return the command of a user's image; a recipe needs the runtime image (a rule of the spec)."""
    start = _missing_inputs(inputs)
    if attempt.nodes > 1:
        start += _TORCHRUN.format(seconds=RENDEZVOUS_SECONDS, job=attempt.job, service=peers_name(owner))
    command = ["/bin/sh", "-c", f'{start}exec torchrun "$@"', "torchrun"] if start else ["torchrun"]
    if entrypoint.script is not None:
        return [*command, *map(literal, (entrypoint.script.path, *entrypoint.script.args))]
    module = entrypoint.module
    return [*command, "-m", module.name, *map(literal, module.args)] if module else command


def _missing_inputs(paths: Iterable[str]) -> str:
    """Return shell code that ends the pod with a report if an input is missing; empty without inputs."""
    if not (inputs := " ".join(f"'{path}'" for path in paths)):
        return ""
    return _INPUTS.format(
        inputs=inputs,
        manifest=MANIFEST,
        error=InputMissing.__name__,
        problem="there is no artifact at",
        log_env=FOLDER_ENV[TERMINATION_LOG],
        log=TERMINATION_LOG,
    )


def _torchrun_env(owner: Owner, attempt: Attempt, data: Mapping[str, str]) -> list[Object]:
    """Return the options of torchrun as PET_<OPTION> variables, so that the command does not depend on the node count.

    A single pod stores its rendezvous, whose state is a pickle, in a file that no other pod can access.
    """
    if (host := _host(owner, attempt)) is not None:
        rendezvous = {"PET_RDZV_ENDPOINT": f"{host}:{RENDEZVOUS_PORT}"}
    else:
        rendezvous = {"PET_RDZV_CONF": "store_type=file", "PET_LOCAL_ADDR": LOOPBACK}
    values = {
        "PET_NNODES": str(attempt.nodes),
        "PET_NPROC_PER_NODE": str(attempt.processes_per_node),
        "PET_RDZV_BACKEND": "c10d",
        **rendezvous,
        "PET_RDZV_ID": attempt.job,
        "PET_MAX_RESTARTS": "0",
        OUTPUT_ENV: OUT_DIR,
        DATA_ENV: variable_json(dict(data)),
        "PYTHONUNBUFFERED": "1",
    }
    return [{"name": name, "value": value} for name, value in values.items()]
