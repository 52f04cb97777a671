"""Text of YAML or JSON as values, with the place of each: what an error in a field points to."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, NamedTuple

import yaml

from slipway.manifests.scalars import LONGEST, OCTAL, number, plain_value

MAX_DEPTH, MAX_DOCUMENTS, MAX_FAULTS = 100, 10_000, 100
MAX_VALUES, MAX_CHARACTERS = 200_000, 20_000_000
"""In one file, aliases followed: a few lines of them can stand for more than any memory holds."""
_TOO_DEEP = f"is nested deeper than {MAX_DEPTH} levels; write it flatter"
_PLAIN = "plain"
_LONG = "tag:yaml.org,2002:"
_MARKER = re.compile(r"^---[ \t\r]*(#.*)?$", re.MULTILINE)

Step = str | int


class Fault(NamedTuple):
    """line and column count from 1."""

    line: int
    column: int
    what: str


@dataclass(slots=True)
class Spot:
    """The place of a value: its own first character, or that of its key if it has one.

    text: a plain scalar as it is written. below: the spots of what is in it.
    """

    line: int
    column: int
    value_line: int = 0
    value_column: int = 0
    text: str | None = None
    below: dict[Step, Spot] = field(default_factory=dict)

    def at(self, path: Sequence[Step]) -> Spot:
        """The spot of that path, as far down as there is one."""
        spot = self
        for step in path:
            if step not in spot.below:
                return spot
            spot = spot.below[step]
        return spot


class Document(NamedTuple):
    """One document of a file: its value (None for an empty one), and the places of all of it."""

    value: Any
    spot: Spot


def documents(text: str) -> tuple[list[Document], list[Fault]]:
    """All documents of a file that can be read, and what is wrong with the others."""
    found: list[Document] = []
    faults: list[Fault] = []
    if text.startswith("{", _after_blanks(text, 0)):
        try:
            return _read_json(text), []
        except _Unreadable as error:
            return [], [error.fault]
    budget = Budget()
    for above, part in _parts(text):
        reading = _Reading(above, budget)
        try:
            found += _read_yaml(part, reading)
            if len(found) > MAX_DOCUMENTS:
                raise _Unreadable(Fault(above + 1, 1, f"more than {MAX_DOCUMENTS:,} documents; split the file"))  # noqa: TRY301
        except _TooMuch as error:
            return found, [*faults, *reading.faults, error.fault]
        except _Unreadable as error:
            faults.append(error.fault)
        faults += reading.faults
        if len(faults) > MAX_FAULTS:
            break
    return found, faults


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """The text between lines of `---`, as kubectl splits it, each with the number of lines above."""
    start = above = 0
    for marker in _MARKER.finditer(text):
        part = text[start : marker.start()]
        if not part.isspace():
            yield above, part
        above += part.count("\n")
        start = marker.end()
    yield above, text[start:]


class _Unreadable(Exception):
    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.what)
        self.fault = fault


class _TooMuch(_Unreadable):
    """The file holds more than is read: nothing of what follows is looked at."""


@dataclass(slots=True)
class Budget:
    """The rest of a file that may be read, aliases followed."""

    values: int = MAX_VALUES
    characters: int = MAX_CHARACTERS

    def spend(self, node: Any, reading: _Reading) -> None:
        """Raises _TooMuch if nothing is left."""
        self.values -= 1
        if self.values < 0:
            raise _TooMuch(reading.fault(node, f"more than {MAX_VALUES:,} values, aliases followed; write them out"))
        if isinstance(node, yaml.ScalarNode):
            self.characters -= len(node.value)
            if self.characters < 0:
                what = f"more than {MAX_CHARACTERS:,} characters, aliases followed; write them out"
                raise _TooMuch(reading.fault(node, what))


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Composes nodes alone, and distinguishes plain scalars from quoted and tagged ones."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode and implicit[0]:
            return _PLAIN
        return super().resolve(kind, value, implicit)


def _read_yaml(text: str, reading: _Reading) -> list[Document]:
    try:
        _check_events(text, reading)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise _Unreadable(_fault_of(error, text, reading.above)) from error
    except RecursionError as error:
        raise _Unreadable(Fault(reading.above + 1, 1, "the YAML is nested too deep")) from error
    if node is None:
        return []
    try:
        return [Document(*reading.read(node))]
    except RecursionError as error:
        raise _Unreadable(reading.fault(node, "the YAML is nested too deep")) from error


def _check_events(text: str, reading: _Reading) -> None:
    """libyaml composes nodes by recursion in C, which no bound of Python's stops: what is too deep is found before."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _Unreadable(reading.fault(event, f"the YAML {_TOO_DEEP}"))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if count > 2 * MAX_VALUES:
            raise _TooMuch(reading.fault(event, f"more than {MAX_VALUES:,} values; split the file"))


class _Reading:
    """Turns nodes into values. faults: what is wrong with single values, all of it."""

    def __init__(self, above: int, budget: Budget) -> None:
        self.above = above
        self.faults: list[Fault] = []
        self._budget = budget
        self._open: set[int] = set()

    def fault(self, node: Any, what: str) -> Fault:
        return Fault(self.above + node.start_mark.line + 1, node.start_mark.column + 1, what)

    def read(self, node: Any, key: Any = None) -> tuple[Any, Spot]:
        """key: the node of the key that it stands under."""
        self._budget.spend(node, self)
        if len(self.faults) > MAX_FAULTS:
            raise _TooMuch(self.fault(node, f"more than {MAX_FAULTS} things are wrong before it; correct these first"))
        if id(node) in self._open:
            raise _Unreadable(self.fault(node, "an alias stands inside of what it stands for; write it out"))
        shown, own = (key or node).start_mark, node.start_mark
        spot = Spot(self.above + shown.line + 1, shown.column + 1, self.above + own.line + 1, own.column + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, spot), spot
        if node.tag not in (f"{_LONG}map", f"{_LONG}seq"):
            self.faults.append(self.fault(node, f"the tag {_shown(node.tag)} has no meaning here; remove it"))
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
                self.faults.append(self.fault(key, f"the field {name!r} stands twice, first in line {line}; keep one"))
                continue
            first[name] = key
            found[name], spot.below[name] = self.read(child, key)
        for other, at in merged:  # what is written here goes before what is merged, earlier before later
            for name, value in other.items():
                if name not in found:
                    found[name], spot.below[name] = value, at.at([name])
        return found

    def _merged(self, node: Any) -> list[tuple[dict[str, Any], Spot]]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found = []
        for one in nodes:
            if not isinstance(one, yaml.MappingNode):
                self.faults.append(self.fault(one, "<< takes a mapping, or a list of them"))
                continue
            found.append(self.read(one))
        return found

    def _name(self, key: Any) -> str | None:
        value = self._scalar(key, None) if isinstance(key, yaml.ScalarNode) else key
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str | int | float):
            return str(value)
        self.faults.append(self.fault(key, "the name of a field must be a text; write it in quotes"))
        return None

    def _scalar(self, node: Any, spot: Spot | None) -> Any:
        text, tag = str(node.value), node.tag.removeprefix(_LONG)
        if tag == "str":
            return text
        if node.tag != _PLAIN and tag not in ("int", "float", "bool", "null", "timestamp"):
            self.faults.append(self.fault(node, f"the tag {_shown(node.tag)} has no meaning here; remove it"))
        value = plain_value(text)
        if spot is not None:
            spot.text = text
        if isinstance(value, float) and not isfinite(value):
            self.faults.append(self.fault(node, f"{text[:40]} is no number that JSON knows; write a finite one"))
            return None
        return value


def octal(spot: Spot) -> bool:
    """Return whether the scalar looks like a decimal number, and YAML 1.1 reads it as an octal one."""
    text = spot.text
    return text is not None and len(text) <= LONGEST and bool(OCTAL.fullmatch(text)) and int(text, 8) != int(text)


def _fault_of(error: yaml.YAMLError, text: str, above: int) -> Fault:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position)
        what = f"the character {_character(error)} is not allowed in YAML; remove it"
        return Fault(above + line + 1, 1, what)
    mark, problem = getattr(error, "problem_mark", None), str(getattr(error, "problem", None) or error)
    if mark is None:
        return Fault(above + 1, 1, problem)
    lines = text.split("\n")
    written = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in written[: len(written) - len(written.lstrip())] or written[mark.column : mark.column + 1] == "\t":
        return Fault(above + mark.line + 1, written.index("\t") + 1, "YAML takes no tabs to indent with; write spaces")
    context = getattr(error, "context", None)
    text = f"{problem} {context}" if context else problem
    return Fault(above + mark.line + 1, mark.column + 1, f"this is not YAML: {text}; {_cure(problem)}")


def _character(error: Any) -> str:
    """Return an invisible character by its number; PyYAML has it as a text or as a number."""
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


# --- JSON --------------------------------------------------------------------------------------------------------

_BLANKS = re.compile(r"[ \t\r\n]*")
_NESTING = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def _after_blanks(text: str, start: int) -> int:
    found = _BLANKS.match(text, start)
    return found.end() if found else start


def _read_json(text: str) -> list[Document]:
    """One value after another, as kubectl takes them. Places are found by reading the same text as YAML."""
    repeated: list[str] = []

    def unrepeated(pairs: Sequence[tuple[str, Any]]) -> Mapping[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs) and not repeated:
            names = Counter(name for name, _ in pairs)
            repeated.extend(name for name, count in names.items() if count > 1)
        return found

    _check_nesting(text)
    decoder = json.JSONDecoder(
        object_pairs_hook=unrepeated, parse_float=_finite, parse_int=_integer, parse_constant=_refused
    )
    found: list[Document] = []
    budget, end, above = Budget(), 0, 0
    while (start := _after_blanks(text, end)) < len(text):
        above += text.count("\n", end, start)
        try:
            value, stop = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            what = f"this is no JSON: {error.msg[:1].lower()}{error.msg[1:]}"
            raise _Unreadable(Fault(error.lineno, error.colno, what)) from error
        except ValueError as error:
            raise _Unreadable(Fault(above + 1, 1, str(error))) from error
        reading = _Reading(above, budget)
        spot = _spots(text[start:stop], reading)
        if repeated:
            twice = (fault for fault in reading.faults if "stands twice" in fault.what)
            what = f"the field {repeated[0]!r:.80} stands twice; keep one"
            raise _Unreadable(next(twice, Fault(above + 1, 1, what)))
        found.append(Document(value, spot))
        if len(found) > MAX_DOCUMENTS:
            raise _Unreadable(Fault(above + 1, 1, f"more than {MAX_DOCUMENTS:,} documents; split the file"))
        above += text.count("\n", start, stop)
        end = stop
    return found


def _check_nesting(text: str) -> None:
    """Raises _Unreadable for what is too deep, or too much, before anything is made of it."""
    depth = 0
    for count, token in enumerate(_NESTING.finditer(text)):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
        if depth > MAX_DEPTH or count > 2 * MAX_VALUES:
            line = text.count("\n", 0, token.start()) + 1
            column = token.start() - text.rfind("\n", 0, token.start())
            what = f"the JSON {_TOO_DEEP}" if depth > MAX_DEPTH else f"more than {MAX_VALUES:,} values; split the file"
            raise _Unreadable(Fault(line, column, what))


def _spots(text: str, reading: _Reading) -> Spot:
    """Return the places of the values of a JSON text; for one that is not YAML, its beginning."""
    try:
        (document,) = _read_yaml(text.replace("\t", " "), reading)
    except _TooMuch:
        raise
    except (_Unreadable, ValueError):
        return Spot(reading.above + 1, 1, reading.above + 1, 1)
    return document.spot


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= LONGEST else _finite(text)


def _finite(text: str) -> int | float:
    value = number(text)
    if not isfinite(value):
        raise ValueError(f"{text[:40]} is no number that JSON knows; write a finite one")
    return value


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number; write a finite one")
