"""Validation of a TrainingJob beyond its schema: volumes of stores, and entry points that are too large."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from slipway.api.entrypoint import Entrypoint
from slipway.api.errors import SpecError
from slipway.api.kinds import Object
from slipway.api.podtemplate import PodTemplate
from slipway.api.trainingjob import TrainingJobSpec
from slipway.plan.parse import value_at
from slipway.plan.taskinput import ANNOTATIONS_LIMIT, MAX_INPUT_BYTES, RESERVED_BYTES, json_bytes

_TEMPLATE = "spec.podTemplate"


def refuse_stores(template: PodTemplate, stores: Iterable[Object]) -> None:
    """Raise SpecError (StoreNotShared) for a volume of a store's claim, also a read-only one, or a store's Secret.

    A pod may mount only its own inputs of a store, which may have held-out data. stores: those of the namespace.
    """
    claims: dict[str, str] = {}
    secrets: dict[str, str] = {}
    for store in stores:
        name = store["metadata"]["name"]
        if isinstance(claim := value_at(store, "spec", "persistentVolumeClaim", "claimName"), str):
            claims[claim] = name
        if isinstance(secret := value_at(store, "spec", "s3", "secretRef", "name"), str):
            secrets[secret] = name
    for field, kind, named in _named(template):
        owner = (claims if kind == "PersistentVolumeClaim" else secrets).get(named)
        if owner is not None:
            problem = f"{kind} {named} belongs to ArtifactStore {owner}"
            cure = "remove it, and name the data in spec.data, which Slipway mounts for the script"
            raise SpecError(f"{_TEMPLATE}.{field}", problem, cure, reason="StoreNotShared")


def _named(template: PodTemplate) -> Iterator[tuple[str, str, str]]:
    """Yield the claims and Secrets that a template uses: field, kind and name."""
    for number, volume in enumerate(template.volumes or ()):
        if volume.persistent_volume_claim is not None:
            yield f"volumes[{number}]", "PersistentVolumeClaim", volume.persistent_volume_claim.claim_name
        if volume.secret is not None:
            yield f"volumes[{number}]", "Secret", volume.secret.secret_name
    for number, variable in enumerate(template.env or ()):
        if variable.value_from is not None and variable.value_from.secret_key_ref is not None:
            yield f"env[{number}]", "Secret", variable.value_from.secret_key_ref.name
    for number, source in enumerate(template.env_from or ()):
        if source.secret_ref is not None:
            yield f"envFrom[{number}]", "Secret", source.secret_ref.name


_ENTRYPOINT = "spec.entrypoint"
_MOST_TOGETHER = ANNOTATIONS_LIMIT - RESERVED_BYTES


def refuse_oversized(spec: TrainingJobSpec) -> None:
    """Raise SpecError for an entry point that is too large for a pod, alone or with podTemplate.annotations."""
    size = json_bytes(spec.entrypoint.to_wire())
    if size > MAX_INPUT_BYTES:
        raise SpecError(
            _largest_field(spec.entrypoint),
            f"the entry point is {size} bytes of JSON; the maximum is {MAX_INPUT_BYTES}",
            "put large values into a file of a volume that podTemplate mounts, or of a data set in spec.data",
        )
    annotations = spec.pod_template.annotations or {}
    beside = sum(len(name.encode()) + len(text.encode()) for name, text in annotations.items())
    if size + beside > _MOST_TOGETHER:
        raise SpecError(
            "spec.podTemplate.annotations",
            f"are {beside} bytes with an entry point of {size} bytes; the maximum of both is {_MOST_TOGETHER}",
            "shorten them, or put large values of the entry point into a file of a volume that podTemplate mounts",
        )


def _largest_field(entrypoint: Entrypoint) -> str:
    fields: dict[str, object] = {}
    if (script := entrypoint.script) is not None:
        fields["script.args"] = script.args
    if (module := entrypoint.module) is not None:
        fields["module.args"] = module.args
    if (recipe := entrypoint.recipe) is not None:
        fields |= {"recipe.model.args": dict(recipe.model.args), "recipe.optimizer.args": dict(recipe.optimizer.args)}
    return f"{_ENTRYPOINT}.{max(fields, key=lambda name: json_bytes(fields[name]))}"
