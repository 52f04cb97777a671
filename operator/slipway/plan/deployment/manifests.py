"""Manifests for serving: the Triton Deployment of each revision, the Service and the PodDisruptionBudget."""

from __future__ import annotations

from slipway.api.artifacts import ArtifactRef
from slipway.api.kinds import CONTROLLER_REVISION, DEPLOYMENT, POD_DISRUPTION_BUDGET, SERVICE, Object, selector_text
from slipway.api.modeldeployment import Revision, Serving
from slipway.api.tasks import MODELS_DIR, REPOSITORY_DIR, REPOSITORY_FRONTEND, REPOSITORY_PROBE, FetchTask
from slipway.plan.owner import OWNER_LABELS, REVISION_LABEL, ROLE_LABEL, Owner
from slipway.plan.plan import Settings
from slipway.plan.pods import RUNTIME_COMMAND, container, pod_template, task_env
from slipway.plan.storemount import StoreMount
from slipway.plan.taskinput import TaskInput

RENDERER = 1
"""Version of the pod template of `serving_pod`, recorded with each revision, which is never rendered again."""
TRITON = "triton"
FETCH = "fetch"
ROLE = "serve"

HTTP_PORT, GRPC_PORT, METRICS_PORT = 8000, 8001, 8002
_CLIENT_PORTS = {"http": HTTP_PORT, "grpc": GRPC_PORT}
_PORTS = {**_CLIENT_PORTS, "metrics": METRICS_PORT}

PRE_STOP_SECONDS = 5
"""Time for the proxies of the cluster to remove the endpoint; below 2 s requests failed under load."""
DRAIN_SECONDS = 60
"""Longest wait of the front end for open connections to end (runtime/serving/frontend.py)."""
EXIT_SECONDS = 5
"""Time for Triton to finish requests in flight after that."""
GRACE_SECONDS = PRE_STOP_SECONDS + DRAIN_SECONDS + EXIT_SECONDS + 20
STARTUP_PERIOD_SECONDS, STARTUP_TRIES = 2, 150
PROGRESS_DEADLINE_SECONDS = 600
"""Progress deadline of the Deployment: enough to pull a large image and start once."""

_REPOSITORY = {"name": "slipway-repository", "mountPath": REPOSITORY_DIR}
_SHARED_MEMORY = {"name": "slipway-shm", "mountPath": "/dev/shm"}  # noqa: S108 - an emptyDir of the pod


def service_url(owner: Owner) -> str:
    return f"http://{owner.name}.{owner.namespace}.svc:{HTTP_PORT}"


def serving_pod(
    owner: Owner, revision: Revision, repository: ArtifactRef, serving: Serving, store: StoreMount, settings: Settings
) -> Object:
    """Return the pod template: `fetch` copies the repository and checks its digest, then Triton serves it.

    A pod counts as started when Triton answers the golden requests with the recorded results.
    """
    template = serving.pod_template
    task = FetchTask(artifact=repository)
    store, given = store.for_task(task), TaskInput.of(task)
    fetch = container(
        settings.runtime_image,
        RUNTIME_COMMAND,
        name=FETCH,
        pull_policy=settings.image_pull_policy,
        env=task_env(given, store),
        mounts=[*store.mounts, *given.mounts, _REPOSITORY],
        resources=serving.resources,
    )
    triton = container(
        settings.serving_image,
        _command(),
        name=TRITON,
        pull_policy=settings.image_pull_policy,
        mounts=[{**_REPOSITORY, "readOnly": True}, _SHARED_MEMORY],
        resources=serving.resources,
        template=template,
    )
    triton["ports"] = [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in _PORTS.items()]
    triton["startupProbe"] = {
        "exec": {"command": ["python3", REPOSITORY_PROBE]},
        "periodSeconds": STARTUP_PERIOD_SECONDS,
        "timeoutSeconds": 10,
        "failureThreshold": STARTUP_TRIES,
    }
    triton["livenessProbe"] = _get("/v2/health/live", period=10, failures=3)
    triton["readinessProbe"] = _get(f"/v2/models/{owner.name}/ready", period=5, failures=2)
    triton["lifecycle"] = {"preStop": {"sleep": {"seconds": PRE_STOP_SECONDS}}}
    return pod_template(
        [triton],
        labels=_pod_labels(owner, revision.name),
        store=store,
        task=given,
        volumes=[
            {"name": _REPOSITORY["name"], "emptyDir": {}},
            {"name": _SHARED_MEMORY["name"], "emptyDir": {"medium": "Memory"}},
        ],
        init_containers=[fetch],
        template=template,
        terminationGracePeriodSeconds=GRACE_SECONDS,
    )


def _command() -> list[str]:
    return [
        "python3",
        REPOSITORY_FRONTEND,
        "tritonserver",
        f"--model-repository={MODELS_DIR}",
        "--model-control-mode=none",
        "--disable-auto-complete-config",
        "--strict-readiness=true",
        f"--exit-timeout-secs={EXIT_SECONDS}",
        f"--http-port={HTTP_PORT}",
        f"--grpc-port={GRPC_PORT}",
        f"--metrics-port={METRICS_PORT}",
    ]


def _get(path: str, *, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _pod_labels(owner: Owner, revision: str) -> dict[str, str]:
    return {**owner.labels, **_selector(owner, revision)}


def _selector(owner: Owner, revision: str) -> dict[str, str]:
    """Return the labels of the pods of one revision."""
    return {**_all_pods(owner), REVISION_LABEL: revision}


def pod_selector(owner: Owner, revision: str) -> str:
    """Return the label selector of the pods of one revision, as text."""
    return selector_text(_selector(owner, revision))


def _all_pods(owner: Owner) -> dict[str, str]:
    """Return the labels of the serving pods of all revisions."""
    return {OWNER_LABELS[owner.kind.kind]: owner.name, ROLE_LABEL: ROLE}


def controller_revision(owner: Owner, revision: Revision, template: Object) -> Object:
    """Return the immutable record of a revision, from which its Deployment is applied."""
    pod = template["spec"]
    images = {one["name"]: one["image"] for one in (*pod.get("initContainers", ()), *pod["containers"])}
    return owner.child(
        CONTROLLER_REVISION,
        revision.name,
        {REVISION_LABEL: revision.name},
        revision=int(revision.created_at.timestamp()),
        data={"renderer": RENDERER, "images": images, "template": template},
    )


def is_selected(owner: Owner, revision: str, live: Object) -> bool:
    """Return True if the revision's traffic goes to the pods of a Deployment, of any owner."""
    labels = live["spec"].get("template", {}).get("metadata", {}).get("labels") or {}
    return _selector(owner, revision).items() <= labels.items()


def deployment(owner: Owner, name: str, template: Object, replicas: int) -> Object:
    """Return the Deployment of a revision, from its recorded pod template and the present number of replicas."""
    return owner.child(
        DEPLOYMENT,
        name,
        {ROLE_LABEL: ROLE, REVISION_LABEL: name},
        spec={
            "replicas": replicas,
            "selector": {"matchLabels": _selector(owner, name)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
            "revisionHistoryLimit": 1,
            "template": template,
        },
    )


def service(owner: Owner, revision: str | None) -> Object:
    """Return the stable Service, which selects the pods of one revision. It has the name of the ModelDeployment.

    Before the first revision serves, it selects no pod. It is created first, so that the API server refuses a name that
    is taken before any step runs. It has no metrics port: a scraper reads the metrics of each pod.
    """
    return owner.child(
        SERVICE,
        owner.name,
        spec={
            "type": "ClusterIP",
            "selector": _selector(owner, revision or ""),
            "ports": [
                {"name": name, "port": port, "targetPort": name, "protocol": "TCP"}
                for name, port in _CLIENT_PORTS.items()
            ],
        },
    )


def selected_revision(live: Object | None) -> str | None:
    """Return the revision that a stable Service selects; None if it selects no pod."""
    selector = (live or {}).get("spec", {}).get("selector") or {}
    return selector.get(REVISION_LABEL) or None


def disruption_budget(owner: Owner) -> Object:
    """Return a budget with which drains evict one serving pod at a time, and any pod that is not ready."""
    return owner.child(
        POD_DISRUPTION_BUDGET,
        owner.child_name("serve"),
        spec={
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": _all_pods(owner)},
        },
    )
