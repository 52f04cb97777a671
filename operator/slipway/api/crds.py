"""The CustomResourceDefinitions of Slipway, made from the models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slipway.api.artifactstore import ArtifactStore
from slipway.api.base import Model, Rule
from slipway.api.compressionplugin import CompressionPlugin
from slipway.api.kinds import (
    ARTIFACT_STORE,
    COMPRESSION_PLUGIN,
    GPU_POOL,
    MODEL_DEPLOYMENT,
    STEP,
    TRAINING_JOB,
    Kind,
    Object,
)
from slipway.api.modeldeployment import ModelDeployment
from slipway.api.scheduling import GPUPool
from slipway.api.schema import Schema, structural, without_defaults
from slipway.api.status import not_yet_observed
from slipway.api.step import Step
from slipway.api.trainingjob import TrainingJob

NAME_RULE = Rule(
    "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "metadata.name must start with a letter, have only lower-case letters, digits and -, and at most 40 characters:"
    " Services and host names of pods contain it",
    field=".metadata.name",
)
STEP_NAME_RULE = Rule(
    "self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "metadata.name must start with a letter, have only lower-case letters, digits and -, and at most 63 characters:"
    " it is the value of a label of pods",
    field=".metadata.name",
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `kubectl get`. wide: True to show it only with `-o wide`."""

    name: str
    path: str
    description: str
    type: str = "string"
    wide: bool = False

    def manifest(self) -> Object:
        column: Object = {
            "name": self.name,
            "type": self.type,
            "description": self.description,
            "jsonPath": self.path,
        }
        return {**column, "priority": 1} if self.wide else column


@dataclass(frozen=True, slots=True)
class Scale:
    """Paths of the scale subresource, which `kubectl scale` and HorizontalPodAutoscalers use."""

    replicas: str
    ready: str
    selector: str

    def manifest(self) -> Object:
        return {
            "specReplicasPath": self.replicas,
            "statusReplicasPath": self.ready,
            "labelSelectorPath": self.selector,
        }


@dataclass(frozen=True, slots=True)
class Resource:
    """Everything in a CRD except the schema."""

    kind: Kind
    model: type[Model]
    short_name: str
    columns: tuple[Column, ...]
    categories: tuple[str, ...] = ("slipway",)
    scale: Scale | None = None
    name_rule: Rule = NAME_RULE

    @property
    def crd_name(self) -> str:
        return f"{self.kind.plural}.{self.kind.group}"


def _ready(field: str) -> str:
    return f'.status.conditions[?(@.type=="Ready")].{field}'


_READY = Column("Ready", _ready("status"), "True if the resource is ready.")
_REASON = Column("Reason", _ready("reason"), "Reason of the condition Ready.")
_MESSAGE = Column("Message", _ready("message"), "Message of the condition Ready.", wide=True)
_AGE = Column("Age", ".metadata.creationTimestamp", "Time since the creation of the resource.", "date")

RESOURCES = (
    Resource(
        TRAINING_JOB,
        TrainingJob,
        "tj",
        categories=("slipway", "all"),
        columns=(
            Column("Phase", ".status.phase", "Summary of the state."),
            Column("Workers", ".status.workers", "Running pods of all pods of the attempt."),
            Column("Restarts", ".status.restarts", "Number of attempts that counted as failures.", "integer"),
            _REASON,
            _AGE,
            Column("Pool", ".spec.pools[0]", "GPUPool that the pods run on.", wide=True),
            Column("Accuracy", ".status.metrics.accuracy", "Accuracy that the training reported.", "number", wide=True),
            Column("Artifact", ".status.artifact.digest", "Digest of the trained model.", wide=True),
            _MESSAGE,
        ),
    ),
    Resource(
        MODEL_DEPLOYMENT,
        ModelDeployment,
        "md",
        categories=("slipway", "all"),
        columns=(
            Column("Phase", ".status.phase", "Summary of the state."),
            Column("Replicas", ".spec.serving.replicas", "Desired number of Triton pods.", "integer"),
            Column("Ready", ".status.readyReplicas", "Number of ready pods of the serving revision.", "integer"),
            Column("Accuracy", ".status.accuracy", "Accuracy of the serving revision on the evaluation data."),
            Column("Bytes", ".status.sizes.compressedBytes", "Bytes of the compressed model.", "integer"),
            _REASON,
            _AGE,
            Column(
                "Float-Bytes",
                ".status.sizes.floatBytes",
                "Bytes of the uncompressed model.",
                "integer",
                wide=True,
            ),
            Column("Serving", ".status.serving", "Revision that receives the traffic.", wide=True),
            Column("URL", ".status.url", "HTTP URL of the model inside the cluster.", wide=True),
            _MESSAGE,
        ),
        scale=Scale(".spec.serving.replicas", ".status.readyReplicas", ".status.selector"),
    ),
    Resource(
        ARTIFACT_STORE,
        ArtifactStore,
        "astore",
        columns=(
            _READY,
            Column("Claim", ".spec.persistentVolumeClaim.claimName", "PersistentVolumeClaim that holds the files."),
            Column("Bucket", ".spec.s3.bucket", "Bucket that holds the files."),
            _REASON,
            _AGE,
            _MESSAGE,
        ),
    ),
    Resource(
        STEP,
        Step,
        "",
        categories=("slipway", "all"),
        name_rule=STEP_NAME_RULE,
        columns=(
            Column("Role", ".spec.role", "Role of the Step for its owner."),
            Column("Owner", ".metadata.ownerReferences[0].name", "TrainingJob or ModelDeployment that needs the Step."),
            Column("Phase", ".status.phase", "Summary of the state."),
            Column("Tries", ".status.run.tries", "Number of the newest try.", "integer"),
            _REASON,
            _AGE,
            Column("Job", ".status.run.job", "Job of the newest try.", wide=True),
            Column("Artifact", ".status.run.artifact.digest", "Digest of the artifact that the Step made.", wide=True),
            _MESSAGE,
        ),
    ),
    Resource(
        GPU_POOL,
        GPUPool,
        "gpool",
        columns=(
            Column("Resource", ".spec.resource.name", "Extended resource of the devices."),
            Column("Per-Pod", ".spec.resource.perPod", "Number of devices that each pod requests.", "integer"),
            _AGE,
        ),
    ),
    Resource(
        COMPRESSION_PLUGIN,
        CompressionPlugin,
        "cplug",
        columns=(
            Column("Version", ".spec.version", "Version of the plugin."),
            Column("Consumes", ".spec.consumes", "Format of the model that the plugin takes."),
            Column("Produces", ".spec.produces", "Format of the model that the plugin returns."),
            _AGE,
            Column("Conversion", ".spec.conversion", "True if the plugin only converts models.", "boolean", wide=True),
            Column("Image", ".spec.image", "Image that contains the plugin.", wide=True),
            Column("Description", ".spec.description", "Description of the plugin.", wide=True),
        ),
    ),
)


def root_schema(resource: Resource) -> Schema:
    """Return the schema of the whole object, as a CRD's openAPIV3Schema."""
    schema = structural(resource.model)
    fields: Schema = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        # Named here because a rule's fieldPath must exist in the schema.
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
        **schema["properties"],
    }
    if "status" in fields:
        fields["status"] = {**without_defaults(fields["status"]), "default": not_yet_observed()}
    rules = [resource.name_rule.schema(), *schema.get("x-kubernetes-validations", ())]
    return {**schema, "x-kubernetes-validations": rules, "properties": fields}


def crd(resource: Resource) -> Object:
    """Return the CustomResourceDefinition of one kind (apiextensions.k8s.io/v1)."""
    kind, schema = resource.kind, root_schema(resource)
    version: Object = {
        "name": kind.version,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [column.manifest() for column in resource.columns],
        "schema": {"openAPIV3Schema": schema},
    }
    if subresources := _subresources(resource, schema):
        version["subresources"] = subresources
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": resource.crd_name},
        "spec": {
            "group": kind.group,
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                **({"shortNames": [resource.short_name]} if resource.short_name else {}),
                "categories": list(resource.categories),
            },
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [version],
        },
    }


def _subresources(resource: Resource, schema: Schema) -> Object:
    found: dict[str, Any] = {}
    if "status" in schema["properties"]:
        found["status"] = {}
    if resource.scale:
        found["scale"] = resource.scale.manifest()
    return found
