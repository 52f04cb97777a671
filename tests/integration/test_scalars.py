"""kubectl and the reader of manifests take the same words of YAML for the same values."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from slipway.manifests.documents import documents

KUBECTL = Path(sys.executable).with_name("kubectl")
WORDS = (
    "y", "Y", "yes", "Yes", "YES", "yEs", "on", "On", "ON", "oN", "true", "True", "TRUE", "tRUE",
    "n", "N", "no", "off", "Off", "OFF", "false", "False", "FALSE", "~", "null", "Null", "NULL", "nULL", "''", '"1"',
    "0", "1", "-1", "+1", "1_000", "010", "-010", "08", "0o17", "0O17", "0x1F", "0X1f", "-0x1F", "0b101", "-0b101",
    "1.5", "1.", ".5", "-.5", "1e3", "1E3", "1e-3", "1e+3", "1.5e3", ".5e1", "1_0.5", "1e", "e1", "1e1000x",
    "9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551615", "1:30", "1:30:00",
    "2001-01-01", "2001-12-14t21:59:43Z", "12:30:45", "1.2.3", "10Gi", "500m", "1,000", "+", "-x", "_1", "1_", "0_7",
    "=", "<<x", "x: y".replace(": ", ":"), "'on'", '"on"', "!!str on", "!!str 1", "!!int '7'", "!!float 1", "00", "0.0",
)  # fmt: skip


def kubectl(text: str) -> Any:
    """The object as kubectl reads it, without any server."""
    command = [str(KUBECTL), "annotate", "--local", "-o", "json", "-f", "-", "a=b"]
    answer = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(answer.stdout, parse_int=integer)["spec"]


def integer(digits: str) -> int | float:
    """Go has none above 64 bits: it writes a float's digits."""
    value = int(digits)
    return value if abs(value) < 2**63 else float(value)


def both(spec: str) -> tuple[Any, Any]:
    text = f"apiVersion: slipway.dev/v1alpha1\nkind: TrainingJob\nmetadata: {{name: a}}\nspec:\n{spec}"
    (document,), faults = documents(text)
    assert faults == []
    return document.value["spec"], kubectl(text)


def test_every_word_is_the_same_value() -> None:
    ours, theirs = both("".join(f"- {word}\n" for word in WORDS))
    assert [
        (word, one)
        for word, one, other in zip(WORDS, ours, theirs, strict=True)
        if (one, type(one)) != (other, type(other))
    ] == []


def test_names_of_fields_merges_and_folded_texts_are_the_same() -> None:
    ours, theirs = both(
        "  on: 1\n  2: two\n  1.5: x\n  a: &a {x: 1, y: 2}\n  b: {<<: *a, y: 3}\n  c: {<<: [{x: 8}, *a]}\n"
        "  d: |\n    one\n    two\n  e: >-\n    one\n    two\n  f: [*a, *a]\n"
    )
    assert ours == theirs
