"""The part of a pod that users may set: a typed allow-list.

What would leave the sandbox (host namespaces, host paths, privileges, security contexts, other containers) is not a
field, so the API server refuses it by name under strict validation.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.base import Duration, Model, ObjectName, Rule, UniqueBy, exactly_one
from slipway.api.quantity import Quantity

# A DNS subdomain and a slash, if any, then a name (the API server's own check of a qualified name).
LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
LabelKey = Annotated[str, Field(pattern=LABEL_KEY, max_length=317)]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]

AnnotationValue = Annotated[str, Field(max_length=4096)]

# One part of a path that is neither `.` nor `..`, in a syntax that has no look-ahead (RE2).
_PART = r"([^/:.][^/:]*|[.][^/:.][^/:]*|[.][.][^/:]+)"
MountPath = Annotated[str, Field(pattern=rf"^(/{_PART})+/?$", max_length=512)]
SubPath = Annotated[str, Field(pattern=rf"^{_PART}(/{_PART})*$", max_length=512)]


_OPERATORS_PATHS = re.compile("^/(var/lib/slipway/|repository/|tmp/+$|dev/shm/)")
_SYSTEM_PATHS = (
    "^/((proc|sys|dev|run|bin|sbin|lib|lib32|lib64|opt/slipway|var/run|usr/(s?bin|lib|lib64|local/(s?bin|lib)))/"
    "|(etc|opt|usr|usr/local|var|var/lib)/+$)"
)
"""Where the image, the container runtime and the kubelet keep what every process of the pod runs by."""
_TAKEN_NAMES = (
    "^(([a-z0-9.-]+[.])?(kubernetes|k8s)[.]io/.*|([a-z0-9.-]+[.])?slipway[.]dev/.*"
    "|job-name|controller-uid|pod-template-hash|controller-revision-hash"
    "|(instrumentation[.]opentelemetry|sidecar[.]opentelemetry|inject[.]istio)[.]io/.*|admission[.]datadoghq[.]com/.*"
    "|vault[.]hashicorp[.]com/.*)$"
)
"""What controllers select by, and at whose word known injectors put containers or variables into pods."""
_DESCRIPTIVE = [f"app.kubernetes.io/{word}" for word in ("component", "part-of", "version")]
_AUTOSCALERS = ["cluster-autoscaler.kubernetes.io/safe-to-evict"]
FREE_ANNOTATIONS = (
    "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?|prometheus[.]io/[a-z_-]+|(sidecar[.]istio|linkerd)[.]io/inject"
    "|cluster-autoscaler[.]kubernetes[.]io/safe-to-evict|karpenter[.]sh/do-not-disrupt)$"
)
"""Without a prefix a name is its user's own (a rule of Kubernetes): no webhook goes by it."""
FreeAnnotation = Annotated[str, Field(pattern=FREE_ANNOTATIONS, max_length=63)]


class KeySelector(Model):
    """One key of a Secret or ConfigMap of the same namespace."""

    name: ObjectName
    """Name of the Secret or ConfigMap."""
    key: Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
    """Which key."""
    optional: bool | None = None
    """Start the pod even where the object or key is missing."""


class EnvSource(Model):
    """Where an environment variable's value comes from."""

    secret_key_ref: KeySelector | None = None
    """A key of a Secret. The operator itself never reads it."""
    config_map_key_ref: KeySelector | None = None
    """A key of a ConfigMap."""

    rules = (exactly_one("secret_key_ref", "config_map_key_ref"),)


class EnvVar(Model):
    """An environment variable."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
    """Its name. Names that start with PET_, SLIPWAY_ or TORCHELASTIC_ are the operator's."""
    value: Annotated[str, Field(max_length=4096)] | None = None
    """Its value. As in any pod, `$(NAME)` stands for an earlier variable, and `$$` for `$`."""
    value_from: EnvSource | None = None
    """Or where its value comes from."""

    rules = (
        exactly_one("value", "value_from"),
        Rule(
            "!self.name.startsWith('PET_') && !self.name.startsWith('SLIPWAY_')"
            " && !self.name.startsWith('TORCHELASTIC_')",
            "names starting with PET_, SLIPWAY_ or TORCHELASTIC_ are set by the operator",
            lambda e: not e.name.startswith(("PET_", "SLIPWAY_", "TORCHELASTIC_")),
            field=".name",
        ),
    )


class LocalObject(Model):
    """An object of the same namespace."""

    name: ObjectName
    """Its name."""


class EnvFrom(Model):
    """All keys of a Secret or ConfigMap as environment variables."""

    secret_ref: LocalObject | None = None
    """A Secret."""
    config_map_ref: LocalObject | None = None
    """A ConfigMap."""

    rules = (exactly_one("secret_ref", "config_map_ref"),)


class ConfigMapVolume(Model):
    """The keys of a ConfigMap as files."""

    name: ObjectName
    """Name of the ConfigMap."""


class SecretVolume(Model):
    """The keys of a Secret as files."""

    secret_name: ObjectName
    """Name of the Secret."""


class ClaimVolume(Model):
    """A PersistentVolumeClaim of the same namespace."""

    claim_name: ObjectName
    """Name of the claim."""
    read_only: bool | None = None
    """Mount it read-only."""


class EmptyDirVolume(Model):
    """Scratch space that lives as long as the pod."""

    medium: Literal["", "Memory"] | None = None
    """Memory for a tmpfs."""
    size_limit: Quantity | None = None
    """Most bytes that the volume may hold: `1Gi`. The pod is evicted beyond it. Default: no limit of its own."""


class Volume(Model):
    """A volume of the pod. Host paths cannot be asked for."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    """Its name. Names that start with slipway- are the operator's."""
    config_map: ConfigMapVolume | None = None
    """The keys of a ConfigMap as files."""
    secret: SecretVolume | None = None
    """The keys of a Secret as files."""
    persistent_volume_claim: ClaimVolume | None = None
    """A claim."""
    empty_dir: EmptyDirVolume | None = None
    """Scratch space."""

    rules = (
        exactly_one("config_map", "secret", "persistent_volume_claim", "empty_dir"),
        Rule(
            "!self.name.startsWith('slipway-')",
            "names starting with slipway- are the operator's",
            lambda v: not v.name.startswith("slipway-"),
            field=".name",
        ),
    )


class VolumeMount(Model):
    """Where a volume appears in the pod's main container."""

    name: Annotated[str, Field(max_length=63)]
    """Name of one of the volumes."""
    mount_path: MountPath
    """Absolute path. /var/lib/slipway, /repository, /tmp and /dev/shm are the operator's."""
    sub_path: SubPath | None = None
    """A path inside the volume."""
    read_only: bool | None = None
    """Mount it read-only."""

    rules = (
        Rule(
            "!(self.mountPath + '/').matches('^/(var/lib/slipway/|repository/|tmp/+$|dev/shm/)')",
            "/var/lib/slipway, /repository, /tmp and /dev/shm are the operator's",
            lambda m: not _OPERATORS_PATHS.match(m.mount_path + "/"),
            field=".mountPath",
        ),
        Rule(
            f"!(self.mountPath + '/').matches('{_SYSTEM_PATHS}')",
            "/usr, /lib, /etc, /proc, /opt/slipway and other folders of the system cannot be covered",
            lambda m: not re.match(_SYSTEM_PATHS, m.mount_path + "/"),
            field=".mountPath",
        ),
    )


class Toleration(Model):
    """A taint that the pod tolerates, as in a PodSpec."""

    key: LabelKey | None = None
    """Key of the taint; absent matches every taint (with operator Exists)."""
    operator: Literal["Exists", "Equal"] | None = None
    """Exists, or Equal (the default)."""
    value: LabelValue | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Absent matches all effects."""
    toleration_seconds: int | None = Field(default=None, ge=0, le=2_147_483_647)
    """How long a NoExecute taint is tolerated."""

    rules = (
        Rule(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "without a key the operator must be Exists",
            lambda t: t.key is not None or t.operator == "Exists",
            field=".operator",
        ),
        Rule(
            "!has(self.value) || !has(self.operator) || self.operator != 'Exists'",
            "the operator Exists takes no value",
            lambda t: t.value is None or t.operator != "Exists",
            field=".value",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds goes with the effect NoExecute",
            lambda t: t.toleration_seconds is None or t.effect == "NoExecute",
            field=".tolerationSeconds",
        ),
    )


_FREE_NAMES = (
    Rule(
        "!has(self.labels) || self.labels.all(k, !k.startsWith('slipway.dev/'))",
        "labels under slipway.dev/ are set by the operator",
        lambda t: not any(k.startswith("slipway.dev/") for k in t.labels or {}),
        field=".labels",
    ),
    Rule(
        f"!has(self.labels) || self.labels.all(k, !k.matches('{_TAKEN_NAMES}') || k in {_DESCRIPTIVE})",
        "labels of Kubernetes (kubernetes.io, k8s.io, job-name, ...) and of injectors of code are refused",
        lambda t: not any(re.match(_TAKEN_NAMES, k) and k not in _DESCRIPTIVE for k in t.labels or {}),
        field=".labels",
    ),
    Rule(
        "!has(self.priorityClassName) || !self.priorityClassName.startsWith('system-')",
        "priority classes that start with system- are the cluster's own",
        lambda t: not (t.priority_class_name or "").startswith("system-"),
        field=".priorityClassName",
    ),
)


class PodSettings(Model):
    """What users may set of pods that decide or serve: where they run, what they are called, what pulls their image.

    It holds nothing that reaches what runs inside: no variables, volumes or mounts, and few annotations, since webhooks
    put code into pods at the word of an annotation.
    """

    labels: dict[LabelKey, LabelValue] | None = Field(default=None, max_length=32)
    """Labels of the pods. Labels of Kubernetes, of Slipway and of injectors of code are refused."""
    annotations: dict[FreeAnnotation, Annotated[str, Field(max_length=4096)]] | None = Field(
        default=None, max_length=32
    )
    """Annotations of the pods: names without a prefix, and prometheus.io/*, sidecar.istio.io/inject, linkerd.io/inject,
    cluster-autoscaler.kubernetes.io/safe-to-evict and karpenter.sh/do-not-disrupt."""
    node_selector: dict[LabelKey, LabelValue] | None = Field(default=None, max_length=16)
    """Labels that a Node must have, besides those of the pool."""
    tolerations: tuple[Toleration, ...] | None = Field(default=None, max_length=16)
    """Taints that the pods tolerate, besides those of the pool."""
    service_account_name: ObjectName | None = None
    """The pods' service account; its token is not mounted."""
    image_pull_secrets: tuple[LocalObject, ...] | None = Field(default=None, max_length=8)
    """Secrets to pull images with."""
    priority_class_name: ObjectName | None = None
    """The pods' priority class; those of the cluster itself (system-*) are refused."""

    rules: ClassVar[tuple[Rule, ...]] = _FREE_NAMES


class PodTemplate(PodSettings):
    """What users may add to the pods that run their own code."""

    annotations: dict[LabelKey, AnnotationValue] | None = Field(default=None, max_length=32)
    """Annotations of the pods. Annotations of Kubernetes, of Slipway and of injectors of code are refused."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=64), UniqueBy("name")] | None = None
    """Environment variables."""
    env_from: tuple[EnvFrom, ...] | None = Field(default=None, max_length=16)
    """Secrets and ConfigMaps whose keys become environment variables. The operator's own variables go before them."""
    volumes: Annotated[tuple[Volume, ...], Field(max_length=16), UniqueBy("name")] | None = None
    """Volumes. The claim and the Secret of an ArtifactStore are refused."""
    volume_mounts: Annotated[tuple[VolumeMount, ...], Field(max_length=32), UniqueBy("mountPath")] | None = None
    """Where the volumes appear."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *_FREE_NAMES,
        Rule(
            f"!has(self.annotations) || self.annotations.all(k, !k.matches('{_TAKEN_NAMES}') || k in {_AUTOSCALERS})",
            "annotations of Kubernetes, of Slipway and of injectors of code are refused",
            lambda t: not any(re.match(_TAKEN_NAMES, k) and k not in _AUTOSCALERS for k in t.annotations or {}),
            field=".annotations",
        ),
        Rule(
            "!has(self.volumeMounts) || self.volumeMounts.all(m, has(self.volumes)"
            " && self.volumes.exists(v, v.name == m.name))",
            "each mount must name one of the volumes",
            lambda t: all(m.name in {v.name for v in t.volumes or ()} for m in t.volume_mounts or ()),
            field=".volumeMounts",
        ),
    )

    @property
    def settings(self) -> PodSettings:
        """Without what is meant for the user's own code: for pods of Slipway's that run beside it."""
        ours = PodSettings.model_fields.keys() - {"annotations"}
        return PodSettings.model_construct(**{name: getattr(self, name) for name in ours})


class Resources(Model):
    """What each pod asks for. Devices come from the pool."""

    cpu: Quantity = "1"
    """Processors that are kept for the pod: `4`, `500m`. It may use idle ones besides."""
    memory: Quantity = "2Gi"
    """Memory, as a request and as a limit: `16Gi`."""


class StepPods(Model):
    """What the pods of Steps ask for, and where they run. None of it decides a result, so a change makes nothing anew:
    it holds for the pods that are made from then on."""

    resources: Resources | None = None
    """What each pod asks for. Absent: half a processor, and 1 GiB of memory plus three times the size of what it
    reads, as far as that is known; a large model needs more."""
    pool: ObjectName | None = None
    """The GPUPool to run on. Absent: any node, without devices."""
    pod_template: PodSettings = Field(default_factory=PodSettings)
    """Where the pods run and what pulls their image: labels of nodes, tolerations, secrets, priority."""
    deadline: Duration | None = None
    """How long one try may take, waiting for a node included. A step that takes longer has failed. Absent: no limit."""
