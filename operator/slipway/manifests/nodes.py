"""YAML as values with their places in the file, read as Kubernetes reads it.

Plain scalars are read as sigs.k8s.io/yaml reads them, which kubectl and the API server use. That is neither YAML 1.1 as
PyYAML has it (`1e-3` is a number, `1:30` none, dates are text) nor 1.2 (`on` is true, and `010` is eight).
Source: goyaml.v2/resolve.go of that library; a test compares the result with that of kubectl.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, NamedTuple

import yaml

MAX_DEPTH, MAX_FAULTS = 100, 100
MAX_VALUES, MAX_CHARACTERS = 200_000, 20_000_000
"""Limits of one file with its aliases expanded: a few lines of aliases can expand to more than any memory holds."""
TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels; use fewer levels"
_PLAIN = "plain"
_LONG = "tag:yaml.org,2002:"

Step = str | int


class SyntaxProblem(NamedTuple):
    """An error of YAML or JSON at a place; line and column count from 1."""

    line: int
    column: int
    what: str


@dataclass(slots=True)
class Spot:
    """The place of a value: its first character, or that of its key.

    text: a plain scalar as it is written. below: spots of the values inside.
    """

    line: int
    column: int
    value_line: int = 0
    value_column: int = 0
    text: str | None = None
    below: dict[Step, Spot] = field(default_factory=dict)

    def at(self, path: Sequence[Step]) -> Spot:
        """Return the spot of the path, or of its deepest part that exists."""
        spot = self
        for step in path:
            if step not in spot.below:
                return spot
            spot = spot.below[step]
        return spot


class Document(NamedTuple):
    """One document of a file: its value (None for an empty one), and the places of its fields."""

    value: Any
    spot: Spot


class UnreadableDocument(Exception):
    def __init__(self, fault: SyntaxProblem) -> None:
        super().__init__(fault.what)
        self.fault = fault


class TooLarge(UnreadableDocument):
    """The file exceeds a limit: the rest is not read."""


@dataclass(slots=True)
class Budget:
    """The remaining limits of a file, with aliases expanded."""

    values: int = MAX_VALUES
    characters: int = MAX_CHARACTERS

    def spend(self, node: Any, reading: NodeReader) -> None:
        """Count a node. Raises TooLarge beyond the limits."""
        self.values -= 1
        if self.values < 0:
            raise TooLarge(
                reading.fault(node, f"more than {MAX_VALUES:,} values with aliases expanded; use fewer aliases")
            )
        if isinstance(node, yaml.ScalarNode):
            self.characters -= len(node.value)
            if self.characters < 0:
                what = f"more than {MAX_CHARACTERS:,} characters with aliases expanded; use fewer aliases"
                raise TooLarge(reading.fault(node, what))


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Composes nodes only, and distinguishes plain scalars from quoted and tagged ones."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0]:
            return _PLAIN
        return super().resolve(kind, value, implicit)


def read_yaml(text: str, reading: NodeReader) -> list[Document]:
    try:
        _check_events(text, reading)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise UnreadableDocument(_fault_of(error, text, reading.above)) from error
    except RecursionError as error:
        raise UnreadableDocument(
            SyntaxProblem(reading.above + 1, 1, "the YAML is nested too deep; use fewer levels")
        ) from error
    if node is None:
        return []
    try:
        return [Document(*reading.read(node))]
    except RecursionError as error:
        raise UnreadableDocument(reading.fault(node, "the YAML is nested too deep; use fewer levels")) from error


def _check_events(text: str, reading: NodeReader) -> None:
    """Raise UnreadableDocument if it is nested too deep: libyaml recurses in C, without a limit of its own."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise UnreadableDocument(reading.fault(event, f"the YAML {TOO_DEEP}"))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if count > 2 * MAX_VALUES:
            raise TooLarge(reading.fault(event, f"more than {MAX_VALUES:,} values; split the file"))


class NodeReader:
    """Turns nodes into values. faults: all errors of single values."""

    def __init__(self, above: int, budget: Budget) -> None:
        self.above = above
        self.faults: list[SyntaxProblem] = []
        self._budget = budget
        self._open: set[int] = set()

    def fault(self, node: Any, what: str) -> SyntaxProblem:
        return SyntaxProblem(self.above + node.start_mark.line + 1, node.start_mark.column + 1, what)

    def read(self, node: Any, key: Any = None) -> tuple[Any, Spot]:
        """Return the value of a node, and its spot. key: the node of its key."""
        self._budget.spend(node, self)
        if len(self.faults) > MAX_FAULTS:
            raise TooLarge(self.fault(node, f"more than {MAX_FAULTS} errors before this line; fix these first"))
        if id(node) in self._open:
            raise UnreadableDocument(
                self.fault(node, "the alias refers to a value that contains it; write the value instead")
            )
        shown, own = (key or node).start_mark, node.start_mark
        spot = Spot(self.above + shown.line + 1, shown.column + 1, self.above + own.line + 1, own.column + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, spot), spot
        if node.tag not in (f"{_LONG}map", f"{_LONG}seq"):
            self.faults.append(self.fault(node, f"the tag {_shown(node.tag)} is not supported; remove it"))
        self._open.add(id(node))
        value = self._mapping(node, spot) if isinstance(node, yaml.MappingNode) else self._sequence(node, spot)
        self._open.discard(id(node))
        return value, spot

    def _sequence(self, node: Any, spot: Spot) -> list[Any]:
        items = []
        for index, child in enumerate(node.value):
            value, spot.below[index] = self.read(child)
            items.append(value)
        return items

    def _mapping(self, node: Any, spot: Spot) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: list[tuple[dict[str, Any], Spot]] = []
        first: dict[str, Any] = {}
        for key, child in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag == _PLAIN and key.value == "<<":
                merged += self._merged(child)
                continue
            name = self._name(key)
            if name is None:
                continue
            if name in first:
                line = self.above + first[name].start_mark.line + 1
                self.faults.append(self.fault(key, f"duplicate field {name!r}, first in line {line}; remove one"))
                continue
            first[name] = key
            found[name], spot.below[name] = self.read(child, key)
        for other, at in merged:  # own fields take precedence over merged ones, earlier merges over later ones
            for name, value in other.items():
                if name not in found:
                    found[name], spot.below[name] = value, at.at([name])
        return found

    def _merged(self, node: Any) -> list[tuple[dict[str, Any], Spot]]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found = []
        for one in nodes:
            if not isinstance(one, yaml.MappingNode):
                self.faults.append(self.fault(one, "<< needs a mapping or a list of mappings"))
                continue
            found.append(self.read(one))
        return found

    def _name(self, key: Any) -> str | None:
        value = self._scalar(key, None) if isinstance(key, yaml.ScalarNode) else key
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str | int | float):
            return str(value)
        self.faults.append(self.fault(key, "field names must be texts; write it in quotes"))
        return None

    def _scalar(self, node: Any, spot: Spot | None) -> Any:
        text, tag = str(node.value), node.tag.removeprefix(_LONG)
        if tag == "str":
            return text
        if node.tag != _PLAIN and tag not in ("int", "float", "bool", "null", "timestamp"):
            self.faults.append(self.fault(node, f"the tag {_shown(node.tag)} is not supported; remove it"))
        value = plain_value(text)
        if spot is not None:
            spot.text = text
        if isinstance(value, float) and not isfinite(value):
            self.faults.append(self.fault(node, f"{text[:40]} is not a number of JSON; use a finite number"))
            return None
        return value


def is_octal(spot: Spot) -> bool:
    """Return whether the scalar looks like a decimal number, and YAML 1.1 reads it as an octal one."""
    text = spot.text
    return text is not None and len(text) <= MAX_DIGITS and bool(OCTAL.fullmatch(text)) and int(text, 8) != int(text)


def _fault_of(error: yaml.YAMLError, text: str, above: int) -> SyntaxProblem:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position)
        what = f"the character {_character(error)} is not allowed in YAML; remove it"
        return SyntaxProblem(above + line + 1, 1, what)
    mark, problem = getattr(error, "problem_mark", None), str(getattr(error, "problem", None) or error)
    if mark is None:
        return SyntaxProblem(above + 1, 1, problem)
    lines = text.split("\n")
    written = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in written[: len(written) - len(written.lstrip())] or written[mark.column : mark.column + 1] == "\t":
        return SyntaxProblem(
            above + mark.line + 1, written.index("\t") + 1, "YAML does not allow tabs as indentation; use spaces"
        )
    context = getattr(error, "context", None)
    text = f"{problem} {context}" if context else problem
    return SyntaxProblem(above + mark.line + 1, mark.column + 1, f"invalid YAML: {text}; {_cure(problem)}")


def _character(error: Any) -> str:
    """Return an invisible character by its number; PyYAML gives a text or a number."""
    found = error.character
    return f"U+{ord(found) if isinstance(found, str) else found:04X}"


def _cure(problem: str) -> str:
    if "mapping values are not allowed" in problem:
        return "put the value in quotes if it holds `: `, or fix the indentation"
    if "cannot start any token" in problem:
        return "put the text in quotes"
    if "undefined alias" in problem:
        return "an alias (*name) needs its anchor (&name) before it, in the same document"
    return "fix the indentation, quotes or brackets before it"


def _shown(tag: str) -> str:
    return tag.replace(_LONG, "!!")


# --- Plain scalars -------------------------------------------------------------------------------------------------

TRUE = frozenset({"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
FALSE = frozenset({"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})
NULL = frozenset({"", "~", "null", "Null", "NULL"})
INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
OCTAL = re.compile(r"[-+]?0[0-7]+")

_CONSTANTS: Mapping[str, Any] = {**dict.fromkeys(TRUE, True), **dict.fromkeys(FALSE, False), **dict.fromkeys(NULL)}
_DIGITS = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|([1-9][0-9]*|0))")
_BASES = (16, 2, 8, 10)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
MAX_DIGITS = 300
"""Limit of digits of a whole number; longer ones become floats, as int() of Python refuses very long texts."""


def plain_value(text: str) -> Any:
    """Return None, a bool, an int, a float (infinite and NaN included) or the text itself."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if INFINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    if text[0] not in "+-.0123456789":
        return text
    digits = text if text[0] == "." else text.replace("_", "")
    if len(digits) <= MAX_DIGITS and (whole := _DIGITS.fullmatch(digits)):
        sign, *groups = whole.groups()
        value = next(int(group, base) for group, base in zip(groups, _BASES, strict=True) if group)
        value = -value if sign == "-" else value
        return value if -(2**63) <= value < 2**63 else float(value)
    return parse_number(digits) if _FLOAT.fullmatch(digits) else text


def parse_number(text: str) -> int | float:
    """Return a decimal number; a whole one that a float holds exactly is an int, as in JSON."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
