"""The part of a pod that users may set: a typed allow-list.

Settings that leave the sandbox (host namespaces, host paths, privileges, security contexts, other containers) are not
fields, so the API server refuses them by name under strict validation.
"""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.base import Duration, Model, ObjectName, Rule, UniqueBy, exactly_one
from slipway.api.scheduling import LabelKey, LabelValue, Quantity, Resources, Toleration

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
"""Folders of the image, the container runtime and the kubelet that every process of the pod depends on."""
_TAKEN_NAMES = (
    "^(([a-z0-9.-]+[.])?(kubernetes|k8s)[.]io/.*|([a-z0-9.-]+[.])?slipway[.]dev/.*"
    "|job-name|controller-uid|pod-template-hash|controller-revision-hash"
    "|(instrumentation[.]opentelemetry|sidecar[.]opentelemetry|inject[.]istio)[.]io/.*|admission[.]datadoghq[.]com/.*"
    "|vault[.]hashicorp[.]com/.*)$"
)
"""Names that controllers select by, and names that make known webhooks inject containers or variables into pods."""
_DESCRIPTIVE = [f"app.kubernetes.io/{word}" for word in ("component", "part-of", "version")]
_AUTOSCALERS = ["cluster-autoscaler.kubernetes.io/safe-to-evict"]
FREE_ANNOTATIONS = (
    "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?|prometheus[.]io/[a-z_-]+|(sidecar[.]istio|linkerd)[.]io/inject"
    "|cluster-autoscaler[.]kubernetes[.]io/safe-to-evict|karpenter[.]sh/do-not-disrupt)$"
)
"""A name without a prefix is its user's own (a rule of Kubernetes), so no webhook reads it."""
FreeAnnotation = Annotated[str, Field(pattern=FREE_ANNOTATIONS, max_length=63)]


class KeySelector(Model):
    """Key of a Secret or ConfigMap in the same namespace."""

    name: ObjectName
    """Name of the Secret or ConfigMap."""
    key: Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)]
    """Key whose value is used."""
    optional: bool | None = None
    """If true, the pod starts even if the object or the key does not exist. Default: false."""


class EnvSource(Model):
    """Source of an environment variable's value. Set exactly one of secretKeyRef and configMapKeyRef."""

    secret_key_ref: KeySelector | None = None
    """Key of a Secret. The operator itself never reads the Secret."""
    config_map_key_ref: KeySelector | None = None
    """Key of a ConfigMap."""

    rules = (exactly_one("secret_key_ref", "config_map_key_ref"),)


class EnvVar(Model):
    """Environment variable of the training pods. Set exactly one of value and valueFrom."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)]
    """Name of the variable. Names that start with PET_, SLIPWAY_ or TORCHELASTIC_ are reserved for the operator."""
    value: Annotated[str, Field(max_length=4096)] | None = None
    """Value of the variable. As in any pod, `$(NAME)` expands to an earlier variable, and `$$` to `$`."""
    value_from: EnvSource | None = None
    """Source of the value, instead of value."""

    rules = (
        exactly_one("value", "value_from"),
        Rule(
            "!self.name.startsWith('PET_') && !self.name.startsWith('SLIPWAY_')"
            " && !self.name.startsWith('TORCHELASTIC_')",
            "name must not start with PET_, SLIPWAY_ or TORCHELASTIC_, which are reserved for the operator",
            lambda e: not e.name.startswith(("PET_", "SLIPWAY_", "TORCHELASTIC_")),
            field=".name",
        ),
    )


class LocalObject(Model):
    """Object in the same namespace."""

    name: ObjectName
    """Name of the object."""


class EnvFrom(Model):
    """Secret or ConfigMap whose keys become environment variables. Set exactly one of secretRef and configMapRef."""

    secret_ref: LocalObject | None = None
    """Secret whose keys become environment variables."""
    config_map_ref: LocalObject | None = None
    """ConfigMap whose keys become environment variables."""

    rules = (exactly_one("secret_ref", "config_map_ref"),)


class ConfigMapVolume(Model):
    """Volume with the keys of a ConfigMap as files."""

    name: ObjectName
    """Name of the ConfigMap."""


class SecretVolume(Model):
    """Volume with the keys of a Secret as files."""

    secret_name: ObjectName
    """Name of the Secret."""


class ClaimVolume(Model):
    """Volume that a PersistentVolumeClaim of the same namespace provides."""

    claim_name: ObjectName
    """Name of the PersistentVolumeClaim. The claim of an ArtifactStore is refused."""
    read_only: bool | None = None
    """If true, all mounts of the volume are read-only. Default: false."""


class EmptyDirVolume(Model):
    """Empty volume that is deleted with the pod."""

    medium: Literal["", "Memory"] | None = None
    """`Memory` keeps the files in memory (tmpfs). Default: the storage of the Node."""
    size_limit: Quantity | None = None
    """Maximum size of the volume, such as `1Gi`; the pod is evicted if it uses more. Default: no limit."""


class Volume(Model):
    """Volume of the training pods. Set exactly one source; hostPath volumes are not available."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)]
    """Name of the volume. Names that start with slipway- are reserved for the operator."""
    config_map: ConfigMapVolume | None = None
    """Keys of a ConfigMap as files."""
    secret: SecretVolume | None = None
    """Keys of a Secret as files."""
    persistent_volume_claim: ClaimVolume | None = None
    """PersistentVolumeClaim of the same namespace."""
    empty_dir: EmptyDirVolume | None = None
    """Empty volume that is deleted with the pod."""

    rules = (
        exactly_one("config_map", "secret", "persistent_volume_claim", "empty_dir"),
        Rule(
            "!self.name.startsWith('slipway-')",
            "name must not start with slipway-, which is reserved for the operator",
            lambda v: not v.name.startswith("slipway-"),
            field=".name",
        ),
    )


class VolumeMount(Model):
    """Mount of a volume in the main container of the training pods."""

    name: Annotated[str, Field(max_length=63)]
    """Name of the volume in podTemplate.volumes."""
    mount_path: MountPath
    """Absolute path in the container. /tmp, and paths in /var/lib/slipway, /repository and /dev/shm, are reserved for
    the operator."""
    sub_path: SubPath | None = None
    """Path inside the volume to mount. Default: the root of the volume."""
    read_only: bool | None = None
    """If true, the mount is read-only. Default: false."""

    rules = (
        Rule(
            "!(self.mountPath + '/').matches('^/(var/lib/slipway/|repository/|tmp/+$|dev/shm/)')",
            "mountPath must not be /tmp, or in /var/lib/slipway, /repository or /dev/shm: the operator mounts them",
            lambda m: not _OPERATORS_PATHS.match(m.mount_path + "/"),
            field=".mountPath",
        ),
        Rule(
            f"!(self.mountPath + '/').matches('{_SYSTEM_PATHS}')",
            "mountPath must not cover a folder of the system, such as /usr, /lib, /etc, /proc or /opt/slipway",
            lambda m: not re.match(_SYSTEM_PATHS, m.mount_path + "/"),
            field=".mountPath",
        ),
    )


_FREE_NAMES = (
    Rule(
        "!has(self.labels) || self.labels.all(k, !k.startsWith('slipway.dev/'))",
        "labels must not start with slipway.dev/, which is reserved for the operator",
        lambda t: not any(k.startswith("slipway.dev/") for k in t.labels or {}),
        field=".labels",
    ),
    Rule(
        f"!has(self.labels) || self.labels.all(k, !k.matches('{_TAKEN_NAMES}') || k in {_DESCRIPTIVE})",
        "labels must not be those of Kubernetes (kubernetes.io, k8s.io, job-name, ...) or of sidecar injectors",
        lambda t: not any(re.match(_TAKEN_NAMES, k) and k not in _DESCRIPTIVE for k in t.labels or {}),
        field=".labels",
    ),
    Rule(
        "!has(self.priorityClassName) || !self.priorityClassName.startsWith('system-')",
        "priorityClassName must not start with system-, which is reserved for the cluster",
        lambda t: not (t.priority_class_name or "").startswith("system-"),
        field=".priorityClassName",
    ),
)


class PodSettings(Model):
    """Metadata and scheduling of pods. It has no field that reaches the code in them: no variables, volumes or mounts,
    and few annotations, because webhooks inject code into pods by their annotations."""

    labels: dict[LabelKey, LabelValue] | None = Field(default=None, max_length=32)
    """Labels of the pods. Labels that Kubernetes, Slipway or sidecar injectors use are refused. Default: none."""
    annotations: dict[FreeAnnotation, Annotated[str, Field(max_length=4096)]] | None = Field(
        default=None, max_length=32
    )
    """Annotations of the pods: names without a prefix, and prometheus.io/*, sidecar.istio.io/inject, linkerd.io/inject,
    cluster-autoscaler.kubernetes.io/safe-to-evict and karpenter.sh/do-not-disrupt. Default: none."""
    node_selector: dict[LabelKey, LabelValue] | None = Field(default=None, max_length=16)
    """Labels that a Node must have to run the pods, in addition to those of the pool. Default: none."""
    tolerations: tuple[Toleration, ...] | None = Field(default=None, max_length=16)
    """Taints that the pods tolerate, in addition to those of the pool. Default: none."""
    service_account_name: ObjectName | None = None
    """Service account of the pods; its token is not mounted. Default: that of the ArtifactStore, or the namespace's
    default."""
    image_pull_secrets: tuple[LocalObject, ...] | None = Field(default=None, max_length=8)
    """Secrets for pulling images from private registries. Default: none."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods. Classes that start with system- are refused. Default: that of the cluster."""

    rules: ClassVar[tuple[Rule, ...]] = _FREE_NAMES


class PodTemplate(PodSettings):
    """Metadata, scheduling, environment variables and volumes of pods that run the user's own code."""

    annotations: dict[LabelKey, AnnotationValue] | None = Field(default=None, max_length=32)
    """Annotations of the pods. Annotations that Kubernetes, Slipway or sidecar injectors use are refused. Default:
    none."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=64), UniqueBy("name")] | None = None
    """Environment variables of the training container. Default: none."""
    env_from: tuple[EnvFrom, ...] | None = Field(default=None, max_length=16)
    """Secrets and ConfigMaps whose keys become environment variables. Variables of the operator and of env take
    precedence. Default: none."""
    volumes: Annotated[tuple[Volume, ...], Field(max_length=16), UniqueBy("name")] | None = None
    """Volumes of the pods. The claim and the Secret of an ArtifactStore are refused. Default: none."""
    volume_mounts: Annotated[tuple[VolumeMount, ...], Field(max_length=32), UniqueBy("mountPath")] | None = None
    """Mounts of the volumes in the training container. Default: none."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *_FREE_NAMES,
        Rule(
            f"!has(self.annotations) || self.annotations.all(k, !k.matches('{_TAKEN_NAMES}') || k in {_AUTOSCALERS})",
            "annotations must not be those of Kubernetes, of Slipway or of sidecar injectors",
            lambda t: not any(re.match(_TAKEN_NAMES, k) and k not in _AUTOSCALERS for k in t.annotations or {}),
            field=".annotations",
        ),
        Rule(
            "!has(self.volumeMounts) || self.volumeMounts.all(m, has(self.volumes)"
            " && self.volumes.exists(v, v.name == m.name))",
            "volumeMounts must each name an entry of volumes",
            lambda t: all(m.name in {v.name for v in t.volumes or ()} for m in t.volume_mounts or ()),
            field=".volumeMounts",
        ),
    )

    @property
    def settings(self) -> PodSettings:
        """The settings without those for the user's own code, for pods of Slipway that run beside it."""
        ours = PodSettings.model_fields.keys() - {"annotations"}
        return PodSettings.model_construct(**{name: getattr(self, name) for name in ours})


class StepPods(Model):
    """Resources and scheduling of the pods of Steps. They do not affect results, so a change starts nothing again and
    applies to pods that are created later."""

    resources: Resources | None = None
    """CPU and memory of each pod. Default: half a CPU, and 1 GiB of memory plus three times the known size of its
    inputs. Set it for large models."""
    pool: ObjectName | None = None
    """Name of the GPUPool to run on. Default: none, so the pods run on any Node and get no devices."""
    pod_template: PodSettings = Field(default_factory=PodSettings)
    """Labels, annotations and scheduling of the pods."""
    deadline: Duration | None = None
    """Time limit for one try of a Step, the wait for a Node included. At the limit its pod is ended and the Step fails.
    Default: no limit."""
