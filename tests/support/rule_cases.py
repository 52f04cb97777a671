"""A broken value and its valid neighbour for every CEL rule, by the rule's message.

A rule holds wherever its model is used; the suite puts the values at each of those places. A function takes the valid
value that lies there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from slipway.api.podtemplate import FREE_ANNOTATIONS
from slipway.api.scheduling import LABEL_KEY
from support.full_objects import DIGEST, OTHER_DIGEST
from support.refusals import Case, Spot, spots

Value = Any | Callable[[Any], Any]

_STORED = {"uri": "store:///data/one", "digest": DIGEST}
_S3 = {"bucket": "one", "secretRef": {"name": "one"}}
_KEY = {"name": "settings", "key": "token"}
_LABEL_KEYS = f"keys must match {LABEL_KEY}"


def _with(**fields: Any) -> Callable[[Any], Any]:
    """The valid value with these fields; None removes one."""
    return lambda value: {k: v for k, v in {**value, **fields}.items() if v is not None}


def _nested(*path: str, **fields: Any) -> Callable[[Any], Any]:
    """The same, further down."""
    if not path:
        return _with(**fields)
    return lambda value: {**value, path[0]: _nested(*path[1:], **fields)(value[path[0]])}


def _many(field: str, items: list[tuple[Any, Any]]) -> list[tuple[Value, Value]]:
    return [(_with(**{field: broken}), _with(**{field: good})) for broken, good in items]


# By message: pairs of (broken, good).
PAIRS: dict[str, list[tuple[Value, Value]]] = {
    "metadata.name must start with a letter, have only lower-case letters, digits and -, and at most 40 characters:"
    " Services and host names of pods contain it": [
        (_nested("metadata", name="a" * 41), _nested("metadata", name="a" * 40)),
        (_nested("metadata", name="a.b"), _nested("metadata", name="a-b")),
        (_nested("metadata", name="1st"), _nested("metadata", name="the-1st")),
    ],
    "metadata.name must start with a letter, have only lower-case letters, digits and -, and at most 63 characters:"
    " it is the value of a label of pods": [
        (_nested("metadata", name="a" * 64), _nested("metadata", name="a" * 63)),
        (_nested("metadata", name="a.b"), _nested("metadata", name="a-b")),
    ],
    "exactly one of script, module, recipe must be set": [
        (_with(module={"name": "team.train"}, script={"path": "/a.py"}, recipe=None), lambda value: value),
        ({}, lambda value: value),
    ],
    "exactly one of persistentVolumeClaim, s3 must be set": [
        (_with(s3=_S3, persistentVolumeClaim={"claimName": "one"}), _with(s3=_S3, persistentVolumeClaim=None)),
        ({}, {"persistentVolumeClaim": {"claimName": "one"}}),
    ],
    "exactly one of secretRef, serviceAccountName must be set": [
        (_with(secretRef={"name": "one"}, serviceAccountName="one"), _S3),
        (_with(secretRef=None, serviceAccountName=None), _with(secretRef=None, serviceAccountName="one")),
    ],
    "exactly one of dataset, stored must be set": [
        (_with(dataset="digits", stored=_STORED), _with(dataset=None, stored=_STORED)),
        (_with(dataset=None, stored=None), lambda value: value),
    ],
    "exactly one of trainingJob, stored must be set": [
        (_with(stored={**_STORED, "state": "onnx"}, trainingJob="one"), _with(stored=None, trainingJob="one")),
        ({}, {"stored": {**_STORED, "state": "onnx"}}),
    ],
    "exactly one of secretKeyRef, configMapKeyRef must be set": [
        ({"secretKeyRef": _KEY, "configMapKeyRef": _KEY}, {"configMapKeyRef": _KEY}),
        ({}, {"secretKeyRef": _KEY}),
    ],
    "exactly one of value, valueFrom must be set": [
        ({"name": "A", "value": "x", "valueFrom": {"secretKeyRef": _KEY}}, {"name": "A", "value": "x"}),
        ({"name": "A"}, {"name": "A", "value": ""}),
    ],
    "exactly one of secretRef, configMapRef must be set": [
        ({"secretRef": {"name": "a"}, "configMapRef": {"name": "a"}}, {"secretRef": {"name": "a"}}),
        ({}, {"configMapRef": {"name": "a"}}),
    ],
    "exactly one of configMap, secret, persistentVolumeClaim, emptyDir must be set": [
        (_with(emptyDir={}, secret={"secretName": "a"}), _with(emptyDir=None, secret={"secretName": "a"})),
        (_with(emptyDir=None), _with(emptyDir={})),
    ],
    "name must not start with PET_, SLIPWAY_ or TORCHELASTIC_, which are reserved for the operator": [
        ({"name": name, "value": "x"}, {"name": f"MY_{name}", "value": "x"})
        for name in ("PET_NNODES", "SLIPWAY_TASK", "TORCHELASTIC_RUN_ID")
    ],
    "name must not start with slipway-, which is reserved for the operator": [
        (_with(name="slipway-tmp"), _with(name="my-slipway-tmp"))
    ],
    "mountPath must not be /tmp, or in /var/lib/slipway, /repository or /dev/shm: the operator mounts them": _many(
        "mountPath",
        [
            ("/var/lib/slipway", "/var/lib/slipway2"),
            ("/var/lib/slipway/out", "/var/lib/other"),
            ("/repository", "/my/repository"),
            ("/repository/models/", "/repository-of-mine"),
            ("/tmp", "/tmp/cache"),
            ("/tmp/", "/tmp2"),
            ("/dev/shm", "/shm"),
        ],
    ),
    "mountPath must not cover a folder of the system, such as /usr, /lib, /etc, /proc or /opt/slipway": _many(
        "mountPath",
        [
            ("/proc", "/process"),
            ("/sys/kernel", "/system"),
            ("/dev/null", "/devices"),
            ("/run/secrets", "/running"),
            ("/var/run/secrets/kubernetes.io/serviceaccount", "/var/cache"),
            ("/bin", "/binaries"),
            ("/lib64/", "/library"),
            ("/usr", "/usr/share/data"),
            ("/usr/", "/users"),
            ("/usr/bin", "/usr/binaries"),
            ("/usr/lib/python3", "/usr/src"),
            ("/usr/local", "/usr/local/data"),
            ("/usr/local/lib/python3.11", "/usr/local/src"),
            ("/opt", "/opt/data"),
            ("/opt/slipway/venv", "/opt/slipways"),
            ("/etc", "/etc/ssl/certs"),
            ("/var", "/var/data"),
            ("/var/lib", "/var/lib/data"),
        ],
    ),
    "labels must not be those of Kubernetes (kubernetes.io, k8s.io, job-name, ...) or of sidecar injectors": _many(
        "labels",
        [
            ({name: "x"}, {good: "x"})
            for name, good in (
                ("batch.kubernetes.io/job-name", "example.com/job-name"),
                ("batch.kubernetes.io/controller-uid", "kueue.x-k8s.io/queue-name"),
                ("job-name", "job"),
                ("controller-uid", "uid"),
                ("pod-template-hash", "hash"),
                ("app.kubernetes.io/managed-by", "app.kubernetes.io/part-of"),
                ("app.kubernetes.io/name", "app.kubernetes.io/component"),
                ("app.kubernetes.io/instance", "app.kubernetes.io/version"),
                ("kubernetes.io/x", "mykubernetes.io/x"),
                ("node.k8s.io/x", "x-k8s.io/x"),
                ("x.slipway.dev/role", "slipway.development/role"),
                ("admission.datadoghq.com/enabled", "tags.datadoghq.com/env"),
            )
        ],
    ),
    "annotations must not be those of Kubernetes, of Slipway or of sidecar injectors": _many(
        "annotations",
        [
            ({name: "x"}, {good: "x"})
            for name, good in (
                ("container.apparmor.security.beta.kubernetes.io/main", "k8s.v1.cni.cncf.io/networks"),
                ("seccomp.security.alpha.kubernetes.io/pod", "example.com/note"),
                ("batch.kubernetes.io/job-completion-index", "index"),
                ("slipway.dev/role", "cluster-autoscaler.kubernetes.io/safe-to-evict"),
                ("instrumentation.opentelemetry.io/inject-python", "opentelemetry.io/note"),
                ("vault.hashicorp.com/agent-inject", "hashicorp.com/note"),
                ("inject.istio.io/templates", "sidecar.istio.io/inject"),
            )
        ],
    ),
    "keys must have at most 48 characters": [({"a" * 49: 0.5}, {"a" * 48: 0.5})],
    "keys must have at most 63 characters": [({"a" * 64: "x"}, {"a" * 63: "x"})],
    f"keys must match {FREE_ANNOTATIONS}": [
        ({name: "x"}, {good: "x"})
        for name, good in (
            ("example.com/note", "note"),
            ("sidecar.istio.io/userVolume", "sidecar.istio.io/inject"),
            ("sidecar.istio.io/proxyImage", "linkerd.io/inject"),
            ("instrumentation.opentelemetry.io/inject-python", "karpenter.sh/do-not-disrupt"),
            ("kubernetes.io/x", "cluster-autoscaler.kubernetes.io/safe-to-evict"),
            ("k8s.v1.cni.cncf.io/networks", "prometheus.io/scrape"),
            ("-a", "a.b"),
        )
    ],
    "priorityClassName must not start with system-, which is reserved for the cluster": _many(
        "priorityClassName", [("system-node-critical", "batch"), ("system-x", "my-system-x")]
    ),
    "operator must be Exists if key is not set": [
        (_with(key=None, operator="Equal"), _with(key=None, operator="Exists", value=None)),
        (_with(key=None, operator=None), lambda value: value),
    ],
    "value must not be set if operator is Exists": [(_with(operator="Exists"), _with(operator=None))],
    "tolerationSeconds requires effect: NoExecute": [
        (_with(effect="NoSchedule"), _with(effect="NoSchedule", tolerationSeconds=None)),
        (_with(effect=None), lambda value: value),
    ],
    "keys must have at most 317 characters": [({"a" * 318: "x"}, {f"{'a' * 253}/{'b' * 63}": "x"})],
    _LABEL_KEYS: [({"-a": "x"}, {"a": "x"}), ({"a/b/c": "x"}, {"a.b/c": "x"}), ({"": "x"}, {"A_b": "x"})],
    "labels must not start with slipway.dev/, which is reserved for the operator": [
        (_with(labels={"slipway.dev/job": "x"}), _with(labels={"example.com/slipway.dev": "x"}))
    ],
    "volumeMounts must each name an entry of volumes": [
        (_with(volumeMounts=[{"name": "none", "mountPath": "/a"}]), lambda value: value),
        (_with(volumes=None), _with(volumes=None, volumeMounts=None)),
    ],
    "image must not be set for a recipe, which needs the runtime image; remove it, or use a script or a module": [
        (_with(image="team/train:1"), _with(image="team/train:1", entrypoint={"module": {"name": "team.train"}}))
    ],
    "data must contain a source named train, which a recipe trains on": [
        (_with(data=[{"name": "test", "dataset": "digits"}]), _with(data=[{"name": "train", "dataset": "digits"}])),
        (_with(data=[]), _with(data=[], entrypoint={"module": {"name": "team.train"}})),
    ],
    "evaluation is required if compression has steps; add it with held-out data": [
        (_with(evaluation=None), _nested("compression", steps=[])),
        (_with(evaluation=None), _with(evaluation=None, compression=None)),
    ],
    "evaluation.data must not be the data of compression.data; name held-out data": [
        (
            _nested("evaluation", data={"dataset": "digits", "split": "train"}),
            _nested("evaluation", data={"dataset": "digits", "split": "test"}),
        ),
        (
            lambda value: _with(
                evaluation={"data": {"stored": {**_STORED, "uri": "store:///data/moved"}}},
                compression={**value["compression"], "data": {"stored": _STORED}},
            )(value),
            lambda value: _with(
                evaluation={"data": {"stored": {**_STORED, "digest": OTHER_DIGEST}}},
                compression={**value["compression"], "data": {"stored": _STORED}},
            )(value),
        ),
    ],
    "counts must satisfy lost + gained <= n and lost <= baselineRight <= n": [
        (_with(lost=300, gained=300), _with(lost=270, gained=270)),
        (_with(lost=521, gained=0), _with(lost=520, gained=0)),
        (_with(baselineRight=541), _with(baselineRight=540)),
    ],
}


def rule_cases() -> Iterator[Case]:
    """One case for each pair at each place."""
    for spot, rule in _rules():
        for number, (broken, good) in enumerate(PAIRS.get(rule["message"], ())):
            yield spot.case(
                f"rule {number}: {rule['message'][:60]}",
                _applied(broken, spot.value),
                _applied(good, spot.value),
                below=rule.get("fieldPath", ""),
                message=rule["message"],
            )


def messages() -> set[str]:
    """Of all rules that the schemas have, but for those on changes."""
    return {rule["message"] for _, rule in _rules()}


def _rules() -> Iterator[tuple[Spot, dict[str, str]]]:
    for spot in spots():
        for rule in spot.node.schema.get("x-kubernetes-validations", ()):
            if "oldSelf" not in rule["rule"]:
                yield spot, rule


def _applied(value: Value, valid: Any) -> Any:
    return value(valid) if callable(value) else value
