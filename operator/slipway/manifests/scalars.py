"""Plain scalars of YAML as Kubernetes reads them: as sigs.k8s.io/yaml reads it, which kubectl and the server use.

That is neither YAML 1.1 as PyYAML has it (`1e-3` is a number, `1:30` none, dates are text) nor 1.2 (`on` is true, and
`010` is eight). Source: goyaml.v2/resolve.go of that library; a test holds this to kubectl.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TRUE = frozenset({"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
FALSE = frozenset({"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})
NULL = frozenset({"", "~", "null", "Null", "NULL"})
INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
OCTAL = re.compile(r"[-+]?0[0-7]+")

_WORDS: Mapping[str, Any] = {**dict.fromkeys(TRUE, True), **dict.fromkeys(FALSE, False), **dict.fromkeys(NULL)}
_DIGITS = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|([1-9][0-9]*|0))")
_BASES = (16, 2, 8, 10)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
LONGEST = 300
"""Digits of a whole number that is kept as one; int() of a very long text is refused by Python itself."""


def plain_value(text: str) -> Any:
    """None, a bool, an int, a float (infinite or NaN for one that JSON does not know) or the text itself."""
    if text in _WORDS:
        return _WORDS[text]
    if INFINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    if text[0] not in "+-.0123456789":
        return text
    digits = text if text[0] == "." else text.replace("_", "")
    if len(digits) <= LONGEST and (whole := _DIGITS.fullmatch(digits)):
        sign, *groups = whole.groups()
        value = next(int(group, base) for group, base in zip(groups, _BASES, strict=True) if group)
        value = -value if sign == "-" else value
        return value if -(2**63) <= value < 2**63 else float(value)
    return number(digits) if _FLOAT.fullmatch(digits) else text


def number(text: str) -> int | float:
    """A decimal number; a whole one that a float holds exactly is an int, as in JSON."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
