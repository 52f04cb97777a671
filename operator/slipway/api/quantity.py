"""Amounts of resources in the grammar of Kubernetes (apimachinery's resource.Quantity)."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Context, Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, WithJsonSchema

QUANTITY_PATTERN = r"^[+]?([0-9]+([.][0-9]*)?|[.][0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$"
"""What the API server takes, but for numbers without a digit (`Gi`), negative zeros and exponents of three digits: it
computes 10 to the power of whatever stands there."""

_QUANTITY = re.compile(QUANTITY_PATTERN)

MAX_LENGTH = 32
MAX_INTEGER = 2**63 - 1
"""Of a JSON number without quotes. The API server caps amounts with a binary suffix here, too."""

_DECIMAL = {"": 0, "n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {f"{unit}i": Decimal(2) ** (10 * power) for power, unit in enumerate("KMGTPE", start=1)}
_MILLI = Decimal("0.001")
_EXACT = Context(prec=400)  # MAX_LENGTH digits and exponents of two digits: nothing is rounded


def _written(value: int | str) -> int | str:
    if not _QUANTITY.fullmatch(str(value)) or len(str(value)) > MAX_LENGTH:
        raise ValueError(f"{value!r} is not a quantity such as 4, 500m or 16Gi")
    if isinstance(value, int) and value > MAX_INTEGER:
        raise ValueError(f"{value} is above {MAX_INTEGER}; write it with a suffix, as in 16Gi")
    return value


Quantity = Annotated[
    int | str,
    AfterValidator(_written),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "pattern": QUANTITY_PATTERN,
            "minimum": 0,
            "maxLength": MAX_LENGTH,
        }
    ),
]
"""A Kubernetes resource quantity, never negative: `4`, `500m`, `16Gi`, `1e3`."""


def amount_of(quantity: Any) -> Decimal | None:
    """The number that the API server keeps for a quantity: `500m` is 0.5, `1Gi` 2**30; None if it is no quantity.

    As in a pod's requests and limits, it is rounded up to thousandths.
    """
    if isinstance(quantity, bool) or not isinstance(quantity, int | str) or len(str(quantity)) > MAX_LENGTH:
        return None
    match = _QUANTITY.fullmatch(str(quantity))
    if not match:
        return None
    number, suffix = Decimal(match[1]), match[3] or ""
    if suffix in _BINARY:
        amount = min(_EXACT.multiply(number, _BINARY[suffix]), Decimal(MAX_INTEGER))
    else:
        amount = _EXACT.scaleb(number, _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:]))
    return amount.quantize(_MILLI, ROUND_CEILING, _EXACT)
