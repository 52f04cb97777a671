"""A broken value and its valid neighbour for every CEL rule, by the rule's message.

A rule holds wherever its model is used; the suite puts the values at each of those places. A function takes the valid
value that lies there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from slipway.api.podtemplate import FREE_ANNOTATIONS, LABEL_KEY
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
    "metadata.name must start with a letter, hold lower-case letters, digits and -, and be at most 40 characters long:"
    " it names Services and the host names of pods": [
        (_nested("metadata", name="a" * 41), _nested("metadata", name="a" * 40)),
        (_nested("metadata", name="a.b"), _nested("metadata", name="a-b")),
        (_nested("metadata", name="1st"), _nested("metadata", name="the-1st")),
    ],
    "metadata.name must start with a letter, hold lower-case letters, digits and -, and be at most 63 characters long:"
    " it is a label of pods": [
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
    "names starting with PET_, SLIPWAY_ or TORCHELASTIC_ are set by the operator": [
        ({"name": name, "value": "x"}, {"name": f"MY_{name}", "value": "x"})
        for name in ("PET_NNODES", "SLIPWAY_TASK", "TORCHELASTIC_RUN_ID")
    ],
    "names starting with slipway- are the operator's": [(_with(name="slipway-tmp"), _with(name="my-slipway-tmp"))],
    "/var/lib/slipway, /repository, /tmp and /dev/shm are the operator's": _many(
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
    "/usr, /lib, /etc, /proc, /opt/slipway and other folders of the system cannot be covered": _many(
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
    "labels of Kubernetes (kubernetes.io, k8s.io, job-name, ...) and of injectors of code are refused": _many(
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
    "annotations of Kubernetes, of Slipway and of injectors of code are refused": _many(
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
    "keys: at most 48 characters": [({"a" * 49: 0.5}, {"a" * 48: 0.5})],
    "keys: at most 63 characters": [({"a" * 64: "x"}, {"a" * 63: "x"})],
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
    "priority classes that start with system- are the cluster's own": _many(
        "priorityClassName", [("system-node-critical", "batch"), ("system-x", "my-system-x")]
    ),
    "without a key the operator must be Exists": [
        (_with(key=None, operator="Equal"), _with(key=None, operator="Exists", value=None)),
        (_with(key=None, operator=None), lambda value: value),
    ],
    "the operator Exists takes no value": [(_with(operator="Exists"), _with(operator=None))],
    "tolerationSeconds goes with the effect NoExecute": [
        (_with(effect="NoSchedule"), _with(effect="NoSchedule", tolerationSeconds=None)),
        (_with(effect=None), lambda value: value),
    ],
    "keys: at most 317 characters": [({"a" * 318: "x"}, {f"{'a' * 253}/{'b' * 63}": "x"})],
    _LABEL_KEYS: [({"-a": "x"}, {"a": "x"}), ({"a/b/c": "x"}, {"a.b/c": "x"}), ({"": "x"}, {"A_b": "x"})],
    "labels under slipway.dev/ are set by the operator": [
        (_with(labels={"slipway.dev/job": "x"}), _with(labels={"example.com/slipway.dev": "x"}))
    ],
    "each mount must name one of the volumes": [
        (_with(volumeMounts=[{"name": "none", "mountPath": "/a"}]), lambda value: value),
        (_with(volumes=None), _with(volumes=None, volumeMounts=None)),
    ],
    "a recipe runs in the runtime image: remove image, or use script or module": [
        (_with(image="team/train:1"), _with(image="team/train:1", entrypoint={"module": {"name": "team.train"}}))
    ],
    "a recipe trains on the data source named train": [
        (_with(data=[{"name": "test", "dataset": "digits"}]), _with(data=[{"name": "train", "dataset": "digits"}])),
        (_with(data=[]), _with(data=[], entrypoint={"module": {"name": "team.train"}})),
    ],
    "evaluation is required where compression has steps: a smaller model is served only when it is proven": [
        (_with(evaluation=None), _nested("compression", steps=[])),
        (_with(evaluation=None), _with(evaluation=None, compression=None)),
    ],
    "evaluation.data must be held out: it is what the steps are calibrated with": [
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
    "the counts contradict each other": [
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
