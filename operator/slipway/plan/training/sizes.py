"""What of a TrainingJob is too large for its pods: Kubernetes bounds the annotations of an object."""

from __future__ import annotations

from slipway.api.entrypoint import Entrypoint
from slipway.api.errors import SpecError
from slipway.api.trainingjob import TrainingJobSpec
from slipway.plan.taskinput import ANNOTATIONS_LIMIT, MAX_INPUT_BYTES, RESERVED_BYTES, json_bytes

_FIELD = "spec.entrypoint"
_MOST_TOGETHER = ANNOTATIONS_LIMIT - RESERVED_BYTES


def refuse_oversized(spec: TrainingJobSpec) -> None:
    """Raises SpecError for an entry point that no pod could be given, alone or beside podTemplate.annotations."""
    size = json_bytes(spec.entrypoint.to_wire())
    if size > MAX_INPUT_BYTES:
        raise SpecError(
            _largest_field(spec.entrypoint),
            f"the entry point is {size} bytes of JSON, and {MAX_INPUT_BYTES} is the most",
            "put large values into a file of a volume that podTemplate mounts, or of a data set in spec.data",
        )
    annotations = spec.pod_template.annotations or {}
    beside = sum(len(name.encode()) + len(text.encode()) for name, text in annotations.items())
    if size + beside > _MOST_TOGETHER:
        raise SpecError(
            "spec.podTemplate.annotations",
            f"are {beside} bytes beside an entry point of {size}, and {_MOST_TOGETHER} is the most of both",
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
    return f"{_FIELD}.{max(fields, key=lambda name: json_bytes(fields[name]))}"
