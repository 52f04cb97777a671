"""Pod templates and Jobs: the common settings of all pods of Slipway.

All pods conform to the `restricted` Pod Security Standard, mount no service-account token, and mount a claim read-only
except for one folder of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from slipway.api.artifacts import URI_PREFIX
from slipway.api.kinds import JOB, Object
from slipway.api.podtemplate import PodSettings
from slipway.api.scheduling import Resources, Toleration
from slipway.api.tasks import JOB_UID_ENV, OUT_URI_ENV, SCRATCH_DIR, TASK_ENV, TERMINATION_LOG
from slipway.plan.owner import ROLE_LABEL, Owner
from slipway.plan.storemount import StoreMount
from slipway.plan.taskinput import TaskInput

CONTAINER = "main"
"""Name of the main container, which reports the result and whose log is shown."""
USER_ID = 65532
"""The non-root user and group of all pods, and the group of the store's files."""
RUNTIME_COMMAND = ("python", "-m", "slipway.runtime")

NODE_TOLERATION_SECONDS = 30
"""Time for which a pod of a Job stays on an unreachable Node; Kubernetes' default of 300 s would delay training.
The Node has not answered for 40 to 50 s before; a restarted kubelet answers sooner."""
_NODE_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")

_DISRUPTED = [{"type": "DisruptionTarget", "status": "True"}]
_FAIL_JOB: Object = {"podFailurePolicy": {"rules": [{"action": "FailJob", "onPodConditions": _DISRUPTED}]}}
_FAIL_INDEX: Object = {
    "backoffLimitPerIndex": 0,
    "podFailurePolicy": {
        "rules": [
            {"action": "FailIndex", "onPodConditions": _DISRUPTED},
            {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}},
        ]
    },
}


@dataclass(frozen=True, slots=True)
class Placement:
    """The Nodes on which a pod may run, and its devices."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    devices: Mapping[str, int] = field(default_factory=dict)


def task_env(task: TaskInput, store: StoreMount) -> list[Object]:
    """Return the variables of `python -m slipway.runtime`: the task, the store, and the UID for its report."""
    uid = {"fieldRef": {"fieldPath": "metadata.labels['batch.kubernetes.io/controller-uid']"}}
    env: list[Object] = [
        {"name": TASK_ENV, "value": task.value},
        {"name": JOB_UID_ENV, "valueFrom": uid},
        *store.env,
    ]
    return env if store.out is None else [*env, {"name": OUT_URI_ENV, "value": f"{URI_PREFIX}{store.out}"}]


def container(
    image: str,
    command: Iterable[str],
    *,
    pull_policy: str,
    name: str = CONTAINER,
    env: Iterable[Object] = (),
    mounts: Iterable[Object] = (),
    resources: Resources | None = None,
    devices: Mapping[str, int] | None = None,
    template: PodSettings | None = None,
) -> Object:
    """Return a container under the restricted profile; additions of the template come last."""
    extra = template.to_wire() if template else {}
    body: Object = {
        "name": name,
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": list(command),
        "env": _env(env, extra.get("env", [])),
        "volumeMounts": [*mounts, {"name": "slipway-tmp", "mountPath": SCRATCH_DIR}, *extra.get("volumeMounts", [])],
        "resources": _resources(resources, devices or {}),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if extra.get("envFrom"):
        body["envFrom"] = extra["envFrom"]
    return body


def pod_template(
    containers: list[Object],
    *,
    labels: Mapping[str, str],
    store: StoreMount,
    task: TaskInput | None = None,
    volumes: Iterable[Object] = (),
    init_containers: Iterable[Object] = (),
    placement: Placement | None = None,
    template: PodSettings | None = None,
    **spec: object,
) -> Object:
    """Return a pod template under the restricted profile.

    task: the task of a container with `task_env`. spec: further fields of the PodSpec.
    """
    extra = template.to_wire() if template else {}
    place = placement or Placement()
    own = [*store.volumes, *(task.volumes if task else ()), *volumes]
    body: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [*own, {"name": "slipway-tmp", "emptyDir": {}}, *extra.get("volumes", [])],
        "containers": containers,
        **spec,
    }
    selector = {**place.node_selector, **extra.get("nodeSelector", {})}
    given = [*(t.to_wire() for t in place.tolerations), *extra.get("tolerations", [])]
    tolerations = given if spec.get("restartPolicy") != "Never" else [*given, *_node_tolerations(given)]
    optional = {
        "initContainers": list(init_containers),
        "nodeSelector": selector,
        "tolerations": tolerations,
        "serviceAccountName": extra.get("serviceAccountName", store.service_account),
        "imagePullSecrets": extra.get("imagePullSecrets"),
        "priorityClassName": extra.get("priorityClassName"),
    }
    body.update({name: value for name, value in optional.items() if value})
    metadata: Object = {"labels": {**extra.get("labels", {}), **labels}}
    if annotations := {**extra.get("annotations", {}), **(task.annotations if task else {})}:
        metadata["annotations"] = annotations
    return {"metadata": metadata, "spec": body}


def job(
    owner: Owner,
    name: str,
    template: Object,
    *,
    role: str,
    pods: int = 1,
    indexed: bool = True,
    fail_by_index: bool = False,
    deadline: timedelta | None = None,
) -> Object:
    """Return an Indexed Job that the Job controller never retries: the planner does restarts and the TTL.

    If a pod is disrupted, the whole Job fails with reason PodFailurePolicy, so its status shows a preemption after the
    pod is gone (KEP-3329). fail_by_index: only the pod's index fails, and the other pods continue (KEP-3850); a pod
    that exits with an error still fails the whole Job.
    """
    # Failed indices count against backoffLimit, too.
    when_lost = _FAIL_INDEX if fail_by_index else {"backoffLimit": 0, **_FAIL_JOB}
    labels = {ROLE_LABEL: role}
    return owner.child(
        JOB,
        name,
        labels,
        spec={
            "completionMode": "Indexed" if indexed else "NonIndexed",
            "completions": pods,
            "parallelism": pods,
            "podReplacementPolicy": "Failed",
            **when_lost,
            **({"activeDeadlineSeconds": int(deadline.total_seconds())} if deadline is not None else {}),
            "template": template,
        },
    )


def _node_tolerations(given: Iterable[Object]) -> list[Object]:
    """Return tolerations with which a pod on an unreachable Node is soon deleted and replaced.

    A taint that the user tolerates by name is left out: the shortest of several tolerations would apply.
    """
    named = {toleration.get("key") for toleration in given}
    return [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": NODE_TOLERATION_SECONDS}
        for key in _NODE_TAINTS
        if key not in named
    ]


def _env(own: Iterable[Object], given: list[Object]) -> list[Object]:
    """Return the variables with HOME, without duplicates: server-side apply refuses a list with two of one name."""
    names = {variable["name"] for variable in given}
    home = [] if "HOME" in names else [{"name": "HOME", "value": SCRATCH_DIR}]
    return [*own, *home, *given]


def _resources(resources: Resources | None, devices: Mapping[str, int]) -> Object:
    if resources is None:
        return {}
    bounded: Object = {"memory": str(resources.memory), **{name: str(count) for name, count in devices.items()}}
    # No CPU limit: throttling would slow each start (imports of torch).
    return {"requests": {"cpu": str(resources.cpu), **bounded}, "limits": bounded}
