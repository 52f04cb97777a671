"""The documents of a file of YAML or JSON, as kubectl splits it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from slipway.manifests.nodes import (
    LONGEST,
    MAX_DEPTH,
    MAX_FAULTS,
    MAX_VALUES,
    TOO_DEEP,
    Budget,
    Document,
    Fault,
    NodeReader,
    Spot,
    TooLarge,
    UnreadableDocument,
    number,
    read_yaml,
)

MAX_DOCUMENTS = 10_000
_MARKER = re.compile(r"^---[ \t\r]*(#.*)?$", re.MULTILINE)


def documents(text: str) -> tuple[list[Document], list[Fault]]:
    """All documents of a file that can be read, and what is wrong with the others."""
    found: list[Document] = []
    faults: list[Fault] = []
    if text.startswith("{", _after_blanks(text, 0)):
        try:
            return _read_json(text), []
        except UnreadableDocument as error:
            return [], [error.fault]
    budget = Budget()
    for above, part in _parts(text):
        reading = NodeReader(above, budget)
        try:
            found += read_yaml(part, reading)
            if len(found) > MAX_DOCUMENTS:
                raise UnreadableDocument(Fault(above + 1, 1, f"more than {MAX_DOCUMENTS:,} documents; split the file"))  # noqa: TRY301
        except TooLarge as error:
            return found, [*faults, *reading.faults, error.fault]
        except UnreadableDocument as error:
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
            raise UnreadableDocument(Fault(error.lineno, error.colno, what)) from error
        except ValueError as error:
            raise UnreadableDocument(Fault(above + 1, 1, str(error))) from error
        reading = NodeReader(above, budget)
        spot = _spots(text[start:stop], reading)
        if repeated:
            twice = (fault for fault in reading.faults if "stands twice" in fault.what)
            what = f"the field {repeated[0]!r:.80} stands twice; keep one"
            raise UnreadableDocument(next(twice, Fault(above + 1, 1, what)))
        found.append(Document(value, spot))
        if len(found) > MAX_DOCUMENTS:
            raise UnreadableDocument(Fault(above + 1, 1, f"more than {MAX_DOCUMENTS:,} documents; split the file"))
        above += text.count("\n", start, stop)
        end = stop
    return found


def _check_nesting(text: str) -> None:
    """Raises UnreadableDocument for what is too deep, or too much, before anything is made of it."""
    depth = 0
    for count, token in enumerate(_NESTING.finditer(text)):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
        if depth > MAX_DEPTH or count > 2 * MAX_VALUES:
            line = text.count("\n", 0, token.start()) + 1
            column = token.start() - text.rfind("\n", 0, token.start())
            what = f"the JSON {TOO_DEEP}" if depth > MAX_DEPTH else f"more than {MAX_VALUES:,} values; split the file"
            raise UnreadableDocument(Fault(line, column, what))


def _spots(text: str, reading: NodeReader) -> Spot:
    """Return the places of the values of a JSON text; for one that is not YAML, its beginning."""
    try:
        (document,) = read_yaml(text.replace("\t", " "), reading)
    except TooLarge:
        raise
    except (UnreadableDocument, ValueError):
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
