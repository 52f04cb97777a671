"""What the schema cannot refuse of a TrainingJob's podTemplate: the ways to what an ArtifactStore holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from slipway.api.errors import SpecError
from slipway.api.kinds import Object
from slipway.api.podtemplate import PodTemplate
from slipway.plan.parse import value_at

_FIELD = "spec.podTemplate"


def refuse_stores(template: PodTemplate, stores: Iterable[Object]) -> None:
    """Raises SpecError (StoreNotShared) for a volume of a store's claim, read-only too, and for a store's Secret.

    Held-out data lies in a store, and a pod sees of one what it was given. stores: the namespace's ArtifactStores.
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
            problem = f"{kind} {named} is that of ArtifactStore {owner}"
            cure = "remove it: what spec.data names is mounted for the script, and nothing else of a store"
            raise SpecError(f"{_FIELD}.{field}", problem, cure, reason="StoreNotShared")


def _named(template: PodTemplate) -> Iterator[tuple[str, str, str]]:
    """The claims and Secrets that it reaches: field, kind and name."""
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
