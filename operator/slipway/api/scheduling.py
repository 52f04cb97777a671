"""Scheduling: the resources that pods request, the Nodes that they run on, and GPUPool, which names such Nodes."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from slipway.api.base import Model, Rule

# A DNS subdomain and a slash, if any, then a name (the API server's own check of a qualified name).
LABEL_KEY = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
LabelKey = Annotated[str, Field(pattern=LABEL_KEY, max_length=317)]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)]


QUANTITY_PATTERN = r"^[+]?([0-9]+([.][0-9]*)?|[.][0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$"
"""Quantities that the API server accepts, except numbers without a digit (`Gi`), negative zeros and exponents of three
digits: the server computes 10 to the power of any exponent."""

_QUANTITY = re.compile(QUANTITY_PATTERN)

MAX_QUANTITY_LENGTH = 32
MAX_QUANTITY = 2**63 - 1
"""Largest JSON number without quotes. The API server also caps amounts with a binary suffix at it."""

_DECIMAL = {"": 0, "n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {f"{unit}i": Decimal(2) ** (10 * power) for power, unit in enumerate("KMGTPE", start=1)}
_MILLI = Decimal("0.001")
_EXACT = Context(prec=400)  # MAX_QUANTITY_LENGTH digits and exponents of two digits: nothing is rounded


def _checked_quantity(value: int | str) -> int | str:
    if not _QUANTITY.fullmatch(str(value)) or len(str(value)) > MAX_QUANTITY_LENGTH:
        raise ValueError(f"{value!r} is not a quantity such as 4, 500m or 16Gi")
    if isinstance(value, int) and value > MAX_QUANTITY:
        raise ValueError(f"{value} is above {MAX_QUANTITY}; write it with a suffix, as in 16Gi")
    return value


Quantity = Annotated[
    int | str,
    AfterValidator(_checked_quantity),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "pattern": QUANTITY_PATTERN,
            "minimum": 0,
            "maxLength": MAX_QUANTITY_LENGTH,
        }
    ),
]
"""A Kubernetes resource quantity, never negative: `4`, `500m`, `16Gi`, `1e3`."""


def amount_of(quantity: Any) -> Decimal | None:
    """Return the number that the API server stores for a quantity: `500m` is 0.5, `1Gi` 2**30; None if it is not one.

    The number is rounded up to thousandths, as in a pod's requests and limits.
    """
    if isinstance(quantity, bool) or not isinstance(quantity, int | str) or len(str(quantity)) > MAX_QUANTITY_LENGTH:
        return None
    match = _QUANTITY.fullmatch(str(quantity))
    if not match:
        return None
    number, suffix = Decimal(match[1]), match[3] or ""
    if suffix in _BINARY:
        amount = min(_EXACT.multiply(number, _BINARY[suffix]), Decimal(MAX_QUANTITY))
    else:
        amount = _EXACT.scaleb(number, _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:]))
    return amount.quantize(_MILLI, ROUND_CEILING, _EXACT)


class Resources(Model):
    """CPU and memory of each pod."""

    cpu: Quantity = "1"
    """CPU request, such as `4` or `500m`. There is no limit, so the pod may use idle CPUs. Default: 1."""
    memory: Quantity = "2Gi"
    """Memory request and limit, such as `16Gi`. Default: 2Gi. Raise it if pods end as OOMKilled."""


class Toleration(Model):
    """Taint that the pods tolerate, as in a PodSpec."""

    key: LabelKey | None = None
    """Key of the taint. If it is not set, operator must be Exists, and every key matches."""
    operator: Literal["Exists", "Equal"] | None = None
    """Exists matches every value; Equal compares value. Default: Equal."""
    value: LabelValue | None = None
    """Value of the taint, compared if operator is Equal. Default: empty."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint. Default: every effect matches."""
    toleration_seconds: int | None = Field(default=None, ge=0, le=2_147_483_647)
    """Seconds for which a NoExecute taint is tolerated before the pod is evicted. Default: no limit."""

    rules = (
        Rule(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "operator must be Exists if key is not set",
            lambda t: t.key is not None or t.operator == "Exists",
            field=".operator",
        ),
        Rule(
            "!has(self.value) || !has(self.operator) || self.operator != 'Exists'",
            "value must not be set if operator is Exists",
            lambda t: t.value is None or t.operator != "Exists",
            field=".value",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds requires effect: NoExecute",
            lambda t: t.toleration_seconds is None or t.effect == "NoExecute",
            field=".tolerationSeconds",
        ),
    )


class DeviceResource(Model):
    """Extended resource by which a pod requests devices."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$", max_length=253)] = "nvidia.com/gpu"
    """Name of the extended resource, as the device plugin of the Nodes advertises it. Default: nvidia.com/gpu."""
    per_pod: int = Field(default=1, ge=1, le=64)
    """Number of devices that each pod requests. Default: 1. It is also the default of spec.processesPerNode of a
    TrainingJob."""


class GPUPoolSpec(Model):
    """Nodes of the pool, and the devices that a pod requests on them."""

    node_selector: dict[LabelKey, LabelValue] = Field(min_length=1, max_length=16)
    """Labels that a Node must have to belong to the pool."""
    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=16)
    """Taints of the Nodes that the pods tolerate. Default: none."""
    resource: DeviceResource | None = None
    """Devices that each pod requests. Default: none, for a pool of Nodes without devices."""


class GPUPool(Model):
    """Names a group of similar Nodes that TrainingJobs and the pods of Steps can run on."""

    spec: GPUPoolSpec
    """Nodes of the pool, and the devices that a pod requests on them."""
